"""Optimizers that go down the gradient, or a mean of gradients: SGD, Lion."""

from __future__ import annotations

import mindspore as ms
from mindspore import Tensor, ops

from mfunc import tree
from mfunc.optim.choosing import Mask, decays
from mfunc.optim.core import Optimizer, check, column, schedule_of, wide, zeros
from mfunc.schedule import Schedule


def sgd(
    learning_rate: float | Schedule, *, momentum: float | None = None, nesterov: bool = False
) -> Optimizer:
    """Go against the gradient, or against a decaying sum of gradients.

    Args:
      learning_rate: a number or a schedule.
      momentum: decay of the sum of gradients, a step; without it there is no sum.
      nesterov: look one step ahead.

    Raises:
      ValueError: a number is out of range, or `nesterov` without `momentum`.

    Example:
      >>> params = {"w": Tensor([1.0])}
      >>> optimizer = sgd(0.1)
      >>> updates, _ = optimizer.update({"w": Tensor([2.0])}, optimizer.init(params), params)
      >>> updates["w"].asnumpy()
      array([-0.2], dtype=float32)

    Source:
      Sutskever et al. 2013; optax 0.2 `sgd` (as torch's, without dampening).
    """
    rate_at = schedule_of("sgd", learning_rate)
    if momentum is not None:
        check("sgd", below=1.0, momentum=momentum)
        return _heavy(rate_at, momentum, nesterov)
    if nesterov:
        raise ValueError("sgd: nesterov=True without momentum; give momentum, 0.9 for example")

    def init(params):  # type: ignore[no-untyped-def]
        return {"count": Tensor(0, ms.int32)}

    def update(grads, state, params):  # type: ignore[no-untyped-def]
        rate = rate_at(state["count"])

        def step(grad):  # type: ignore[no-untyped-def]
            return -rate * wide(grad)

        return tree.map(step, grads), {"count": state["count"] + 1}

    return Optimizer(init, update)


def _heavy(rate_at: Schedule, momentum: float, nesterov: bool) -> Optimizer:
    """SGD with momentum."""

    def init(params):  # type: ignore[no-untyped-def]
        return {"count": Tensor(0, ms.int32), "trace": zeros(params)}

    def update(grads, state, params):  # type: ignore[no-untyped-def]
        rate = rate_at(state["count"])

        def step(grad, trace):  # type: ignore[no-untyped-def]
            trace = wide(grad) + momentum * trace
            ahead = wide(grad) + momentum * trace if nesterov else trace
            return (-rate * ahead, trace)

        leaves = tree.leaves(grads)
        moved = tree.map(step, leaves, state["trace"])
        after = {"count": state["count"] + 1, "trace": column(1, leaves, moved)}
        return tree.refill(grads, column(0, leaves, moved)), after

    return Optimizer(init, update)


def lion(
    learning_rate: float | Schedule,
    *,
    b1: float = 0.9,
    b2: float = 0.99,
    weight_decay: float = 1e-3,
    mask: Mask | None = None,
) -> Optimizer:
    """Go a step of one length in every number, against the sign of a mean of gradients.

    Args:
      learning_rate: a number or a schedule; 3 to 10 times smaller than for AdamW.
      b1: weight of the mean where its sign is taken, the newest gradient having the rest.
      b2: decay of the mean of gradients, a step.
      weight_decay: the share of a parameter that a step of rate 1 takes away; 3 to 10 times
        larger than for AdamW.
      mask: which parameters decay, patterns of paths or a function of a path; all by default.

    Raises:
      ValueError: a number is out of range, or a pattern matches no parameter (from `init`).

    Example:
      >>> params = {"w": Tensor([1.0, 1.0])}
      >>> optimizer = lion(0.25, weight_decay=0.0)
      >>> updates, _ = optimizer.update({"w": Tensor([5.0, -0.01])}, optimizer.init(params), params)
      >>> updates["w"].asnumpy()
      array([-0.25,  0.25], dtype=float32)

    Source:
      Chen et al. 2023, algorithm 2; optax 0.2 `lion`.
    """
    check("lion", below=1.0, b1=b1, b2=b2)
    check("lion", weight_decay=weight_decay)
    rate_at = schedule_of("lion", learning_rate)
    decays_of = decays("lion", weight_decay, mask)

    def init(params):  # type: ignore[no-untyped-def]
        decays_of(params)
        return {"count": Tensor(0, ms.int32), "mean": zeros(params)}

    def update(grads, state, params):  # type: ignore[no-untyped-def]
        rate = rate_at(state["count"])

        def step(grad, mean, param, decay):  # type: ignore[no-untyped-def]
            grad = wide(grad)
            direction = ops.sign((1.0 - b1) * grad + b1 * mean)
            direction = direction + decay * wide(param) if decay else direction
            return (-rate * direction, (1.0 - b2) * grad + b2 * mean)

        leaves = tree.leaves(params)
        moved = tree.map(step, tree.leaves(grads), state["mean"], leaves, decays_of(params))
        after = {"count": state["count"] + 1, "mean": column(1, leaves, moved)}
        return tree.refill(params, column(0, leaves, moved)), after

    return Optimizer(init, update)
