"""One update from several batches."""

from __future__ import annotations

import mindspore as ms
from mindspore import Tensor, ops

from mfunc import tree
from mfunc.optim.core import (
    Optimizer,
    advance,
    chosen,
    packed,
    refuse_scale,
    unpacked,
    wide,
    withheld,
    zeros,
)


def accumulate(k: int, inner: Optimizer) -> Optimizer:
    """Update once in `k` batches, by the gradient of all of them as one.

    Each gradient is that of a mean over tokens, so it counts as much as its batch has trained
    tokens: give that as `weight` to `step` (`train_step` does). Without a weight all count alike.
    In between, parameters and the inner state stay as they are, to the bit. The sum takes one more
    float32 copy of the parameters.

    Args:
      k: batches for one update.
      inner: the optimizer; its schedule counts updates, not batches.

    Raises:
      ValueError: `k` is below 1, or a loss scale is inside: `dynamic_loss_scale(accumulate(k, o))`
        leaves a batch that overflows out of the sum.

    Laws:
      `k` batches, of any sizes, move parameters as one batch of all their rows.

    Example:
      >>> from mfunc.optim import sgd, step
      >>> params, optimizer = {"w": Tensor([0.0])}, accumulate(2, sgd(1.0))
      >>> state = optimizer.init(params)
      >>> for grad, tokens in ((4.0, 30), (8.0, 10)):
      ...     grads = {"w": Tensor([grad])}
      ...     params, state = step(optimizer, grads, state, params, weight=tokens)
      ...     print(params["w"].asnumpy())
      [0.]
      [-5.]

    Source:
      optax 0.2 `MultiSteps`, which weighs all batches alike.
    """
    if k < 1:
        raise ValueError(f"accumulate: k={k}; it must be at least 1")
    refuse_scale("accumulate", inner)

    def init(params):  # type: ignore[no-untyped-def]
        return {
            "count": Tensor(0, ms.int32),
            "inner": packed(inner.init(params)),
            "sum": zeros(params),
            "weight": Tensor(0.0, ms.float32),
        }

    def update(grads, state, params, weight=None):  # type: ignore[no-untyped-def]
        last = state["count"] == k - 1
        total, weighed = _joined(state, grads, 1.0 if weight is None else weight)
        held = unpacked(inner, state["inner"], params)
        updates, after = advance(inner, _mean(params, total, weighed), held, params, weighed)

        def empty(total):  # type: ignore[no-untyped-def]
            return ops.where(last, Tensor(0.0, ms.float32), total)

        return withheld(last, updates), {
            "count": ops.where(last, Tensor(0, ms.int32), state["count"] + 1),
            "inner": chosen(last, packed(after), state["inner"]),
            "sum": tree.map(empty, total),
            "weight": empty(weighed),
        }

    return Optimizer(init, update, weighted=True)


def _joined(state, grads, weight):  # type: ignore[no-untyped-def]
    """Return the sums of gradients and of weights, with this batch."""

    def add(grad, total):  # type: ignore[no-untyped-def]
        return total + weight * wide(grad)

    return tree.map(add, tree.leaves(grads), state["sum"]), state["weight"] + weight


def _mean(params, total, weighed):  # type: ignore[no-untyped-def]
    # With no token at all the sum is 0, and so is its mean.
    divisor = ops.where(weighed > 0.0, weighed, Tensor(1.0, ms.float32))

    def divide(total):  # type: ignore[no-untyped-def]
        return total / divisor

    return tree.refill(params, tree.map(divide, total))
