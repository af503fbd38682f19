"""Optimizers that make the update of a matrix orthogonal: Muon."""

from __future__ import annotations

import math
from collections.abc import Callable

import attrs
import mindspore as ms
from mindspore import Tensor, ops

from mfunc import tree
from mfunc.optim.adaptive import adamw
from mfunc.optim.choosing import Mask, decays, decided, taken
from mfunc.optim.core import Optimizer, check, column, schedule_of, sum_of_squares, wide, zeros
from mfunc.optim.grouping import grouped
from mfunc.optim.moments import ahead, seen
from mfunc.schedule import Schedule
from mfunc.tree import Tree

# Newton and Schulz's polynomial c0 x + c1 x^3 + c2 x^5, steep at 0, of singular values.
COEFFICIENTS = (3.4445, -4.7750, 2.0315)


def muon(
    learning_rate: float | Schedule,
    *,
    beta: float = 0.95,
    weight_decay: float = 0.0,
    matrices: Mask | None = None,
    mask: Mask | None = None,
    nesterov: bool = True,
    steps: int = 5,
    eps: float = 1e-8,
    adam_learning_rate: float | Schedule | None = None,
    adam_b1: float = 0.9,
    adam_b2: float = 0.999,
    adam_weight_decay: float = 0.0,
) -> Optimizer:
    """Muon: the mean of gradients of a matrix, made orthogonal; AdamW for all other leaves.

    Args:
      learning_rate: a number or a schedule.
      beta: decay of the mean of gradients, a step.
      weight_decay: of matrices, the share that a step of rate 1 takes away.
      matrices: which leaves go by Muon, patterns of paths or a function of a path; by default all
        with two axes. Embeddings and the output layer are better left out:
        `all_but("embed*", "lm_head*", "*norm*")`.
      mask: which of the matrices decay, in the same words; all by default.
      nesterov: look one step ahead.
      steps: of the iteration that makes a matrix orthogonal, singular values about 0.7 to 1.2.
      eps: added to the norm of a matrix, and AdamW's.
      adam_learning_rate: of the other leaves; by default the same.
      adam_b1: of the other leaves, see `adamw`.
      adam_b2: the same.
      adam_weight_decay: the same.

    Raises:
      ValueError: a number is out of range; from `init`: a leaf of `matrices` has not two axes, or a
        pattern matches no parameter.

    Example:
      >>> params = {"w": Tensor([[1.0, 0.0], [0.0, 1.0]])}
      >>> optimizer = muon(0.1)
      >>> grads = {"w": Tensor([[3.0, 0.0], [0.0, 3.0]])}
      >>> updates, _ = optimizer.update(grads, optimizer.init(params), params)
      >>> updates["w"].asnumpy().round(2)
      array([[-0.11, -0.  ],
             [-0.  , -0.11]], dtype=float32)

    Source:
      Jordan et al. 2024; optax 0.2 `contrib.muon` (matrices are [in, out], updates scaled by
      `sqrt(max(1, out / in))`).
    """
    check("muon", below=1.0, beta=beta)
    check("muon", weight_decay=weight_decay, eps=eps)
    if steps < 1:
        raise ValueError(f"muon: steps={steps}; it must be at least 1")

    def label(paths: list[str], shapes: list[tuple[int, ...]]) -> list[int]:
        return _matrices(matrices, paths, shapes)

    others = adamw(
        learning_rate if adam_learning_rate is None else adam_learning_rate,
        b1=adam_b1,
        b2=adam_b2,
        eps=eps,
        weight_decay=adam_weight_decay,
        nesterov=True,
    )

    rule = _Rule(schedule_of("muon", learning_rate), beta, nesterov, steps, eps)
    by_muon = _for_matrices(rule, decays("muon", weight_decay, mask))
    return grouped("muon", decided(label), (others, by_muon))


@attrs.frozen
class _Rule:
    """The settings of `muon` for a matrix."""

    rate_at: Schedule
    beta: float
    nesterov: bool
    steps: int
    eps: float


def _for_matrices(rule: _Rule, decays_of: Callable[[Tree], tuple[float, ...]]) -> Optimizer:
    """Return Muon for trees in which every leaf is a matrix."""
    lengths_of = decided(_lengths)

    def init(params):  # type: ignore[no-untyped-def]
        decays_of(params)
        return {"count": Tensor(0, ms.int32), "mean": zeros(params)}

    def update(grads, state, params):  # type: ignore[no-untyped-def]
        rate, count = rule.rate_at(state["count"]), state["count"] + 1
        share = seen(rule.beta, count), seen(rule.beta, count + 1)

        def step(grad, mean, param, decay, length):  # type: ignore[no-untyped-def]
            mean = rule.beta * mean + (1.0 - rule.beta) * wide(grad)
            forward = (
                ahead(rule.beta, share, mean, wide(grad)) if rule.nesterov else mean / share[0]
            )
            direction = length * orthogonal(forward, rule.steps, rule.eps)
            direction = direction + decay * wide(param) if decay else direction
            return (-rate * direction, mean)

        leaves, said = tree.leaves(params), (decays_of(params), lengths_of(params))
        moved = tree.map(step, tree.leaves(grads), state["mean"], leaves, said[0], said[1])
        after = {"count": count, "mean": column(1, leaves, moved)}
        return tree.refill(params, column(0, leaves, moved)), after

    return Optimizer(init, update)


def _matrices(mask: Mask | None, paths: list[str], shapes: list[tuple[int, ...]]) -> list[int]:
    """Return 1 for each leaf that goes by Muon, else 0."""
    if mask is None:
        return [int(len(shape) == 2) for shape in shapes]
    chosen = taken("muon", mask, paths)
    for path, shape, yes in zip(paths, shapes, chosen, strict=True):
        if yes and len(shape) != 2:
            raise ValueError(
                f"muon: {path} has shape {shape}; only a leaf of two axes is a matrix, leave it "
                "out of `matrices`"
            )
    return list(map(int, chosen))


def _lengths(paths: list[str], shapes: list[tuple[int, ...]]) -> list[float]:
    """Return what the update of each matrix [in, out] is multiplied by."""
    return [math.sqrt(max(1.0, shape[1] / shape[0])) for shape in shapes]


def orthogonal(matrix: Tensor, steps: int = 5, eps: float = 1e-8) -> Tensor:
    """Bring the singular values of a matrix near 1.

    Args:
      matrix: float32 [m, n].
      steps: of the iteration; after 5 they are about 0.7 to 1.2.
      eps: added to its norm.

    Example:
      >>> orthogonal(Tensor([[4.0, 0.0], [0.0, -2.0]])).asnumpy().round(2)
      array([[ 0.69,  0.  ],
             [ 0.  , -1.11]], dtype=float32)

    Source:
      Jordan et al. 2024, `zeropower_via_newtonschulz5`.
    """
    tall = matrix.shape[0] > matrix.shape[1]
    x = ops.transpose(matrix, (1, 0)) if tall else matrix
    x = x / (ops.sqrt(sum_of_squares(x)) + eps)
    c0, c1, c2 = COEFFICIENTS
    for _ in range(steps):
        square = ops.matmul(x, ops.transpose(x, (1, 0)))
        x = c0 * x + ops.matmul(c1 * square + c2 * ops.matmul(square, square), x)
    return ops.transpose(x, (1, 0)) if tall else x
