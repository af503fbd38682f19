"""Parameters pulled towards zero."""

from __future__ import annotations

from mfunc import tree
from mfunc.optim.choosing import Mask, decays
from mfunc.optim.core import Optimizer, check, wide


def add_decayed_weights(weight_decay: float, *, mask: Mask | None = None) -> Optimizer:
    """Add a share of each parameter to its gradient.

    Before an optimizer of a chain this is L2 regularisation; the decoupled decay of `adamw` is its
    own.

    Args:
      weight_decay: the share.
      mask: which parameters decay, patterns of paths or a function of a path; all by default.

    Raises:
      ValueError: the share is negative, or a pattern matches no parameter (from `init`).

    Example:
      >>> from mindspore import Tensor
      >>> grads, params = {"w": Tensor([1.0])}, {"w": Tensor([8.0])}
      >>> updates, _ = add_decayed_weights(0.25).update(grads, {}, params)
      >>> updates["w"].asnumpy()
      array([3.], dtype=float32)

    Source:
      optax 0.2 `add_decayed_weights`.
    """
    check("add_decayed_weights", weight_decay=weight_decay)
    decays_of = decays("add_decayed_weights", weight_decay, mask)

    def init(params):  # type: ignore[no-untyped-def]
        decays_of(params)
        return {}

    def update(grads, state, params):  # type: ignore[no-untyped-def]
        def add(grad, param, decay):  # type: ignore[no-untyped-def]
            return wide(grad) + decay * wide(param) if decay else wide(grad)

        moved = tree.map(add, tree.leaves(grads), tree.leaves(params), decays_of(params))
        return tree.refill(params, moved), state

    return Optimizer(init, update)
