"""One compiled step of training: loss, gradient, update.

A state is a tree `{"params": what is trained, "optimizer": its state}`, and `"key"` beside them if
the loss draws random numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mfunc import optim, random
from mfunc.dynamic import Dim
from mfunc.gradient import value_and_grad
from mfunc.optim import Optimizer
from mfunc.transform import jit
from mfunc.tree import Tree

Step = Callable[..., tuple[Tree, dict[str, Any]]]


def train_step(
    loss: Callable[..., Any],
    optimizer: Optimizer,
    *,
    donate: bool = False,
    dynamic: Mapping[str, Sequence[Dim | None]] | None = None,
) -> Step:
    """Compile one step of training: loss, gradient, update.

    Args:
      loss: `(params, batch, *frozen) -> (loss, count)`, as `next_token_loss` returns them: the mean
        over the trained tokens, and how many there are. It is differentiated by `params` only;
        `frozen` are trees that it needs besides. If the state holds a key, the loss gets one more
        argument, the last one: a key of its own at every step.
      optimizer: what turns gradients into updates. If it has a `scale`, the loss is multiplied by
        it before the gradient is taken, and reported as it was.
      donate: the step takes the state's memory and overwrites it; the state that it was given is
        dead afterwards. Less memory and time, most of all for models of many leaves.
      dynamic: which axes of a batch differ from step to step, see `jit`; not with `donate`.

    Returns:
      A jitted `step(state, batch, *frozen) -> (state, {"loss", "tokens"})`.

    Laws:
      Two runs from one state are the same, random numbers too.

    Example:
      >>> import numpy as np
      >>> from mfunc.optim import sgd
      >>> def distance(params, batch):
      ...     return ((params["x"] - batch["to"]) ** 2).sum(), batch["to"].sum() * 0 + 1
      >>> state = init_state({"x": np.float32([0.0])}, sgd(0.25))
      >>> state, metrics = train_step(distance, sgd(0.25))(state, {"to": np.float32([4.0])})
      >>> float(metrics["loss"]), state["params"]["x"].asnumpy()
      (16.0, array([2.], dtype=float32))
    """

    def scaled(params, scale, batch, *rest):  # type: ignore[no-untyped-def]
        value, count = loss(params, batch, *rest)
        return (value if scale is None else value * scale), (value, count)

    def step(state, batch, *frozen, home=None):  # type: ignore[no-untyped-def]
        params, its_state = state["params"], state["optimizer"]
        keyed = "key" in state
        following, own = random.split(state["key"]) if keyed else (None, None)
        rest = (*frozen, own) if keyed else frozen
        scale = None if optimizer.scale is None else optimizer.scale(its_state)
        differentiate = value_and_grad(scaled, has_aux=True)
        (_, (value, count)), grads = differentiate(params, scale, batch, *rest)
        params, after = optim.step(optimizer, grads, its_state, params, home, weight=count)
        metrics = {"loss": value, "tokens": count}
        if keyed:
            return {"params": params, "optimizer": after, "key": following}, metrics
        return {"params": params, "optimizer": after}, metrics

    if not donate:
        return jit(step, dynamic=dynamic)
    return jit(step, donate_argnums=0, home="home", dynamic=dynamic)


def init_state(params: Tree, optimizer: Optimizer, key: random.Key | None = None) -> Tree:
    """Return the state before the first step.

    Args:
      params: what is trained.
      optimizer: the one that `train_step` gets.
      key: uint32 [2], if the loss draws random numbers.

    Example:
      >>> from mfunc.optim import sgd
      >>> sorted(init_state({}, sgd(0.1))), sorted(init_state({}, sgd(0.1), random.key(0)))
      (['optimizer', 'params'], ['key', 'optimizer', 'params'])
    """
    state = {"params": params, "optimizer": optimizer.init(params)}
    return state if key is None else {**state, "key": key}
