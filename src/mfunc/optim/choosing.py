"""Which leaves something is done to: said by path, decided before anything is compiled.

What is decided is a constant of the graph, so a mask costs no operator.
"""

from __future__ import annotations

import fnmatch
import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from mfunc import staging, tree
from mfunc.staging import Seen, Stage, listed
from mfunc.tree import Tree

# Patterns of paths (`*` stands for anything), or a function of a path.
Mask = str | Sequence[str] | Callable[[str], bool]

# `(paths, shapes) -> a constant for each leaf`.
Rule = Callable[[list[str], list[tuple[int, ...]]], Sequence[Any]]

_written = functools.lru_cache(maxsize=256)(staging.write)  # read by the compiler once


def all_but(*patterns: str) -> Callable[[str], bool]:
    """Return a mask that takes every path that no pattern matches.

    A pattern may match nothing, so one mask serves models with biases and models without.

    Example:
      >>> mask = all_but("*norm*", "*bias")
      >>> [mask(path) for path in ("layers/0/q", "layers/0/q_bias", "norm")]
      [True, False, False]
    """

    def takes(path: str) -> bool:
        return not any(fnmatch.fnmatchcase(path, pattern) for pattern in patterns)

    return takes


def taken(name: str, mask: Mask, paths: Sequence[str]) -> list[bool]:
    """Return for each path whether a mask takes it.

    Args:
      name: who asks, for an error.
      mask: patterns, each of which must match a path, or a function of a path.
      paths: of all leaves.

    Raises:
      ValueError: a pattern matches no path.
      TypeError: the function answers neither `True` nor `False`.

    Example:
      >>> taken("masked", ("*/w",), ["a/w", "a/b"])
      [True, False]
    """
    if callable(mask):
        answers = [mask(path) for path in paths]
        for path, answer in zip(paths, answers, strict=True):
            if not isinstance(answer, (bool, np.bool_)):
                raise TypeError(
                    f"{name}: the mask says {answer!r} of {path!r}; it must say True or False"
                )
        return [bool(answer) for answer in answers]
    patterns = [mask] if isinstance(mask, str) else list(mask)
    for pattern in patterns:
        if not fnmatch.filter(paths, pattern):
            raise ValueError(
                f"{name}: pattern {pattern!r} matches no parameter; paths look like {some(paths)}"
            )
    return [any(fnmatch.fnmatchcase(path, pattern) for pattern in patterns) for path in paths]


def some(paths: Sequence[str]) -> str:
    """Return a few paths, for an error."""
    return ", ".join(paths[:3]) + (", ..." if len(paths) > 3 else "")


def decided(rule: Rule) -> Callable[[Tree], tuple[Any, ...]]:
    """Return a function of a tree that gives what a rule says of its leaves, in leaf order.

    In a graph, too: there the rule runs while it is compiled.

    Args:
      rule: gives numbers.

    Example:
      >>> from mindspore import Tensor
      >>> ranks = decided(lambda paths, shapes: [len(shape) for shape in shapes])
      >>> ranks({"w": Tensor([[1.0]]), "b": Tensor([1.0])})
      (1, 2)
    """

    def write(seen: list[Seen]) -> Callable[..., Any]:
        values = rule(tree.paths(seen[0].pattern), staging.shapes(seen[0]))
        return _written("said", f"def said():\n    return ({listed([*map(repr, values), ''])})")

    stage = Stage(write)

    def in_graph(node):  # type: ignore[no-untyped-def]
        return stage(node)()

    def said(node: Tree) -> tuple[Any, ...]:
        return tuple(rule(tree.paths(node), [leaf.shape for leaf in tree.leaves(node)]))

    said.__wrapped__ = in_graph  # type: ignore[attr-defined]
    return said


def decays(name: str, weight_decay: float, mask: Mask | None) -> Callable[[Tree], tuple[float]]:
    """Return a function of parameters that gives the weight decay of each leaf: all of it, or 0."""

    def rule(paths: list[str], shapes: list[tuple[int, ...]]) -> list[float]:
        chosen = [True] * len(paths) if mask is None else taken(name, mask, paths)
        return [float(weight_decay) if yes else 0.0 for yes in chosen]

    return decided(rule)


# --- groups of leaves ---


def part(node: Tree, labels: Sequence[int], label: int) -> Tree:
    """Return the leaves of one label in their places, `None` in those of the others.

    Args:
      node: a tree.
      labels: one for each of its leaves, in leaf order; in a graph a constant.
      label: of the leaves that stay.

    Raises:
      ValueError: there are more or fewer labels than leaves.

    Example:
      >>> part({"a": 1, "b": (2, 3)}, (0, 1, 0), 0)
      {'a': 1, 'b': (None, 3)}
    """
    leaves, structure = tree.flatten(node)
    _check_count(leaves, labels)
    pairs = zip(leaves, labels, strict=True)
    return tree.unflatten(structure, [leaf if its == label else None for leaf, its in pairs])


def merged(labels: Sequence[int], parts: Sequence[Sequence[Any]]) -> tuple[Any, ...]:
    """Join the leaves of all parts in the order of the whole.

    Args:
      labels: one for each leaf of the whole.
      parts: for each label the leaves of its part, in leaf order.

    Example:
      >>> merged((0, 1, 0), ((1, 3), (2,)))
      (1, 2, 3)
    """
    return tuple([parts[i][j] for i, j in _places(labels)])


def _places(labels: Sequence[int]) -> list[tuple[int, int]]:
    """Return for each leaf its part, and its number in it."""
    counts = {label: itertools.count() for label in labels}
    return [(label, next(counts[label])) for label in labels]


def _check_count(leaves: Sequence[Any], labels: Sequence[int]) -> None:
    if len(leaves) != len(labels):
        raise ValueError(
            f"optim: a tree of {len(leaves)} leaves was given for {len(labels)} parameters"
        )


def _write_part(seen: list[Seen]) -> Callable[..., Any]:
    """Write `chosen(node)`: the containers, some leaves."""
    node, labels, label = [arg.pattern for arg in seen]
    found = staging.opened(node, "node")
    _check_count(found.every, labels)
    pairs = zip(found.every, labels, strict=True)
    texts = iter([text if its == label else "None" for text, its in pairs])
    result = staging.build(node, lambda _: next(texts))
    return _written("chosen", f"def chosen(node):\n{found.lines}    return {result}")


def _write_merged(seen: list[Seen]) -> Callable[..., Any]:
    """Write `joined(parts)`: a tuple of all leaves."""
    texts = [f"parts[{i}][{j}]" for i, j in _places(seen[0].pattern)]
    return _written("joined", f"def joined(parts):\n    return ({listed([*texts, ''])})")


_part_stage = Stage(_write_part)
_merged_stage = Stage(_write_merged)


def _part_in_graph(node, labels, label):  # type: ignore[no-untyped-def]
    return _part_stage(node, labels, label)(node)


def _merged_in_graph(labels, parts):  # type: ignore[no-untyped-def]
    return _merged_stage(labels, parts)(parts)


part.__wrapped__ = _part_in_graph  # type: ignore[attr-defined]
merged.__wrapped__ = _merged_in_graph  # type: ignore[attr-defined]
