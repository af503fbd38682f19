"""Optimizers that go down the gradient: SGD."""

from __future__ import annotations

import mindspore as ms
from mindspore import Tensor

from mfunc import tree
from mfunc.optim.core import Optimizer, schedule_of, wide
from mfunc.schedule import Schedule


def sgd(learning_rate: float | Schedule) -> Optimizer:
    """Go against the gradient.

    Args:
      learning_rate: a number or a schedule.

    Example:
      >>> params = {"w": Tensor([1.0])}
      >>> optimizer = sgd(0.1)
      >>> updates, _ = optimizer.update({"w": Tensor([2.0])}, optimizer.init(params), params)
      >>> updates["w"].asnumpy()
      array([-0.2], dtype=float32)
    """
    rate_at = schedule_of(learning_rate)

    def init(params):  # type: ignore[no-untyped-def]
        return {"count": Tensor(0, ms.int32)}

    def update(grads, state, params):  # type: ignore[no-untyped-def]
        rate = rate_at(state["count"])

        def step(grad):  # type: ignore[no-untyped-def]
            return -rate * wide(grad)

        return tree.map(step, grads), {"count": state["count"] + 1}

    return Optimizer(init, update)
