"""The rule of Adam for one leaf: two means of its gradients, and where they point."""

from __future__ import annotations

import attrs
import mindspore as ms
from mindspore import Tensor, ops

from mfunc.optim.core import sum_of_squares, wide
from mfunc.schedule import Schedule


@attrs.frozen
class Adam:
    """The settings of `adam`, `adamw` and `lamb`; `trust` makes an update as long as its leaf."""

    rate_at: Schedule
    b1: float
    b2: float
    eps: float
    bias_correction: bool = True
    nesterov: bool = False
    trust: bool = False


def seen(decay, count):  # type: ignore[no-untyped-def]
    """Return what share of its values a mean has seen after so many steps, 1 after many."""
    return 1.0 - ops.pow(Tensor(decay, ms.float32), ops.cast(count, ms.float32))


def shares(adam, count):  # type: ignore[no-untyped-def]
    """Return what the mean of this step has seen, the mean of the next one, and that of squares.

    Args:
      adam: the settings.
      count: steps before this one.
    """
    if not adam.bias_correction:
        return 1.0, 1.0, 1.0
    return seen(adam.b1, count + 1), seen(adam.b1, count + 2), seen(adam.b2, count + 1)


def move(adam, rate, share, grad, mean, square, param, decay):  # type: ignore[no-untyped-def]
    """Return the update of a leaf, and its new means."""
    grad = wide(grad)
    mean = adam.b1 * mean + (1.0 - adam.b1) * grad
    square = adam.b2 * square + (1.0 - adam.b2) * (grad * grad)
    forward = ahead(adam.b1, share, mean, grad) if adam.nesterov else mean / share[0]
    direction = forward / (ops.sqrt(square / share[2]) + adam.eps)
    direction = direction + decay * wide(param) if decay else direction
    factor = rate * _trust(wide(param), direction) if adam.trust else rate
    return (-factor * direction, mean, square)


def ahead(decay, share, mean, grad):  # type: ignore[no-untyped-def]
    """Return the mean as the next step would see it, if this gradient came again (Nesterov)."""
    return decay * (mean / share[1]) + (1.0 - decay) * (grad / share[0])


def _trust(param, direction):  # type: ignore[no-untyped-def]
    """Return how many times longer the parameter is; 1 where one of both has no length."""
    length, step = _norm(param), _norm(direction)
    both = ops.logical_and(length > 0.0, step > 0.0)
    one = ops.ones_like(step)
    return ops.where(both, length / ops.where(both, step, one), one)


def _norm(x):  # type: ignore[no-untyped-def]
    return ops.sqrt(sum_of_squares(x))
