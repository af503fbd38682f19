"""Code written while a graph is compiled: how trees live inside MindSpore's compiler.

The compiler has no trees: a dict that reaches a gradient or a `no_inline` function can give stale
or mixed up values without an error. It does call back, though. A `Stage` is a primitive whose shape
inference is a Python function: it sees the containers of its arguments and answers with a function,
written as text for just those containers, which the compiler then reads as if it had stood there.
So the code that compiles holds nothing but flat tensors and straight lines.

A *pattern* is a tree whose leaves are `SLOT` (a traced value) or constants of the graph.
"""

from __future__ import annotations

import atexit
import functools
import itertools
import linecache
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mindspore import Tensor
from mindspore.ops import PrimitiveWithInfer

from mfunc import tree

Pattern = Any

_serial = itertools.count()


class _Slot:
    """The place of a traced value."""

    def __repr__(self) -> str:
        return "SLOT"


SLOT = _Slot()


class Seen(NamedTuple):
    """An argument as the compiler knows it: three trees of the same containers."""

    pattern: Pattern
    shape: Any
    dtype: Any


class Stage(PrimitiveWithInfer):
    """A step of compilation: called in a graph it becomes the function that `write` returns.

    Args:
      write: takes a list of `Seen`, one for each argument; returns a function whose source is in a
        file.
    """

    def __init__(self, write: Callable[[list[Seen]], Callable[..., Any]]) -> None:  # noqa: D107
        # The compiler takes two primitives of one name for the same one.
        super().__init__(f"mfunc_{write.__name__}_{next(_serial)}")
        self.write = write

    def __infer__(self, *args: dict[str, Any]) -> dict[str, Any]:
        """Answer the compiler: the value of this call is a function."""
        seen = [
            Seen(pattern(arg["value"], arg["shape"]), arg["shape"], arg["dtype"]) for arg in args
        ]
        return {"shape": (), "dtype": None, "value": self.write(seen)}


def pattern(value: Any, shape: Any) -> Pattern:
    """Tell traced values from constants: the compiler gives `None` and a shape for a traced value.

    Example:
      >>> pattern({"w": None, "n": None, "k": 3}, [[2, 2], None, []])
      {'w': SLOT, 'n': None, 'k': 3}
    """
    if isinstance(value, dict):
        return {
            key: pattern(child, its) for (key, child), its in zip(value.items(), shape, strict=True)
        }
    if type(value) in (tuple, list):
        return type(value)([pattern(child, its) for child, its in zip(value, shape, strict=True)])
    if (value is None and shape is not None) or isinstance(value, Tensor):
        return SLOT  # a tensor that is a constant goes the way of the others
    return value


def shapes(seen: Seen) -> list[tuple[int, ...]]:
    """Return the shapes of the traced leaves of an argument, in leaf order.

    Example:
      >>> shapes(Seen({"b": SLOT, "a": (SLOT, 3)}, [[2, 2], [[5], []]], None))
      [(5,), (2, 2)]
    """
    return [tuple(shape) for shape in _beside(seen.pattern, seen.shape)]


def dtypes(seen: Seen) -> list[Any]:
    """Return the dtypes of the traced leaves of an argument, in leaf order.

    A number that is traced has no dtype of a tensor: it is said in words.
    """
    return [element(kind) for kind in _beside(seen.pattern, seen.dtype)]


def element(kind: Any) -> Any:
    """Return the dtype of a tensor as the compiler tells it, or words for a number."""
    return kind.element_type() if hasattr(kind, "element_type") else f"the number type {kind}"


def _beside(node: Pattern, said: Any) -> Iterator[Any]:
    """Yield what the compiler says of each traced leaf; for a dict that is a dict or a list."""
    if node is SLOT:
        yield said
    elif isinstance(node, dict):
        parts = said if isinstance(said, dict) else dict(zip(node, said, strict=True))
        for key in sorted(node):
            yield from _beside(node[key], parts[key])
    elif type(node) in (tuple, list):
        for child, its in zip(node, said, strict=True):
            yield from _beside(child, its)


def write(name: str, text: str, **constants: Any) -> Callable[..., Any]:
    r"""Make a function of generated text; the compiler wants source in a file that exists.

    Args:
      name: the function that `text` defines.
      text: Python source; it may use the constants by name.
      constants: values of the graph that have no text.

    Example:
      >>> write("double", "def double(x):\n    return times * x", times=2)(21)
      42
    """
    body = "\n".join(f"    {line}" for line in text.splitlines())
    source = f"def make({', '.join(constants)}):\n{body}\n    return {name}\n"
    path = _folder() / f"{name}_{next(_serial)}.py"
    path.write_text(source)
    linecache.checkcache(str(path))
    # The name of a real module: the compiler looks globals up through it.
    scope: dict[str, Any] = {"__name__": __name__}
    exec(compile(source, str(path), "exec"), scope)
    return scope["make"](**constants)


@functools.cache
def _folder() -> Path:
    """The folder of the generated sources, removed when the process ends."""
    folder = Path(tempfile.mkdtemp(prefix="mfunc-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def reach(node: Pattern, text: str) -> list[str]:
    """Return the expressions that reach the traced leaves of a value called `text`, in leaf order.

    Example:
      >>> reach({"b": (SLOT, 1), "a": SLOT}, "p")
      ["p['a']", "p['b'][0]"]
    """
    return [found for found, leaf in _leaves(node, text) if leaf is SLOT]


def reach_all(node: Pattern, text: str, *, as_tuples: bool = False) -> list[str]:
    """Return the expressions that reach all leaves, constants too.

    Args:
      node: the pattern.
      text: the value.
      as_tuples: the value has tuples for dicts, in the order in which these were written.
    """
    return [found for found, _ in _leaves(node, text, as_tuples)]


def _leaves(node: Pattern, text: str, as_tuples: bool = False) -> Iterator[tuple[str, Any]]:
    if isinstance(node, dict):
        places = {key: i if as_tuples else key for i, key in enumerate(node)}
        for key in sorted(node):
            yield from _leaves(node[key], f"{text}[{places[key]!r}]", as_tuples)
    elif type(node) in (tuple, list):
        for i, child in enumerate(node):
            yield from _leaves(child, f"{text}[{i}]", as_tuples)
    elif node is not None:
        yield text, node


def build(node: Pattern, leaf: Callable[[Any], str]) -> str:
    """Return the expression that builds a tree; `leaf` gives the text of each leaf, in leaf order.

    Example:
      >>> names = iter("xyz")
      >>> build({"b": (SLOT,), "a": [SLOT, None]}, lambda _: next(names))
      "{'a': [x, None], 'b': (y,)}"
    """
    if isinstance(node, dict):
        return "{" + listed([f"{key!r}: {build(node[key], leaf)}" for key in sorted(node)]) + "}"
    if type(node) in (tuple, list):
        parts = listed([build(child, leaf) for child in node])
        if isinstance(node, list):
            return f"[{parts}]"
        return f"({parts}{',' if len(node) == 1 else ''})"
    return "None" if node is None else leaf(node)


def listed(parts: Sequence[str]) -> str:
    """Join the parts of a bracket, over several lines where one would be long.

    The compiler looks at the line of every operation: one line of all leaves takes quadratic time.

    Example:
      >>> listed(["a", "b"])
      'a, b'
    """
    return (", " if sum(map(len, parts)) < 80 else ",\n" + " " * 12).join(parts)


def rebuild(
    patterns: list[Pattern], prefix: str = "a"
) -> tuple[list[str], list[str], dict[str, Any]]:
    """Say how trees are built again from flat arguments.

    Args:
      patterns: one for each tree.
      prefix: the flat arguments are `a0, a1, ...`, the constants `a_0, a_1, ...`.

    Returns:
      The names of the flat arguments, an expression for each tree, and the constants.

    Example:
      >>> rebuild([{"w": SLOT, "k": 3}, SLOT])
      (['a0', 'a1'], ["{'k': a_0, 'w': a0}", 'a1'], {'a_0': 3})
    """
    names: list[str] = []
    constants: dict[str, Any] = {}

    def leaf(value: Any) -> str:
        if value is SLOT:
            names.append(f"{prefix}{len(names)}")
            return names[-1]
        name = f"{prefix}_{len(constants)}"
        constants[name] = value
        return name

    return names, [build(node, leaf) for node in patterns], constants


def unchanged(value):  # type: ignore[no-untyped-def]
    """Return the value; for a stage that only looks."""
    return value


def frozen(node: Pattern) -> Any:
    """Return something hashable that two patterns share if and only if one text fits both."""
    leaves, structure = tree.flatten(node)
    return structure, tuple(["*" if leaf is SLOT else (type(leaf), leaf) for leaf in leaves])


# --- what the compiler reads for the functions of `tree` ---


def _write_map(args: list[Seen]) -> Callable[..., Any]:
    """Write `mapped(fn, trees)`: one call a leaf, no loop."""
    patterns = [arg.pattern for arg in args]
    first, *rest = patterns
    structure = tree.flatten(first)[1]
    for i, other in enumerate(rest):
        if tree.flatten(other)[1] != structure:
            said = tree.difference(structure, tree.flatten(other)[1])
            raise ValueError(f"tree.map: tree {i + 1} {said}")
    columns = [reach_all(node, f"trees[{i}]") for i, node in enumerate(patterns)]
    calls = iter([f"fn({listed(group)})" for group in zip(*columns, strict=True)])
    result = build(first, lambda _: next(calls))
    return _written("mapped", f"def mapped(fn, trees):\n    return {result}")


def _write_leaves(args: list[Seen]) -> Callable[..., Any]:
    """Write `taken(node)`: the tuple of its leaves."""
    found = listed([*reach_all(args[0].pattern, "node"), ""])
    return _written("taken", f"def taken(node):\n    return ({found})")


def _write_refill(args: list[Seen]) -> Callable[..., Any]:
    """Write `refilled(leaves)`: the containers of one argument, the leaves of the other."""
    like, found = [arg.pattern for arg in args]
    wanted = len(tree.leaves(like))
    if wanted != len(found):
        raise ValueError(f"tree.refill: the tree has {wanted} leaves, {len(found)} were given")
    texts = iter([f"leaves[{i}]" for i in range(wanted)])
    result = build(like, lambda _: next(texts))
    return _written("refilled", f"def refilled(leaves):\n    return {result}")


def _write_overlay(args: list[Seen]) -> Callable[..., Any]:
    """Write `overlaid(fn, base, patch)`: `tree.overlay` itself, run on texts that reach leaves."""
    base, patch = [arg.pattern for arg in args]
    texts = tree.refill(base, reach_all(base, "base"))

    def call(leaf: str, node: Any) -> str:
        # Down to this place both have the same containers, so the same keys reach it.
        return f"fn({leaf}, patch{leaf.removeprefix('base')})"

    result = build(tree.overlay(call, texts, patch), str)
    return _written("overlaid", f"def overlaid(fn, base, patch):\n    return {result}")


@functools.lru_cache(maxsize=1024)
def _written(name: str, text: str) -> Callable[..., Any]:
    """Write each text once, so that the compiler reads it once."""
    return write(name, text)


_map_stage = Stage(_write_map)
_leaves_stage = Stage(_write_leaves)
_overlay_stage = Stage(_write_overlay)
_refill_stage = Stage(_write_refill)


def _map_in_graph(fn, node, *rest):  # type: ignore[no-untyped-def]
    trees = (node, *rest)
    return _map_stage(*trees)(fn, trees)


def _leaves_in_graph(node):  # type: ignore[no-untyped-def]
    return _leaves_stage(node)(node)


def _refill_in_graph(like, leaves):  # type: ignore[no-untyped-def]
    return _refill_stage(like, leaves)(leaves)


def _overlay_in_graph(fn, base, patch):  # type: ignore[no-untyped-def]
    return _overlay_stage(base, patch)(fn, base, patch)


# The compiler reads what `__wrapped__` names in place of the function itself.
tree.map.__wrapped__ = _map_in_graph  # type: ignore[attr-defined]
tree.leaves.__wrapped__ = _leaves_in_graph  # type: ignore[attr-defined]
tree.overlay.__wrapped__ = _overlay_in_graph  # type: ignore[attr-defined]
tree.refill.__wrapped__ = _refill_in_graph  # type: ignore[attr-defined]
