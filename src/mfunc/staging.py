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


class Opened(NamedTuple):
    """How a function reaches into a value: lines of its body, and names of the leaves behind them.

    Attributes:
      lines: each with its indentation and its end.
      every: an expression for each leaf, in leaf order.
      slots: those of the traced leaves.
      spread: the same as `slots` for a call or a tuple, in which all of a container is one starred
        expression: a LLaMA of 32 layers compiles in 3.3 s for 3.9.
    """

    lines: str
    every: list[str]
    slots: list[str]
    spread: list[str]


def opened(node: Pattern, text: str, *, as_tuples: bool = False, down_to: Any = None) -> Opened:
    """Say how the leaves of a value are reached, every container of it once.

    What the compiler spends on one `[...]` grows with all that the container holds, so expressions
    that each begin at the root take quadratic time.

    Args:
      node: the pattern.
      text: the value.
      as_tuples: the value has tuples for dicts, in the order in which these were written.
      down_to: a tree of the same containers; what stands in the place of its leaves is not opened.

    Example:
      >>> found = opened({"b": (SLOT, 1), "a": SLOT}, "p")
      >>> print(found.lines, found.every, found.slots)
          p_0 = p['b']
       ["p['a']", 'p_0[0]', 'p_0[1]'] ["p['a']", 'p_0[0]']
      >>> opened({"a": SLOT, "b": SLOT}, "p").spread
      ['*p.values()']
    """
    lines: list[str] = []
    found: list[tuple[str, Any]] = []
    spread: list[str] = []

    def visit(node: Pattern, like: Any, reached: str, alone: bool = True) -> None:
        if node is None:
            return
        if not isinstance(like, (dict, tuple, list)):
            found.append((reached, node))
            spread.extend([reached] if alone and node is SLOT else [])
            return
        name = reached
        if reached != text:
            name = f"{text}_{len(lines)}"
            lines.append(f"    {name} = {reached}\n")
        keys: list[Any] = list(node) if isinstance(node, dict) else list(range(len(node)))
        together = _are_slots(node) and keys == sorted(keys)
        if together:
            values = ".values()" if isinstance(node, dict) and not as_tuples else ""
            spread.append(f"*{name}{values}")
        for key in sorted(keys):
            place = keys.index(key) if as_tuples else key
            visit(node[key], like[key], f"{name}[{place!r}]", not together)

    visit(node, node if down_to is None else down_to, text)
    slots = [reached for reached, leaf in found if leaf is SLOT]
    return Opened("".join(lines), [reached for reached, _ in found], slots, spread)


def _are_slots(node: Pattern) -> bool:
    """Tell whether a container holds traced leaves, more than one, and nothing else."""
    children = node.values() if isinstance(node, dict) else node
    return len(node) > 1 and all(child is SLOT for child in children)


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
