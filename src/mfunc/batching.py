"""`vmap`: a function of one example becomes a function of many."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import ops
from mindspore.ops import operations as P

from mfunc import forms, staging, tree
from mfunc.staging import SLOT, Pattern, Seen, Stage, listed
from mfunc.tree import Tree

Function = Callable[..., Any]
NOTHING = "vmap: the function returns no tensor; there is nothing to stack"


def vmap(fn: Function, in_axes: Any = 0, out_axes: Any = 0) -> Function:
    """Return a function that maps `fn` over an axis of its arguments, and stacks the results.

    Args:
      fn: takes and gives trees.
      in_axes: the axis of each argument that is mapped over: an int for all of them, or a tuple
        with an entry for each argument. An entry is an int, `None` (every example gets the whole
        argument) or a tree of these, a prefix of the argument.
      out_axes: where the examples are in each result: an int, or a prefix of the result.

    Returns:
      A function of the same arguments, by position. Compiled it is one batched computation; outside
      of `jit` it is a loop over the examples.

    Raises:
      ValueError: nothing is mapped, the sizes differ, or an axis is out of range; the path is
        named.
      TypeError: `in_axes` does not fit the arguments.

    Laws:
      `vmap(f)(x)[i] == f(x[i])`; `jit(vmap(f)) == vmap(jit(f)) == vmap(f)`.

    Example:
      >>> def scale(params, x):
      ...     return {"y": params["w"] * x}
      >>> params, x = {"w": ms.Tensor([1.0, 2.0])}, ms.Tensor([[1.0, 1.0], [3.0, 4.0]])
      >>> vmap(scale, in_axes=(None, 0))(params, x)["y"].asnumpy()
      array([[1., 2.],
             [3., 8.]], dtype=float32)
    """
    if hasattr(fn, "compiles"):
        return fn.again(vmap(fn.__wrapped__, in_axes, out_axes))  # type: ignore[attr-defined]

    def call(*args: Any) -> Tree:
        return _eager_vmap(fn, in_axes, out_axes, args)

    call.__wrapped__ = _vmap_in_graph(fn, in_axes, out_axes)  # type: ignore[attr-defined]
    return call


def _vmap_in_graph(fn, in_axes=0, out_axes=0):  # type: ignore[no-untyped-def]
    """What the compiler reads for `vmap`."""

    def call(*args):  # type: ignore[no-untyped-def]
        return _vmap_stage(in_axes, out_axes, *args)(fn, args)

    return call


vmap.__wrapped__ = _vmap_in_graph  # type: ignore[attr-defined]


def _write_vmap(seen: list[Seen]) -> Function:
    """Write `mapped(fn, args)`: the map of a function of flat tensors."""
    in_axes, out_axes, *args = [arg.pattern for arg in seen]
    shapes = [shape for arg in seen[2:] for shape in staging.shapes(arg)]
    found = zip(tree.leaves(tuple(args)), _spread_all(in_axes, tuple(args)), strict=True)
    places, axes = _kept(args, [axis for leaf, axis in found], lambda leaf: leaf is SLOT)
    axes, _ = _check_sizes(axes, shapes, places)
    leaves, trees, constants = staging.rebuild(args)
    passed = staging.opened(tuple(args), "args")
    results: list[Pattern] = []

    def write_results(seen: list[Seen]) -> Function:
        results.append(seen[0].pattern)
        if SLOT not in tree.leaves(results[-1]):
            raise ValueError(NOTHING)
        return forms.write_slots(results[-1])

    def write_trees(seen: list[Seen]) -> Function:
        return _write_moved(results[-1], out_axes, [len(shape) for shape in seen[0].shape])

    text = (
        "def mapped(fn, args):\n"
        f"    def flat({listed(leaves)}):\n"
        f"        out = fn({listed(trees)})\n"
        "        return results_of(out)(out)\n"
        f"{passed.lines}"
        f"    stacked = vmap(flat, in_axes={tuple(axes)}, out_axes=0)({listed(passed.spread)})\n"
        "    return trees_of(stacked)(stacked)"
    )
    return staging.write(
        "mapped", text, vmap=ms.vmap, results_of=Stage(write_results), trees_of=Stage(write_trees),
        **constants,
    )  # fmt: skip


_vmap_stage = Stage(_write_vmap)


def _write_moved(result: Pattern, out_axes: Any, ranks: list[int]) -> Function:
    """Write `built(flat)`: the result as a tree, its examples where `out_axes` wants them."""
    every = zip(tree.leaves(result), _spread("out_axes", out_axes, result, "result"), strict=True)
    axes = [axis for leaf, axis in every if leaf is SLOT]
    texts = []
    for i, (axis, rank) in enumerate(zip(axes, ranks, strict=True)):
        order = list(range(1, rank))
        order.insert(_out_axis(axis, rank), 0)
        moved = order != sorted(order)
        texts.append(f"transpose(flat[{i}], {tuple(order)})" if moved else f"flat[{i}]")
    return forms.write_tree(result, texts, transpose=P.Transpose())


def _eager_vmap(fn: Function, in_axes: Any, out_axes: Any, args: tuple[Any, ...]) -> Tree:
    """Call `fn` for one example after the other."""
    leaves, structure = tree.flatten(args)
    every = _spread_all(in_axes, args)
    places, axes = _kept(args, every, _has_shape)
    shapes = [tuple(leaf.shape) for leaf in leaves if _has_shape(leaf)]
    axes, size = _check_sizes(axes, shapes, places)
    remaining = iter(axes)
    every = [next(remaining) if _has_shape(leaf) else None for leaf in leaves]
    outs = []
    for i in range(size):
        example = [
            leaf if axis is None else leaf[(slice(None),) * axis + (i,)]
            for leaf, axis in zip(leaves, every, strict=True)
        ]
        outs.append(fn(*tree.unflatten(structure, example)))
    if not any(isinstance(leaf, ms.Tensor) for leaf in tree.leaves(outs[0])):
        raise ValueError(NOTHING)
    moved = iter(_spread("out_axes", out_axes, outs[0], "result"))

    def stack(first: Any, *rest: Any) -> Any:
        axis = next(moved)
        if not isinstance(first, ms.Tensor):
            return first
        return ops.stack((first, *rest), _out_axis(axis, first.ndim + 1))

    return tree.map(stack, *outs)


def _has_shape(leaf: Any) -> bool:
    return isinstance(leaf, (ms.Tensor, np.ndarray))


def _kept(
    args: Any, axes: list[int | None], keep: Callable[[Any], bool]
) -> tuple[list[str], list[int | None]]:
    """Return the paths and the axes of the leaves that can be mapped."""
    rows = zip(tree.paths(tuple(args)), tree.leaves(tuple(args)), axes, strict=True)
    kept = [(path, axis) for path, leaf, axis in rows if keep(leaf)]
    return [path for path, _ in kept], [axis for _, axis in kept]


def _spread_all(in_axes: Any, args: tuple[Any, ...]) -> list[int | None]:
    """Return the axis of each leaf of the arguments."""
    if isinstance(in_axes, (tuple, list)) and len(in_axes) != len(args):
        raise TypeError(
            f"vmap: in_axes has {len(in_axes)} entries for {len(args)} arguments; give each one"
        )
    entries = [in_axes] * len(args) if in_axes is None or type(in_axes) is int else in_axes
    return [
        axis
        for i, (entry, arg) in enumerate(zip(entries, args, strict=True))
        for axis in _spread("in_axes", entry, arg, f"argument {i}")
    ]


def _spread(what: str, prefix: Any, node: Tree, place: str) -> list[int | None]:
    """Repeat the axes of a prefix for each leaf below them."""
    if prefix is None or type(prefix) is int:
        return [prefix] * len(tree.leaves(node))
    if isinstance(prefix, dict) and isinstance(node, dict) and prefix.keys() == node.keys():
        keys: Any = sorted(node)
    elif type(prefix) in (tuple, list) and type(node) in (tuple, list) and len(prefix) == len(node):
        keys = range(len(node))
    else:
        raise TypeError(
            f"vmap: {what} is {prefix!r} at {place}, which is {_said(node)}; an axis is an int or "
            "None, or a container like the one it stands for"
        )
    return [a for key in keys for a in _spread(what, prefix[key], node[key], f"{place}, {key}")]


def _said(node: Any) -> str:
    if isinstance(node, dict):
        return f"a dict of {', '.join(map(repr, sorted(node)))}"
    if type(node) in (tuple, list):
        return f"a {type(node).__name__} of {len(node)}"
    return "a leaf"


def _check_sizes(
    axes: list[int | None], shapes: list[tuple[int, ...]], places: list[str]
) -> tuple[list[int | None], int]:
    """Return axes that are not negative, and the number of examples."""
    found: dict[str, int] = {}
    plain: list[int | None] = []
    for axis, shape, place in zip(axes, shapes, places, strict=True):
        where = f"argument {place.replace('/', ', ', 1)}"
        if axis is not None:
            if not -len(shape) <= axis < len(shape):
                raise ValueError(f"vmap: {where} has shape {shape}; there is no axis {axis} in it")
            axis %= len(shape)
            found[where] = shape[axis]
        plain.append(axis)
    if not found:
        raise ValueError("vmap: nothing is mapped; give at least one argument an axis in in_axes")
    if len(set(found.values())) > 1:
        said = "; ".join(f"{where} has {size}" for where, size in found.items())
        raise ValueError(f"vmap: the mapped axes differ in size: {said}")
    size = next(iter(found.values()))
    if size == 0:
        raise ValueError(f"vmap: {next(iter(found))} has no examples")
    return plain, size


def _out_axis(axis: int | None, rank: int) -> int:
    """Return the place of the examples in a result with `rank` axes."""
    if axis is None:
        raise TypeError("vmap: out_axes holds None; every result has examples, give an int")
    if not -rank <= axis < rank:
        raise ValueError(f"vmap: out_axes is {axis} for a result of {rank} axes")
    return axis % rank
