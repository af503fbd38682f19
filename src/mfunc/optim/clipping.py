"""Gradients or updates that are too long, made shorter; numbers that are too large, cut."""

from __future__ import annotations

from typing import Any

import mindspore as ms
from mindspore import Tensor, ops
from mindspore.ops import operations as P

from mfunc import tree
from mfunc.optim.core import Optimizer, narrow, sum_of_squares, wide
from mfunc.tree import Tree


def clip_by_global_norm(limit: float) -> Optimizer:
    """Shorten all gradients together so that their joint norm is at most `limit`.

    Args:
      limit: the largest Euclidean norm of all leaves as one vector.

    Raises:
      ValueError: the limit is not positive.

    Laws:
      Below the limit nothing changes, to the bit.

    Example:
      >>> grads = {"w": Tensor([3.0]), "b": Tensor([4.0])}
      >>> clipped, _ = clip_by_global_norm(1.0).update(grads, {}, grads)
      >>> [round(float(leaf), 4) for leaf in tree.leaves(clipped)]
      [0.8, 0.6]

    Source:
      Pascanu et al. 2013, algorithm 1; optax 0.2 `clip_by_global_norm`.
    """
    if not limit > 0:
        raise ValueError(f"clip_by_global_norm: limit={limit}; it must be positive")

    def init(params):  # type: ignore[no-untyped-def]
        return {}

    def update(grads, state, params):  # type: ignore[no-untyped-def]
        norm = global_norm(grads)
        factor = ops.where(norm > limit, limit / norm, ops.ones_like(norm))

        def shorten(grad):  # type: ignore[no-untyped-def]
            return narrow(wide(grad) * factor, grad)

        return tree.map(shorten, grads), state

    return Optimizer(init, update)


def clip_by_value(limit: float) -> Optimizer:
    """Bring every number into the range from `-limit` to `limit`; what is not a number stays so.

    Args:
      limit: the largest size of a number.

    Raises:
      ValueError: the limit is not positive.

    Laws:
      What is within the limit does not change, to the bit.

    Example:
      >>> grads = {"w": Tensor([3.0, -0.5, -2.0])}
      >>> clip_by_value(1.0).update(grads, {}, grads)[0]["w"].asnumpy()
      array([ 1. , -0.5, -1. ], dtype=float32)

    Source:
      optax 0.2 `clip`.
    """
    if not limit > 0:
        raise ValueError(f"clip_by_value: limit={limit}; it must be positive")

    def init(params):  # type: ignore[no-untyped-def]
        return {}

    def update(grads, state, params):  # type: ignore[no-untyped-def]
        def cut(grad):  # type: ignore[no-untyped-def]
            # Not `clamp`, which makes a bound of what is not a number.
            low, high = Tensor(-limit, ms.float32), Tensor(limit, ms.float32)
            x = wide(grad)
            return narrow(ops.where(x > limit, high, ops.where(x < -limit, low, x)), grad)

        return tree.map(cut, grads), state

    return Optimizer(init, update)


def global_norm(grads: Tree) -> Any:
    """Return the Euclidean norm of all leaves as one vector, in float32.

    Example:
      >>> float(global_norm({"w": Tensor([3.0]), "b": Tensor([4.0])}))
      5.0
    """
    squares = tree.leaves(tree.map(sum_of_squares, grads))
    return ops.sqrt(P.AddN()(squares)) if len(squares) > 0 else Tensor(0.0, ms.float32)
