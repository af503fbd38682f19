"""What the compiler reads for the functions of `tree`: code without loops, for just these trees."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from mfunc import staging, tree
from mfunc.staging import Seen, Stage, listed


def _write_map(args: list[Seen]) -> Callable[..., Any]:
    """Write `mapped(fn, trees)`: one call a leaf, no loop."""
    patterns = [arg.pattern for arg in args]
    first, *rest = patterns
    structure = tree.flatten(first)[1]
    for i, other in enumerate(rest):
        if tree.flatten(other)[1] != structure:
            said = tree.difference(structure, tree.flatten(other)[1])
            raise ValueError(f"tree.map: tree {i + 1} {said}")
    whole = staging.opened(tuple(patterns), "trees")
    size = len(whole.every) // len(patterns)
    columns = [whole.every[i * size : (i + 1) * size] for i in range(len(patterns))]
    calls = iter([f"fn({listed(group)})" for group in zip(*columns, strict=True)])
    result = staging.build(first, lambda _: next(calls))
    return _written("mapped", f"def mapped(fn, trees):\n{whole.lines}    return {result}")


def write_leaves(args: list[Seen], *, as_tuples: bool = False) -> Callable[..., Any]:
    """Write `taken(node)`: the tuple of its leaves; `as_tuples` as `staging.opened`."""
    found = staging.opened(args[0].pattern, "node", as_tuples=as_tuples)
    parts = found.spread if found.slots == found.every else found.every
    text = f"def taken(node):\n{found.lines}    return ({listed([*parts, ''])})"
    return _written("taken", text)


def _write_refill(args: list[Seen]) -> Callable[..., Any]:
    """Write `refilled(leaves)`: the containers of one argument, the leaves of the other."""
    like, found = [arg.pattern for arg in args]
    wanted = len(tree.leaves(like))
    if wanted != len(found):
        raise ValueError(f"tree.refill: the tree has {wanted} leaves, {len(found)} were given")
    texts = iter([f"leaves[{i}]" for i in range(wanted)])
    result = staging.build(like, lambda _: next(texts))
    return _written("refilled", f"def refilled(leaves):\n    return {result}")


def _write_overlay(args: list[Seen]) -> Callable[..., Any]:
    """Write `overlaid(fn, base, patch)`: `tree.overlay` itself, run on texts that reach leaves."""
    base, patch = [arg.pattern for arg in args]
    leaves = staging.opened(base, "base")
    texts = tree.refill(base, leaves.every)
    tree.overlay(lambda *_: None, texts, patch)  # raises where they differ
    changes = staging.opened(patch, "patch", down_to=base)
    changed = iter(changes.every)
    calls = tree.overlay(lambda leaf, _: f"fn({leaf}, {next(changed)})", texts, patch)
    result = staging.build(calls, str)
    text = f"def overlaid(fn, base, patch):\n{leaves.lines}{changes.lines}    return {result}"
    return _written("overlaid", text)


@functools.lru_cache(maxsize=1024)
def _written(name: str, text: str) -> Callable[..., Any]:
    """Write each text once, so that the compiler reads it once."""
    return staging.write(name, text)


_map_stage = Stage(_write_map)
_leaves_stage = Stage(write_leaves)
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
