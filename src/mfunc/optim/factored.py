"""Optimizers that hold less than two numbers a parameter: Adafactor."""

from __future__ import annotations

import math

import attrs
import mindspore as ms
import numpy as np
from mindspore import Tensor, ops
from mindspore.ops import operations as P

from mfunc import tree
from mfunc.optim.averaging import ema
from mfunc.optim.choosing import Mask, Rule, decided
from mfunc.optim.core import Optimizer, chain, check, column, schedule_of, sum_of_squares, wide
from mfunc.optim.decay import add_decayed_weights
from mfunc.schedule import Schedule


def adafactor(
    learning_rate: float | Schedule,
    *,
    factored: bool = True,
    min_dim_size_to_factor: int = 128,
    decay_rate: float = 0.8,
    clipping_threshold: float | None = 1.0,
    multiply_by_parameter_scale: bool = True,
    momentum: float | None = None,
    weight_decay_rate: float = 0.0,
    mask: Mask | None = None,
    eps: float = 1e-30,
) -> Optimizer:
    """Adafactor: of the mean of squared gradients of a matrix only the means of rows and columns.

    Args:
      learning_rate: a number or a schedule.
      factored: hold means of rows and columns; else of every number.
      min_dim_size_to_factor: the second largest axis of a leaf that is factored has this size.
      decay_rate: at step t = 1, 2, ... the mean of squares keeps the share `1 - t ** -decay_rate`.
      clipping_threshold: the largest root mean square of a leaf's update at rate 1; `None`: none.
      multiply_by_parameter_scale: multiply by the root mean square of the leaf, not below 1e-3.
      momentum: decay of the mean of updates, a step; without it there is none.
      weight_decay_rate: the share of a parameter that a step takes away, whatever the rate.
      mask: which parameters decay, patterns of paths or a function of a path; all by default.
      eps: added to squared gradients.

    Raises:
      ValueError: a number is out of range, or a pattern matches no parameter (from `init`).

    Example:
      >>> params = {"w": Tensor(np.ones((256, 128), np.float32))}
      >>> state = adafactor(1e-2).init(params)
      >>> state[0]["row"][0].shape, state[0]["column"][0].shape
      ((1, 128), (256, 1))

    Source:
      Shazeer and Stern 2018, algorithms 4 and 5; optax 0.2 `adafactor`.
    """
    _check(clipping_threshold, decay_rate, weight_decay_rate, eps)
    rate_at = schedule_of("adafactor", learning_rate)
    rule = _Rule(rate_at, decay_rate, eps, clipping_threshold, multiply_by_parameter_scale)
    smallest = min_dim_size_to_factor if factored else math.inf
    return chain(
        _by_rows_and_columns(rule, smallest),
        *([] if momentum is None else [ema(momentum, debias=False)]),
        *([add_decayed_weights(weight_decay_rate, mask=mask)] if weight_decay_rate else []),
        Optimizer(_no_state, _negate),
    )


@attrs.frozen
class _Rule:
    """The settings of `adafactor` that a leaf needs."""

    rate_at: Schedule
    decay_rate: float
    eps: float
    clipping_threshold: float | None
    multiply_by_parameter_scale: bool


def _by_rows_and_columns(rule: _Rule, smallest: float) -> Optimizer:
    """Adafactor without momentum and decay, up the gradient.

    A leaf that is not factored has the mean of all its squares in `row`, and 0 in `column`.
    """
    longest, second = decided(_axis(-1, smallest)), decided(_axis(-2, smallest))

    def init(params):  # type: ignore[no-untyped-def]
        leaves = tree.leaves(params)
        return {
            "column": tree.map(_first_column, leaves, second(params)),
            "count": Tensor(0, ms.int32),
            "row": tree.map(_first_row, leaves, longest(params)),
        }

    def update(grads, state, params):  # type: ignore[no-untyped-def]
        rate, count = rule.rate_at(state["count"]), state["count"] + 1
        kept = 1.0 - ops.pow(ops.cast(count, ms.float32), -rule.decay_rate)

        def step(grad, row, col, param, long, other):  # type: ignore[no-untyped-def]
            grad = wide(grad)
            square = grad * grad + rule.eps
            moved = (
                _factored(kept, grad, square, row, col, long, other)
                if long >= 0
                else _whole(kept, grad, square, row, col)
            )
            return (rate * _sized(rule, moved[0], wide(param)), moved[1], moved[2])

        leaves = tree.leaves(grads)
        rows, columns = state["row"], state["column"]
        axes = longest(params), second(params)
        moved = tree.map(step, leaves, rows, columns, tree.leaves(params), axes[0], axes[1])
        return tree.refill(params, column(0, leaves, moved)), {
            "column": column(2, leaves, moved),
            "count": count,
            "row": column(1, leaves, moved),
        }

    return Optimizer(init, update)


def _axis(rank: int, smallest: float) -> Rule:
    """Return what says which axis of a leaf is the longest (-1) or second (-2); -1 where whole."""

    def rule(paths: list[str], shapes: list[tuple[int, ...]]) -> list[int]:
        found = []
        for shape in shapes:
            order = np.argsort(shape, kind="stable")
            whole = len(shape) < 2 or shape[order[-2]] < smallest
            found.append(-1 if whole else int(order[rank]))
        return found

    return rule


def _first_row(param, axis):  # type: ignore[no-untyped-def]
    """Return zeros for the means over an axis, which stays as one of length 1."""
    first = ops.zeros(param.shape, ms.float32)
    return P.ReduceSum(True)(first, axis) if axis >= 0 else first


def _first_column(param, axis):  # type: ignore[no-untyped-def]
    return _first_row(param, axis) if axis >= 0 else Tensor(0.0, ms.float32)


def _factored(kept, grad, square, row, col, long, other):  # type: ignore[no-untyped-def]
    """Return the gradient over the root of rows times columns, and the means of both."""
    row = kept * row + (1.0 - kept) * P.ReduceMean(True)(square, long)
    col = kept * col + (1.0 - kept) * P.ReduceMean(True)(square, other)
    by_row = 1.0 / ops.sqrt(row / P.ReduceMean(True)(row, other))
    return (grad * by_row * (1.0 / ops.sqrt(col)), row, col)


def _whole(kept, grad, square, mean, unused):  # type: ignore[no-untyped-def]
    mean = kept * mean + (1.0 - kept) * square
    return (grad * (1.0 / ops.sqrt(mean)), mean, unused)


def _sized(rule, update, param):  # type: ignore[no-untyped-def]
    """Make an update as large as its parameter says."""
    if rule.clipping_threshold is not None:
        update = update / ops.maximum(_rms(update) / rule.clipping_threshold, _number(1.0))
    if rule.multiply_by_parameter_scale:
        update = update * ops.maximum(_rms(param), _number(1e-3))
    return update


def _number(value):  # type: ignore[no-untyped-def]
    return Tensor(value, ms.float32)


def _rms(x):  # type: ignore[no-untyped-def]
    return ops.sqrt(sum_of_squares(x) / x.size)


def _no_state(params):  # type: ignore[no-untyped-def]
    return {}


def _negate(updates, state, params):  # type: ignore[no-untyped-def]
    return tree.map(ops.neg, updates), state


def _check(
    clipping_threshold: float | None, decay_rate: float, weight_decay_rate: float, eps: float
) -> None:
    check("adafactor", decay_rate=decay_rate, weight_decay_rate=weight_decay_rate, eps=eps)
    if clipping_threshold is not None and not clipping_threshold > 0.0:
        raise ValueError(
            f"adafactor: clipping_threshold={clipping_threshold}; it must be positive, or None"
        )
