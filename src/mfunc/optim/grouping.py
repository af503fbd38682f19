"""Optimizers for some of the leaves: masks and groups by path."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Mapping, Sequence

import mindspore as ms
from mindspore import ops

from mfunc import tree
from mfunc.optim.choosing import Mask, decided, merged, part, some, taken
from mfunc.optim.core import Optimizer, advance, chain, packed, refuse_scale, unpacked
from mfunc.schedule import Schedule
from mfunc.tree import Tree


def masked(inner: Optimizer, mask: Mask) -> Optimizer:
    """Run an optimizer on some leaves; the gradients of the others pass as they are.

    So it is for members of a `chain`. To leave parameters unchanged, give `multi` a group of
    `None`.

    Args:
      inner: sees only the leaves that the mask takes.
      mask: patterns of paths, or a function of a path.

    Raises:
      ValueError: a pattern matches no parameter (from `init`).
      TypeError: the function answers neither `True` nor `False` (from `init`).

    Laws:
      With a mask that takes all it does what `inner` does, to the bit.

    Example:
      >>> from mindspore import Tensor
      >>> from mfunc.optim import clip_by_global_norm
      >>> grads = {"b": Tensor([2.0]), "w": Tensor([2.0])}
      >>> optimizer = masked(clip_by_global_norm(1.0), "w")
      >>> updates, _ = optimizer.update(grads, optimizer.init(grads), grads)
      >>> [float(leaf) for leaf in tree.leaves(updates)]
      [2.0, 1.0]

    Source:
      optax 0.2 `masked`.
    """

    def label(paths: list[str], shapes: list[tuple[int, ...]]) -> list[int]:
        return list(map(int, taken("masked", mask, paths)))

    return grouped("masked", decided(label), (chain(), inner))


def multi(groups: Mapping[str, Optimizer | None]) -> Optimizer:
    """Give each group of parameters an optimizer of its own.

        multi({"*norm*": adamw(1e-3, weight_decay=0.0), "embed": None, "*": adamw(1e-3)})

    Args:
      groups: patterns of paths (`*` stands for anything), and what moves the parameters that they
        match; `None` leaves them as they are, to the bit. The first pattern that matches counts.

    Raises:
      ValueError: a parameter matches no pattern, or a pattern is left without a parameter (both
        from `init`); or there is no group.

    Laws:
      One group does what its optimizer does, to the bit.

    Example:
      >>> from mindspore import Tensor
      >>> from mfunc.optim import sgd
      >>> params = {"b": Tensor([1.0]), "w": Tensor([1.0])}
      >>> optimizer = multi({"b": None, "*": sgd(0.5)})
      >>> updates, _ = optimizer.update(params, optimizer.init(params), params)
      >>> [float(leaf) for leaf in tree.leaves(updates)]
      [-0.0, -0.5]

    Source:
      optax 0.2 `partition`.
    """
    if not groups:
        raise ValueError("multi: there is no group; give at least one pattern")
    patterns = list(groups)

    def label(paths: list[str], shapes: list[tuple[int, ...]]) -> list[int]:
        return _first_matches(patterns, paths)

    members = tuple([FROZEN if member is None else member for member in groups.values()])
    return grouped("multi", decided(label), members)


def _first_matches(patterns: Sequence[str], paths: Sequence[str]) -> list[int]:
    """Return the number of the first pattern that matches each path."""
    found = []
    for path in paths:
        fitting = [i for i, p in enumerate(patterns) if fnmatch.fnmatchcase(path, p)]
        if not fitting:
            raise ValueError(
                f"multi: parameter {path!r} is in no group; patterns are {list(patterns)}, add '*'"
            )
        found.append(fitting[0])
    for i, pattern in enumerate(patterns):
        if i not in found:
            raise ValueError(
                f"multi: pattern {pattern!r} matches no parameter that those before it leave; "
                f"paths look like {some(paths)}"
            )
    return found


def layerwise(
    make: Callable[[float | Schedule], Optimizer],
    learning_rate: float | Schedule,
    *,
    decay: float,
    layers: int,
    path: str = "layers/{}/*",
    first: Sequence[str] = ("embed*",),
) -> dict[str, Optimizer]:
    """Return groups for `multi` in which earlier layers learn slower (layer-wise decay).

    Args:
      make: `learning rate -> Optimizer`.
      learning_rate: of what stands behind the last layer, a number or a schedule.
      decay: what a layer further from the end multiplies the rate by.
      layers: how many there are.
      path: pattern of a layer, with its number for the braces.
      first: patterns of what stands before layer 0; it learns slowest. Each must match.

    Returns:
      Patterns and optimizers: layer i has the rate times `decay ** (layers - i)`, what is before
      layer 0 that times `decay` once more.

    Raises:
      ValueError: a setting is out of range.

    Example:
      >>> from mfunc.optim import sgd
      >>> list(layerwise(sgd, 1e-3, decay=0.5, layers=2))
      ['embed*', 'layers/0/*', 'layers/1/*', '*']

    Source:
      Clark et al. 2020 (ELECTRA), appendix A; BEiT's `get_num_layer_for_vit`, as MindFormers' ViT.
    """
    if not 0.0 < decay <= 1.0:
        raise ValueError(f"layerwise: decay={decay}; it must be above 0 and at most 1")
    if layers < 1 or "{}" not in path:
        raise ValueError(
            f"layerwise: layers={layers} and path={path!r}; there must be a layer, and braces for "
            "its number"
        )
    depths = {pattern: layers + 1 for pattern in first}
    depths |= {path.format(i): layers - i for i in range(layers)}
    return {
        pattern: make(_times(decay**depth, learning_rate))
        for pattern, depth in {**depths, "*": 0}.items()
    }


def _times(factor: float, learning_rate: float | Schedule) -> float | Schedule:
    if not callable(learning_rate):
        return factor * learning_rate

    def rate(step):  # type: ignore[no-untyped-def]
        return factor * learning_rate(step)

    return rate


def grouped(
    name: str, label: Callable[[Tree], tuple[int, ...]], members: tuple[Optimizer, ...]
) -> Optimizer:
    """Give the leaves of label i to member i; the state has the leaves of each member's state.

    Args:
      name: of the optimizer that this becomes, for an error.
      label: gives the number of the member for each leaf of the parameters.
      members: an optimizer for each label.
    """
    for member in members:
        refuse_scale(name, member)

    def init(params):  # type: ignore[no-untyped-def]
        labels, states = label(params), ()
        for i in range(len(members)):
            states = (*states, packed(members[i].init(part(params, labels, i))))  # type: ignore[assignment]
        return states

    def update(grads, state, params, weight=None):  # type: ignore[no-untyped-def]
        labels, moved, after = label(params), (), ()
        for i in range(len(members)):
            its_params = part(params, labels, i)
            its_grads, its_state = (
                part(grads, labels, i),
                unpacked(members[i], state[i], its_params),
            )
            updates, its_state = advance(members[i], its_grads, its_state, its_params, weight)
            moved = (*moved, tree.leaves(updates))  # type: ignore[assignment]
            after = (*after, packed(its_state))  # type: ignore[assignment]
        return tree.refill(params, merged(labels, moved)), after

    return Optimizer(init, update, weighted=any([member.weighted for member in members]))


def _no_state(params):  # type: ignore[no-untyped-def]
    return ()


def _stay(grads, state, params):  # type: ignore[no-untyped-def]
    """Update by -0.0, which changes no number, to the bit."""

    def nothing(param):  # type: ignore[no-untyped-def]
        return ops.neg(ops.zeros(param.shape, ms.float32))

    return tree.map(nothing, params), state


FROZEN = Optimizer(_no_state, _stay)
