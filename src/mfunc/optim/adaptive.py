"""Optimizers that scale each number by what its gradients were: AdamW."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import attrs
import mindspore as ms
from mindspore import Tensor, ops
from mindspore.ops import operations as P

from mfunc import staging, tree
from mfunc.donation import THERE
from mfunc.optim.core import Optimizer, column, narrow, schedule_of, wide, zeros
from mfunc.schedule import Schedule
from mfunc.staging import Seen, Stage, listed


def adamw(
    learning_rate: float | Schedule,
    *,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.01,
    bias_correction: bool = True,
) -> Optimizer:
    """Adam with decoupled weight decay.

    Args:
      learning_rate: a number or a schedule.
      b1: decay of the mean of gradients, a step.
      b2: decay of the mean of their squares, a step.
      eps: added to the root of the mean of squares.
      weight_decay: the share of a parameter that a step of rate 1 takes away.
      bias_correction: divide the means by what is missing in the first steps; without it this is
        MindFormers' `FP32StateAdamWeightDecay`.

    Raises:
      ValueError: a number is out of range.

    Example:
      >>> params = {"w": Tensor([1.0, 1.0])}
      >>> optimizer = adamw(0.1, weight_decay=0.0)
      >>> updates, _ = optimizer.update({"w": Tensor([5.0, -0.01])}, optimizer.init(params), params)
      >>> updates["w"].asnumpy().round(4)
      array([-0.1,  0.1], dtype=float32)

    Source:
      Loshchilov and Hutter 2019, algorithm 2; optax 0.2 `adamw`.
    """
    _check_adam(b1, b2, eps, weight_decay)
    adam = _Adam(schedule_of(learning_rate), b1, b2, eps, weight_decay, bias_correction)

    # Not partials: with them the compiler took one argument for another.
    def update(grads, state, params):  # type: ignore[no-untyped-def]
        return _update(adam, grads, state, params)

    def overwrite(grads, state, params, home):  # type: ignore[no-untyped-def]
        return _overwrite(adam, grads, state, params, home)

    return Optimizer(_init, update, overwrite)


@attrs.frozen
class _Adam:
    """The settings of `adamw`."""

    rate_at: Schedule
    b1: float
    b2: float
    eps: float
    weight_decay: float
    bias_correction: bool


def _init(params):  # type: ignore[no-untyped-def]
    return {"count": Tensor(0, ms.int32), "mean": zeros(params), "square": zeros(params)}


def _update(adam, grads, state, params):  # type: ignore[no-untyped-def]
    rate = adam.rate_at(state["count"])
    first, second = _seen(adam, state["count"] + 1)

    def step(grad, mean, square, param):  # type: ignore[no-untyped-def]
        return _move(adam, rate, first, second, grad, mean, square, param)

    leaves = tree.leaves(params)
    moved = tree.map(step, tree.leaves(grads), state["mean"], state["square"], leaves)
    return tree.refill(params, column(0, leaves, moved)), _after(state, leaves, moved)


def _seen(adam, count):  # type: ignore[no-untyped-def]
    """Return what share of the gradients the two means have seen, 1 after many steps."""
    if not adam.bias_correction:
        return 1.0, 1.0
    return 1.0 - _power(adam.b1, count), 1.0 - _power(adam.b2, count)


def _power(base, count):  # type: ignore[no-untyped-def]
    return ops.pow(Tensor(base, ms.float32), ops.cast(count, ms.float32))


def _move(adam, rate, first, second, grad, mean, square, param):  # type: ignore[no-untyped-def]
    """Return the update of a leaf, and its new means."""
    grad = wide(grad)
    mean = adam.b1 * mean + (1.0 - adam.b1) * grad
    square = adam.b2 * square + (1.0 - adam.b2) * (grad * grad)
    direction = (mean / first) / (ops.sqrt(square / second) + adam.eps)
    return (-rate * (direction + adam.weight_decay * wide(param)), mean, square)


def _after(state, leaves, moved):  # type: ignore[no-untyped-def]
    return {
        "count": state["count"] + 1,
        "mean": column(1, leaves, moved),
        "square": column(2, leaves, moved),
    }


# --- in place ---

# From so many numbers on, two kernels are faster than the one that does all: 30 leaves of a million
# took 43 ms by two and 87 by one, 300 of 16 numbers 24 and 8.
LARGE = 1 << 14


def _overwrite(adam, grads, state, params, home):  # type: ignore[no-untyped-def]
    rate = adam.rate_at(state["count"])
    first, second = _seen(adam, state["count"] + 1)
    root = second**0.5
    # The kernels know nothing of a correction of `eps`, the small one of none at all.
    small = (rate * root / first, adam.eps * root, adam.weight_decay * first / root)
    large = (1.0 - first, 1.0 - second, rate, adam.eps * root, 1.0 - rate * adam.weight_decay)
    there = home["optimizer"]
    given = (tree.leaves(home["params"]), there["mean"], there["square"], tree.leaves(grads))
    slow = (rate, first, second, tree.leaves(params), state["mean"], state["square"])
    new = _kernels(*given)(adam, given, small, large, slow)
    after = {"count": state["count"] + 1, "mean": new[1], "square": new[2]}
    return tree.refill(params, new[0]), after


def _write_kernels(seen: list[Seen]) -> Callable[..., Any]:
    """Write `overwritten(...)`: a line or two for each leaf; the new parameters and both means."""
    lines, new = [], []
    kinds, shapes = staging.dtypes(seen[0]), staging.shapes(seen[0])
    for i, (kind, shape) in enumerate(zip(kinds, shapes, strict=True)):
        param, mean, square, grad = (f"given[{j}][{i}]" for j in range(4))
        if kind != ms.float32:
            old = f"slow[3][{i}], slow[4][{i}], slow[5][{i}]"
            lines.append(f"    new{i} = moved(adam, slow[0], slow[1], slow[2], {grad}, {old})")
            new.append([f"new{i}[{j}]" for j in range(3)])
            continue
        which = "large" if math.prod(shape) >= LARGE else "small"
        lines.append(f"    {which}_one(adam, {which}, {param}, {mean}, {square}, wide({grad}))")
        new.append(["there"] * 3)
    columns = [f"({listed([*column, ''])})" for column in zip(*new, strict=True)]
    text = "\n".join([
        "def overwritten(adam, given, small, large, slow):", *lines,
        f"    return ({listed(columns or ['()'] * 3)})",
    ])  # fmt: skip
    return staging.write(
        "overwritten",
        text,
        moved=_moved,
        wide=wide,
        small_one=_small,
        large_one=_large,
        there=THERE,
    )


_kernels = Stage(_write_kernels)


def _moved(adam, rate, first, second, grad, param, mean, square):  # type: ignore[no-untyped-def]
    update, mean, square = _move(adam, rate, first, second, grad, mean, square, param)
    return narrow(wide(param) + update, param), mean, square


def _small(adam, said, param, mean, square, grad):  # type: ignore[no-untyped-def]
    rate, eps, decay = said
    P.AdamWeightDecay()(param, mean, square, rate, adam.b1, adam.b2, eps, decay, grad)


def _large(adam, said, param, mean, square, grad):  # type: ignore[no-untyped-def]
    first, second, rate, eps, left = said
    if adam.weight_decay:
        param.mul_(left)
    P.Adam()(param, mean, square, first, second, rate, adam.b1, adam.b2, eps, grad)


def _check_adam(b1: float, b2: float, eps: float, weight_decay: float) -> None:
    for name, value in {"b1": b1, "b2": b2}.items():
        if not 0.0 <= value < 1.0:
            raise ValueError(f"adamw: {name}={value}; it must be from 0 to below 1")
    for name, value in {"eps": eps, "weight_decay": weight_decay}.items():
        if value < 0.0:
            raise ValueError(f"adamw: {name}={value}; it must not be negative")
