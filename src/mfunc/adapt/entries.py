"""Entries: what an adapter lays into the layers of a model beside the weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mfunc import staging, tree
from mfunc.staging import Seen, Stage
from mfunc.tree import Tree


def insert(params: Tree, entries: Tree) -> Tree:
    """Add entries to the dicts of a tree.

    Args:
      params: the tree.
      entries: the same containers down to the dicts that get more keys; a key that is missing and
        `None` leave what is there.

    Raises:
      ValueError: `params` has something at a path already, or another container on the way.

    Laws:
      The leaves are those of both trees; `insert(t, None) == t`.

    Example:
      >>> insert({"layers": ({"w": 1},), "head": 2}, {"layers": ({"prefix": 3},)})
      {'head': 2, 'layers': ({'prefix': 3, 'w': 1},)}
    """
    return _insert(params, entries, ())


def _insert(node: Tree, entries: Tree, path: tuple[str, ...]) -> Tree:
    if entries is None:
        return node
    where = "/".join(path) or "the root"
    if isinstance(node, dict) and isinstance(entries, dict):
        merged = {
            key: _insert(node[key], entries[key], (*path, key)) if key in entries else node[key]
            for key in node
        }
        merged |= {key: entries[key] for key in entries if key not in node}
        return {key: merged[key] for key in sorted(merged)}
    if type(node) is not type(entries) or not isinstance(node, (tuple, list)):
        raise ValueError(
            f"adapt: the model has something else at {where}: another container, or an adapter "
            "that is laid already"
        )
    if len(node) != len(entries):
        raise ValueError(
            f"adapt: the adapter has {len(entries)} parts at {where}, the model has {len(node)}"
        )
    pairs = enumerate(zip(node, entries, strict=True))
    return type(node)([_insert(a, b, (*path, str(i))) for i, (a, b) in pairs])


def _write_insert(args: list[Seen]) -> Callable[..., Any]:
    """Write `inserted(params, entries)`: `insert` itself, run on texts that reach leaves."""
    reached = [
        staging.opened(arg.pattern, name)
        for arg, name in zip(args, ("params", "entries"), strict=True)
    ]
    texts = [tree.refill(arg.pattern, its.every) for arg, its in zip(args, reached, strict=True)]
    result = staging.build(insert(*texts), str)
    lines = "".join([its.lines for its in reached])
    return staging.write("inserted", f"def inserted(params, entries):\n{lines}    return {result}")


_insert_stage = Stage(_write_insert)


def _insert_in_graph(params, entries):  # type: ignore[no-untyped-def]
    return _insert_stage(params, entries)(params, entries)


# The compiler reads what `__wrapped__` names in place of the function itself.
insert.__wrapped__ = _insert_in_graph  # type: ignore[attr-defined]


def layers_of(params: Tree, method: str, needs: str) -> tuple[Tree, ...]:
    """Return the layers of a model.

    Args:
      params: a tree of weights or of specs.
      method: who asks, for errors.
      needs: a weight that every layer must have.

    Raises:
      ValueError: there is no tuple `layers` of dicts with this weight.

    Example:
      >>> layers_of({"layers": ({"k": 1}, {"k": 2})}, "prefix", "k")
      ({'k': 1}, {'k': 2})
    """
    layers = params.get("layers", ()) if isinstance(params, dict) else ()
    if not layers or not all(isinstance(layer, dict) and needs in layer for layer in layers):
        raise ValueError(
            f"{method}: the model has no layers with a weight {needs!r}; params must be the tree "
            'of a model family, {"layers": ({...}, ...), ...}, as its specs or its weights'
        )
    return tuple(layers)
