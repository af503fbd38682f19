"""What every optimizer is made of: the pair of functions, chains of them, one step."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import attrs
import mindspore as ms
from mindspore import Tensor, ops
from mindspore.ops import operations as P

from mfunc import tree
from mfunc.schedule import Schedule, constant
from mfunc.tree import Tree
from mfunc.vector import ravel, unravel


@attrs.frozen
class Optimizer:
    """A pair of functions.

    Attributes:
      init: `params -> state`.
      update: `(grads, state, params) -> (updates, state)`.
      overwrite: the same as `update` and `apply_updates` by kernels that write in place:
        `(grads, state, params, home) -> (params, state)`; see `step`.
      scale: `state -> factor`, what the loss must be multiplied by before its gradient is taken;
        `update` divides it out again. `None` where there is none; see `dynamic_loss_scale`.
      weighted: `update` takes the weight of the batch as its fourth argument; see `accumulate`.
    """

    init: Callable[[Tree], Tree]
    update: Callable[..., tuple[Tree, Tree]]
    overwrite: Callable[[Tree, Tree, Tree, Tree], tuple[Tree, Tree]] | None = None
    scale: Callable[[Tree], Any] | None = None
    weighted: bool = False


def chain(*members: Optimizer) -> Optimizer:
    """Give the updates of each member to the next one, left to right.

    Laws:
      `chain(a)` does what `a` does; `chain(chain(a, b), c)` what `chain(a, b, c)` does.

    Example:
      >>> from mindspore import Tensor
      >>> from mfunc.optim import clip_by_global_norm, sgd
      >>> params = {"w": Tensor([3.0, 4.0])}
      >>> optimizer = chain(clip_by_global_norm(1.0), sgd(1.0))
      >>> updates, state = optimizer.update(params, optimizer.init(params), params)
      >>> updates["w"].asnumpy().round(2).tolist()
      [-0.6000000238418579, -0.800000011920929]

    Source:
      optax 0.2 `chain`.
    """
    if len(members) > 1:
        for member in members:
            refuse_scale("chain", member)

    def init(params):  # type: ignore[no-untyped-def]
        return tuple([member.init(params) for member in members])

    def update(grads, state, params, weight=None):  # type: ignore[no-untyped-def]
        after = ()
        for i in range(len(members)):
            grads, its_state = advance(members[i], grads, state[i], params, weight)
            after = (*after, its_state)  # type: ignore[assignment]
        return grads, after

    weighted = any([member.weighted for member in members])
    last = members[-1].overwrite if members and not weighted else None
    before = chain(*members[:-1]) if last else None

    def overwrite(grads, state, params, home):  # type: ignore[no-untyped-def]
        grads, after = before.update(grads, state[:-1], params)  # type: ignore[union-attr]
        mine = {"params": home["params"], "optimizer": home["optimizer"][-1]}
        params, its_state = last(grads, state[-1], params, mine)  # type: ignore[misc]
        return params, (*after, its_state)

    alone = members[0].scale if members else None

    def scale(state):  # type: ignore[no-untyped-def]
        return alone(state[0])  # type: ignore[misc]

    return Optimizer(init, update, overwrite if last else None, scale if alone else None, weighted)


def refuse_scale(name: str, member: Optimizer) -> None:
    """Refuse a member whose gradients are scaled: others would see them so, or it would not."""
    if member.scale is not None:
        raise ValueError(
            f"{name}: dynamic_loss_scale stands inside of it; put it around the whole optimizer, "
            "dynamic_loss_scale(chain(...))"
        )


def advance(optimizer, grads, state, params, weight):  # type: ignore[no-untyped-def]
    """Call `update`, with the weight of the batch where it is wanted."""
    if optimizer.weighted:
        return optimizer.update(grads, state, params, weight)
    return optimizer.update(grads, state, params)


def step(
    optimizer: Optimizer,
    grads: Tree,
    state: Tree,
    params: Tree,
    home: Tree | None = None,
    weight: Any = None,
) -> tuple[Tree, Tree]:
    """Update and apply the updates.

    Args:
      optimizer: the pair.
      grads: of the parameters.
      state: of the optimizer.
      params: the parameters.
      home: `{"params": ..., "optimizer": ...}`, the memory of both if they are donated to the
        compiled function in which this stands (`jit(..., donate_argnums=0, home="home")`). Where
        the optimizer can, it overwrites it, one kernel a leaf.
      weight: of this batch among those of one update, the number of its trained tokens; only
        `accumulate` looks at it.

    Returns:
      The new parameters and the new state.

    Laws:
      The result is the same with a home as without.

    Example:
      >>> from mindspore import Tensor
      >>> from mfunc.optim import sgd
      >>> params = {"w": Tensor([1.0])}
      >>> optimizer = sgd(0.1)
      >>> params, state = step(optimizer, {"w": Tensor([2.0])}, optimizer.init(params), params)
      >>> params["w"].asnumpy()
      array([0.8], dtype=float32)
    """
    if home is None or optimizer.overwrite is None:
        updates, state = advance(optimizer, grads, state, params, weight)
        return apply_updates(params, updates), state
    return optimizer.overwrite(grads, state, params, home)


def flatten(inner: Optimizer) -> Optimizer:
    """Run an optimizer on all parameters joined to one vector.

    The same numbers by fewer operators: 15 for AdamW where there were 15 a leaf. A step of a small
    model took a tenth less time and compiled in two thirds of it. It holds one more copy
    of gradients and parameters for the length of the update. For optimizers that do the same to
    every number, or look at all of them at once.

    Args:
      inner: any such optimizer, or a chain of them.

    Laws:
      `flatten(o)` moves parameters as `o` does, when `o` treats all leaves alike.

    Example:
      >>> from mindspore import Tensor
      >>> from mfunc.optim import clip_by_global_norm, sgd
      >>> params = {"b": Tensor([4.0]), "w": Tensor([3.0])}
      >>> optimizer = flatten(chain(clip_by_global_norm(1.0), sgd(1.0)))
      >>> updates, state = optimizer.update(params, optimizer.init(params), params)
      >>> [round(float(leaf), 4) for leaf in tree.leaves(updates)]
      [-0.8, -0.6]

    Source:
      optax 0.2 `flatten`.
    """

    def init(params):  # type: ignore[no-untyped-def]
        return inner.init(ravel(params))

    def update(grads, state, params, weight=None):  # type: ignore[no-untyped-def]
        updates, after = advance(inner, ravel(grads), state, ravel(params), weight)
        return unravel(params, updates), after

    return Optimizer(init, update, scale=inner.scale, weighted=inner.weighted)


def apply_updates(params: Tree, updates: Tree) -> Tree:
    """Add updates to parameters, in the dtype of the parameters.

    Example:
      >>> from mindspore import Tensor
      >>> apply_updates({"w": Tensor([1.0])}, {"w": Tensor([-0.5])})["w"].asnumpy()
      array([0.5], dtype=float32)
    """
    return tree.map(_add, params, updates)


def _add(param, update):  # type: ignore[no-untyped-def]
    return narrow(wide(param) + update, param)


def wide(x):  # type: ignore[no-untyped-def]
    """Return float32; a cast that changes nothing would still be an operator of the graph."""
    return x if x.dtype == ms.float32 else ops.cast(x, ms.float32)


def narrow(x, like):  # type: ignore[no-untyped-def]
    """Return the dtype of `like`."""
    return x if like.dtype == ms.float32 else ops.cast(x, like.dtype)


def sum_of_squares(x):  # type: ignore[no-untyped-def]
    """Return the sum of all squares of an array, a float32 scalar.

    By rows first: all of a matrix at once takes seven times as long.

    Example:
      >>> float(sum_of_squares(Tensor([[1.0, 2.0], [3.0, 4.0]])))
      30.0
    """
    x = wide(x)
    squares = x * x
    total = P.ReduceSum()
    return total(total(squares, -1)) if x.ndim > 1 else total(squares)


def zeros(params: Tree) -> tuple[Any, ...]:
    """Return a float32 zero for each leaf, in leaf order; flat: graphs take few nested levels."""
    return tuple(tree.leaves(tree.map(_zeros_like, params)))


def _zeros_like(param):  # type: ignore[no-untyped-def]
    return ops.zeros(param.shape, ms.float32)


def schedule_of(name: str, learning_rate: float | Schedule) -> Schedule:
    """Return a schedule for a number, too; decided before the compiler reads the update."""
    if callable(learning_rate):
        return learning_rate
    check(name, learning_rate=learning_rate)
    return constant(learning_rate)


def check(name: str, *, below: float = math.inf, **settings: float) -> None:
    """Refuse a setting that is negative, not a number, or not below a bound."""
    for which, value in settings.items():
        if not 0.0 <= value < below:
            limit = "it must be finite and not negative"
            limit = f"it must be from 0 to below {below:g}" if below < math.inf else limit
            raise ValueError(f"{name}: {which}={value}; {limit}")


def column(i, leaves, rows):  # type: ignore[no-untyped-def]
    """Take the i-th value of the row that stands for each leaf."""

    def take(leaf, row):  # type: ignore[no-untyped-def]
        return row[i]

    return tree.overlay(take, leaves, rows)


# --- for optimizers that hold the state of another one, or take back what it did ---


def packed(state: Tree) -> tuple[Any, ...]:
    """Return the leaves of a state: graphs take few nested levels, and wrappers are nested."""
    return tree.leaves(state)


def unpacked(inner: Optimizer, leaves: tuple[Any, ...], params: Tree) -> Tree:
    """Return the state of `inner` of which these are the leaves.

    Its containers are those of a first state, whose numbers nobody reads: no graph makes them.
    """
    return tree.refill(inner.init(params), leaves)


def chosen(flag, new, old):  # type: ignore[no-untyped-def]
    """Return the new tree where a flag is true, else the old one."""

    def choose(a, b):  # type: ignore[no-untyped-def]
        return ops.where(flag, a, b)

    return tree.map(choose, new, old)


# The update that changes no number, to the bit: -0.0 + 0.0 is 0.0, -0.0 + -0.0 is -0.0.
NOTHING = -0.0


def withheld(flag, updates):  # type: ignore[no-untyped-def]
    """Return updates where a flag is true, else such that change nothing."""

    def choose(update):  # type: ignore[no-untyped-def]
        return ops.where(flag, wide(update), Tensor(NOTHING, ms.float32))

    return tree.map(choose, updates)
