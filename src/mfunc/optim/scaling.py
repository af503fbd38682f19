"""Losses scaled so that float16 gradients do not vanish; gradients that are not finite left out."""

from __future__ import annotations

import mindspore as ms
from mindspore import Tensor, ops
from mindspore.ops import operations as P

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
)
from mfunc.tree import Tree

# Twice this is still a float32 number.
LARGEST = 2.0**126


def dynamic_loss_scale(
    inner: Optimizer,
    *,
    initial: float = 2.0**16,
    growth_interval: int = 1000,
    factor: float = 2.0,
) -> Optimizer:
    """Take gradients of a scaled loss; skip a step that overflows and halve the scale.

    Small float16 gradients become 0; of a loss that is multiplied by the scale they do not. Whoever
    takes the gradient multiplies the loss by `optimizer.scale(state)` (`train_step` does); the
    update divides it out, in float32. A gradient that is infinite or not a number leaves parameters
    and the inner state as they are, to the bit, divides the scale by `factor` (not below 1) and is
    counted in `skipped`; after `growth_interval` good steps in a row the scale is multiplied by it.

    Args:
      inner: the whole optimizer; other members would see scaled gradients.
      initial: the first scale.
      growth_interval: good steps until the scale grows.
      factor: what it is multiplied or divided by. With powers of two nothing is rounded.

    Raises:
      ValueError: a setting is out of range, or `inner` has a scale already.

    Laws:
      While all gradients are finite it does what `inner` does, to the bit.

    Example:
      >>> from mfunc.optim import sgd
      >>> params, optimizer = {"w": Tensor([1.0])}, dynamic_loss_scale(sgd(0.5), initial=1024.0)
      >>> state = optimizer.init(params)
      >>> updates, after = optimizer.update({"w": Tensor([2048.0])}, state, params)
      >>> float(updates["w"]), float(optimizer.scale(after))
      (-1.0, 1024.0)
      >>> updates, after = optimizer.update({"w": Tensor([float("inf")])}, state, params)
      >>> float(updates["w"]), float(optimizer.scale(after)), int(after["skipped"])
      (-0.0, 512.0, 1)

    Source:
      Micikevicius et al. 2018, section 3.2; MindSpore's `DynamicLossScaleUpdateCell`.
    """
    _check_scale(inner, initial, growth_interval, factor)

    def init(params):  # type: ignore[no-untyped-def]
        return {
            "good": Tensor(0, ms.int32),
            "inner": packed(inner.init(params)),
            "scale": Tensor(initial, ms.float32),
            "skipped": Tensor(0, ms.int32),
        }

    def update(grads, state, params, weight=None):  # type: ignore[no-untyped-def]
        inverse = 1.0 / state["scale"]

        def unscale(grad):  # type: ignore[no-untyped-def]
            return wide(grad) * inverse

        true_grads = tree.map(unscale, grads)
        finite, updates, after = _guarded(inner, true_grads, state["inner"], params, weight)
        scale, good = _after(finite, state, growth_interval, factor)
        skipped = ops.where(finite, state["skipped"], state["skipped"] + 1)
        return updates, {"good": good, "inner": after, "scale": scale, "skipped": skipped}

    def scale_of(state):  # type: ignore[no-untyped-def]
        return state["scale"]

    return Optimizer(init, update, scale=scale_of, weighted=inner.weighted)


def _after(finite, state, growth_interval, factor):  # type: ignore[no-untyped-def]
    """Return the next scale, and how many good steps it has seen."""
    scale, good, none = state["scale"], state["good"] + 1, Tensor(0, ms.int32)
    grows = good >= growth_interval
    larger = ops.where(grows, ops.minimum(scale * factor, Tensor(LARGEST, ms.float32)), scale)
    smaller = ops.maximum(scale / factor, Tensor(1.0, ms.float32))
    streak = ops.where(grows, none, good)
    return ops.where(finite, larger, smaller), ops.where(finite, streak, none)


def _check_scale(inner: Optimizer, initial: float, growth_interval: int, factor: float) -> None:
    refuse_scale("dynamic_loss_scale", inner)
    if not 1.0 <= initial <= LARGEST:
        raise ValueError(f"dynamic_loss_scale: initial={initial}; it must be from 1 to 2**126")
    if growth_interval < 1:
        raise ValueError(
            f"dynamic_loss_scale: growth_interval={growth_interval}; it must be at least 1"
        )
    if not 1.0 < factor <= LARGEST:
        raise ValueError(f"dynamic_loss_scale: factor={factor}; it must be above 1")


def skip_nonfinite(inner: Optimizer) -> Optimizer:
    """Leave a step out whose gradients are not finite, and count it in `skipped`.

    Parameters and the inner state stay as they are, to the bit.

    Args:
      inner: the optimizer; not `dynamic_loss_scale`, which does this itself.

    Raises:
      ValueError: `inner` has a loss scale.

    Laws:
      While all gradients are finite it does what `inner` does, to the bit.

    Example:
      >>> from mfunc.optim import sgd
      >>> params, optimizer = {"w": Tensor([1.0])}, skip_nonfinite(sgd(0.5))
      >>> state = optimizer.init(params)
      >>> updates, state = optimizer.update({"w": Tensor([float("nan")])}, state, params)
      >>> float(updates["w"]), int(state["skipped"])
      (-0.0, 1)

    Source:
      optax 0.2 `apply_if_finite`, without its limit of errors.
    """
    refuse_scale("skip_nonfinite", inner)

    def init(params):  # type: ignore[no-untyped-def]
        return {"inner": packed(inner.init(params)), "skipped": Tensor(0, ms.int32)}

    def update(grads, state, params, weight=None):  # type: ignore[no-untyped-def]
        finite, updates, after = _guarded(inner, grads, state["inner"], params, weight)
        skipped = ops.where(finite, state["skipped"], state["skipped"] + 1)
        return updates, {"inner": after, "skipped": skipped}

    return Optimizer(init, update, weighted=inner.weighted)


def _guarded(inner, grads, leaves, params, weight):  # type: ignore[no-untyped-def]
    """Update if all gradients are finite: whether they are, the updates, leaves of the state."""
    finite = all_finite(grads)
    held = unpacked(inner, leaves, params)
    updates, after = advance(inner, grads, held, params, weight)
    return finite, withheld(finite, updates), chosen(finite, packed(after), leaves)


def all_finite(grads: Tree) -> Tensor:
    """Return whether no number of a tree is infinite or not a number, as a bool Tensor.

    Example:
      >>> bool(all_finite({"w": Tensor([1.0]), "b": Tensor([float("inf")])}))
      False
    """
    flaws = tree.leaves(tree.map(_flaw, grads))
    return P.AddN()(flaws) == 0.0 if len(flaws) > 0 else Tensor(True)


def _flaw(grad):  # type: ignore[no-untyped-def]
    """Return 0, or 1 if a number is not finite."""
    finite = P.ReduceAll()(P.IsFinite()(wide(grad)))
    return 1.0 - ops.cast(finite, ms.float32)
