"""Trees: nested dicts, lists, tuples and NamedTuples; everything else is a leaf.

`None` is a node without leaves. The keys of a dict are strings and their order never matters:
leaves come in sorted key order. A *structure* is a tree with its leaves taken out: a nested tuple,
hashable, comparable. A *path* names a leaf: keys and indices joined by "/" (`"layers/0/q"`).

`map`, `leaves`, `refill` and `overlay` also work inside a compiled function: `tree_forms` writes
what the compiler reads.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable, Iterator, Sequence
from typing import Any

Tree = Any
Structure = Any

LEAF = "*"


def flatten(tree: Tree) -> tuple[list[Any], Structure]:
    """Take a tree apart into its leaves and its structure.

    Returns:
      The leaves in order, and the hashable structure that `unflatten` needs.

    Raises:
      TypeError: a dict key is not a string, or a dict is of a subclass.

    Laws:
      `unflatten(*reversed(flatten(t))) == t`; the order of dict keys is irrelevant.

    Example:
      >>> leaves, structure = flatten({"b": (1, None), "a": [2]})
      >>> leaves
      [2, 1]
      >>> unflatten(structure, leaves)
      {'a': [2], 'b': (1, None)}
    """
    leaves: list[Any] = []
    return leaves, _take(tree, leaves)


def _take(node: Tree, leaves: list[Any]) -> Structure:
    """Append the leaves of `node` and return its structure."""
    kind = type(node)
    if kind is dict:
        keys = _sorted_keys(node)
        return (dict, keys, tuple([_take(node[key], leaves) for key in keys]))
    if kind is tuple or kind is list:
        return (kind, None, tuple([_take(child, leaves) for child in node]))
    if node is None:
        return None
    if _is_namedtuple(node):
        return (kind, node._fields, tuple([_take(child, leaves) for child in node]))
    if isinstance(node, dict):
        raise TypeError(f"tree: a node is a {kind.__name__}; use a plain dict")
    leaves.append(node)
    return LEAF


def _sorted_keys(node: dict[str, Tree]) -> tuple[str, ...]:
    for key in node:
        if type(key) is not str:
            raise TypeError(f"tree: dict key {key!r} is {type(key).__name__}; keys are strings")
    return tuple(sorted(node))


def _is_namedtuple(node: Tree) -> bool:
    return isinstance(node, tuple) and hasattr(node, "_fields")


def unflatten(structure: Structure, leaves: Any) -> Tree:
    """Put leaves back into a structure; the inverse of `flatten`.

    Raises:
      ValueError: too few or too many leaves.

    Example:
      >>> unflatten(flatten({"a": 0, "b": (0,)})[1], ["x", "y"])
      {'a': 'x', 'b': ('y',)}
    """
    supply = iter(leaves)
    try:
        tree = _put(structure, supply)
    except StopIteration:
        raise ValueError(
            f"tree.unflatten: the structure has {count(structure)} leaves, fewer were given"
        ) from None
    if next(supply, LEAF) is not LEAF:
        raise ValueError(
            f"tree.unflatten: the structure has {count(structure)} leaves, more were given"
        )
    return tree


def _put(structure: Structure, supply: Iterator[Any]) -> Tree:
    """Build the node of `structure`, drawing its leaves from `supply`."""
    if structure is LEAF:
        return next(supply)
    if structure is None:
        return None
    kind, keys, children = structure
    if kind is dict:
        return {key: _put(child, supply) for key, child in zip(keys, children, strict=True)}
    nodes = [_put(child, supply) for child in children]
    return kind(nodes) if kind in (tuple, list) else kind(*nodes)


def count(structure: Structure) -> int:
    """Return the number of leaves of a structure.

    Example:
      >>> count(flatten({"a": 1, "b": (2, None)})[1])
      2
    """
    if structure is LEAF:
        return 1
    return 0 if structure is None else sum(builtins.map(count, structure[2]))


def leaves(tree: Tree) -> tuple[Any, ...]:
    """Return the leaves of a tree in order.

    Example:
      >>> leaves({"b": 1, "a": (2, 3)})
      (2, 3, 1)
    """
    return tuple(flatten(tree)[0])


def refill(like: Tree, leaves: Sequence[Any]) -> Tree:
    """Put leaves into the containers of another tree.

    Args:
      like: gives the containers.
      leaves: as many as it has, in its order.

    Laws:
      `refill(t, leaves(t)) == t`.

    Example:
      >>> refill({"b": (0,), "a": 0}, [1, 2])
      {'a': 1, 'b': (2,)}
    """
    return unflatten(flatten(like)[1], leaves)


def paths(tree: Tree) -> list[str]:
    """Return the path of every leaf, in the order of `leaves`.

    Example:
      >>> paths({"layers": ({"w": 0}, {"w": 0}), "embed": 0})
      ['embed', 'layers/0/w', 'layers/1/w']
    """
    return ["/".join(path) for path in _walk(flatten(tree)[1], ())]


def structure_paths(structure: Structure) -> list[str]:
    """Return the path of every leaf of a structure; `paths` for a tree whose leaves are gone.

    Example:
      >>> structure_paths(flatten({"a": (1, 2)})[1])
      ['a/0', 'a/1']
    """
    return ["/".join(path) for path in _walk(structure, ())]


def _walk(structure: Structure, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """Yield the keys that lead to each leaf."""
    if structure is LEAF:
        yield path
    elif structure is not None:
        _, keys, children = structure
        for i, child in enumerate(children):
            yield from _walk(child, (*path, keys[i] if keys else str(i)))


def map(fn: Callable[..., Any], tree: Tree, *rest: Tree) -> Tree:
    """Apply `fn` to the leaves of trees that share one structure.

    Args:
      fn: takes one leaf of each tree.
      tree: gives the structure of the result.
      rest: more trees of the same structure.

    Raises:
      ValueError: the structures differ; the first path that does is named.

    Laws:
      `map(identity, t) == t`; `map(f, map(g, t)) == map(f . g, t)`.

    Example:
      >>> map(lambda a, b: a + b, {"w": 1, "b": (2,)}, {"w": 10, "b": (20,)})
      {'b': (22,), 'w': 11}
    """
    first, structure = flatten(tree)
    others = []
    for i, other in enumerate(rest):
        more, its_structure = flatten(other)
        if its_structure != structure:
            raise ValueError(f"tree.map: tree {i + 1} {difference(structure, its_structure)}")
        others.append(more)
    return unflatten(structure, [fn(*group) for group in zip(first, *others, strict=True)])


def difference(expected: Structure, seen: Structure) -> str:
    """Say where two structures first differ, in words for an error message.

    Example:
      >>> difference(flatten({"a": 1, "b": 2})[1], flatten({"a": 1})[1])
      'has no leaf at b'
      >>> difference(flatten({"a": 1})[1], flatten({"a": 1, "c": (2,)})[1])
      'has an extra leaf at c/0'
    """
    wanted, found = structure_paths(expected), structure_paths(seen)
    missing = [path for path in wanted if path not in set(found)]
    extra = [path for path in found if path not in set(wanted)]
    if missing:
        return f"has no leaf at {missing[0] or 'the root'}"
    if extra:
        return f"has an extra leaf at {extra[0] or 'the root'}"
    return "has the same paths but other containers (tuple, list, dict or NamedTuple)"


def partition(keep: Callable[[str, Any], bool], tree: Tree) -> tuple[Tree, Tree]:
    """Split a tree in two of the same containers: leaves that `keep(path, leaf)` takes, and others.

    A leaf that went to one side is `None` on the other, so each side is a tree of its own.

    Laws:
      `combine(*partition(keep, t)) == t`.

    Example:
      >>> partition(lambda path, leaf: path.endswith("w"), {"w": 1, "b": 2})
      ({'b': None, 'w': 1}, {'b': 2, 'w': None})
    """
    values, structure = flatten(tree)
    chosen = [
        keep(path, leaf) for path, leaf in zip(structure_paths(structure), values, strict=True)
    ]
    taken = [leaf if ok else None for leaf, ok in zip(values, chosen, strict=True)]
    left = [None if ok else leaf for leaf, ok in zip(values, chosen, strict=True)]
    return unflatten(structure, taken), unflatten(structure, left)


def combine(first: Tree, second: Tree) -> Tree:
    """Put two sides of a `partition` together again.

    Raises:
      ValueError: both sides have a leaf at one path, or the containers differ.

    Example:
      >>> combine({"w": 1, "b": None}, {"w": None, "b": 2})
      {'b': 2, 'w': 1}
    """
    return _merge(first, second, ())


def _merge(first: Tree, second: Tree, path: tuple[str, ...]) -> Tree:
    if first is None or second is None:
        return second if first is None else first
    where = "/".join(path) or "the root"
    if type(first) is not type(second) or not isinstance(first, (dict, tuple, list)):
        raise ValueError(f"tree.combine: both trees have something at {where}; one must be None")
    if isinstance(first, dict):
        if first.keys() != second.keys():
            raise ValueError(
                f"tree.combine: the keys at {where} differ: {sorted(first.keys() ^ second.keys())}"
            )
        return {key: _merge(first[key], second[key], (*path, key)) for key in sorted(first)}
    if len(first) != len(second):
        raise ValueError(f"tree.combine: {len(first)} and {len(second)} children at {where}")
    pairs = enumerate(zip(first, second, strict=True))
    nodes = [_merge(a, b, (*path, str(i))) for i, (a, b) in pairs]
    return type(first)(*nodes) if _is_namedtuple(first) else type(first)(nodes)


def overlay(fn: Callable[[Any, Tree], Any], base: Tree, patch: Tree) -> Tree:
    """Change the leaves of `base` for which `patch` has something: `fn(leaf, node of the patch)`.

    Args:
      fn: takes a leaf and what the patch has in its place (a leaf or a whole tree).
      base: any tree.
      patch: the same containers down to the places that change; `None` keeps all below it.

    Raises:
      ValueError: the patch has a container where the base has another one.

    Laws:
      `overlay(f, t, None) == t`.

    Example:
      >>> overlay(lambda w, by: w + by["add"], {"w": 1, "b": 2}, {"w": {"add": 10}, "b": None})
      {'b': 2, 'w': 11}
    """
    return _overlay(fn, base, patch, ())


def _overlay(
    fn: Callable[[Any, Tree], Any], base: Tree, patch: Tree, path: tuple[str, ...]
) -> Tree:
    if patch is None:
        return base
    if not isinstance(base, (dict, tuple, list)):
        return fn(base, patch)
    where = "/".join(path) or "the root"
    if type(patch) is not type(base) or len(patch) != len(base):
        raise ValueError(f"tree.overlay: the patch has another container than the base at {where}")
    if isinstance(base, dict):
        if set(base) != set(patch):
            raise ValueError(
                f"tree.overlay: the keys at {where} differ: {sorted(set(base) ^ set(patch))}"
            )
        return {key: _overlay(fn, base[key], patch[key], (*path, key)) for key in sorted(base)}
    pairs = enumerate(zip(base, patch, strict=True))
    nodes = [_overlay(fn, a, b, (*path, str(i))) for i, (a, b) in pairs]
    return type(base)(*nodes) if _is_namedtuple(base) else type(base)(nodes)
