"""Averages over steps."""

from __future__ import annotations

import mindspore as ms
from mindspore import Tensor

from mfunc import tree
from mfunc.optim.core import Optimizer, check, wide, zeros
from mfunc.optim.moments import seen


def ema(decay: float, *, debias: bool = True) -> Optimizer:
    """Return the exponential moving average of what it is given, step after step.

    In a chain that is of gradients or updates. Given parameters, it averages them: call its
    `update` with the parameters in the place of the gradients after each step, and evaluate with
    what it returns.

    Args:
      decay: the share of the average that stays, a step.
      debias: divide by what is missing in the first steps.

    Raises:
      ValueError: the decay is out of range.

    Laws:
      With `debias`, the average of what never changes is that.

    Example:
      >>> average = ema(0.5)
      >>> state = average.init({"w": Tensor([0.0])})
      >>> for weight in (1.0, 4.0):
      ...     mean, state = average.update({"w": Tensor([weight])}, state, None)
      >>> mean["w"].asnumpy()  # (1 / 4 + 4 / 2) / (1 / 4 + 1 / 2)
      array([3.], dtype=float32)

    Source:
      optax 0.2 `ema`; Polyak and Juditsky 1992 for parameters.
    """
    check("ema", below=1.0, decay=decay)

    def init(params):  # type: ignore[no-untyped-def]
        return {"count": Tensor(0, ms.int32), "mean": zeros(params)}

    def update(grads, state, params):  # type: ignore[no-untyped-def]
        count = state["count"] + 1
        known = seen(decay, count) if debias else 1.0

        def join(grad, mean):  # type: ignore[no-untyped-def]
            return (1.0 - decay) * wide(grad) + decay * mean

        def correct(mean):  # type: ignore[no-untyped-def]
            return mean / known if debias else mean

        means = tree.map(join, tree.leaves(grads), state["mean"])
        return tree.refill(grads, tree.map(correct, means)), {"count": count, "mean": means}

    return Optimizer(init, update)
