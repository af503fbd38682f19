"""Forms: a function that Python runs as it is, and that a graph reads as code written for it.

What `depth`, `custom` and `batching` share: flat tensors in, the traced leaves of the result out,
and the tree of them built again behind the border.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from mfunc import staging, tree
from mfunc.staging import SLOT, Pattern, Seen, Stage


def write_slots(node: Pattern) -> Callable[..., Any]:
    """Write `taken(out)`: the tuple of the traced leaves of a tree.

    Example:
      >>> write_slots({"b": SLOT, "a": (SLOT, 3)})({"b": 1, "a": (2, 3)})
      (2, 1)
    """
    found = staging.opened(node, "out")
    parts = staging.listed([*found.spread, ""])
    return staging.write("taken", f"def taken(out):\n{found.lines}    return ({parts})")


def write_tree(
    node: Pattern, texts: Sequence[str] | None = None, **constants: Any
) -> Callable[..., Any]:
    """Write `built(flat)`: a tree of the tuple that `write_slots` takes.

    Args:
      node: its pattern.
      texts: an expression for each traced leaf; by default `flat[0], flat[1], ...`.
      constants: what the texts use.

    Example:
      >>> write_tree({"b": SLOT, "a": (SLOT, 3)})((2, 1))
      {'a': (2, 3), 'b': 1}
    """
    leaves = tree.leaves(node)
    slots = iter(texts if texts is not None else [f"flat[{i}]" for i in range(len(leaves))])
    fixed = {f"constant{i}": leaf for i, leaf in enumerate(leaves) if leaf is not SLOT}
    names = iter(fixed)
    text = staging.build(node, lambda leaf: next(slots if leaf is SLOT else names))
    return staging.write("built", f"def built(flat):\n    return {text}", **constants, **fixed)


def for_graphs(
    fn: Callable[..., Any], write: Callable[[list[Pattern], list[Any]], Callable[..., Any]]
) -> Callable[..., Any]:
    """Return a function that is `fn` in Python and, in a graph, what `write` makes of it.

    Args:
      fn: takes trees by position.
      write: `(patterns, dtypes of the traced leaves) -> call(args)`; asked once for each of these.
    """
    written: dict[Any, Callable[..., Any]] = {}

    def write_once(seen: list[Seen]) -> Callable[..., Any]:
        patterns = [arg.pattern for arg in seen]
        kinds = [kind for arg in seen for kind in staging.dtypes(arg)]
        key = staging.frozen(patterns), tuple(map(str, kinds))
        if key not in written:
            written[key] = write(patterns, kinds)
        return written[key]

    stage = Stage(write_once)

    def in_graph(*args):  # type: ignore[no-untyped-def]
        return stage(*args)(args)

    @functools.wraps(fn)
    def call(*args: Any) -> Any:
        return fn(*args)

    call.__wrapped__ = in_graph
    return call
