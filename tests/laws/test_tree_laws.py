"""The laws of trees: taking apart, putting together, mapping, splitting."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from tests.trees import trees

from mfunc import tree

LEAVES = st.integers(-9, 9)
TREES = trees(LEAVES)


def same(a: Any, b: Any) -> bool:
    """Equal, and of the same types all the way down: (1,) == Single(1) would hold otherwise."""
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (tuple, list)):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


def reordered(node: Any) -> Any:
    """The same tree with the keys of every dict the other way round."""
    if isinstance(node, dict):
        return {key: reordered(node[key]) for key in reversed(list(node))}
    if isinstance(node, (tuple, list)):
        children = [reordered(child) for child in node]
        return type(node)(*children) if hasattr(node, "_fields") else type(node)(children)
    return node


@given(TREES)
def test_unflatten_undoes_flatten(node):
    leaves, structure = tree.flatten(node)
    assert same(tree.unflatten(structure, leaves), node)
    assert tree.count(structure) == len(leaves)


@given(TREES)
def test_flatten_undoes_unflatten(node):
    leaves, structure = tree.flatten(node)
    other = [leaf + 100 for leaf in leaves]
    assert tree.flatten(tree.unflatten(structure, other)) == (other, structure)


@given(TREES)
def test_the_order_of_keys_is_irrelevant(node):
    assert tree.flatten(reordered(node)) == tree.flatten(node)
    assert tree.paths(reordered(node)) == tree.paths(node)


@given(TREES, TREES)
def test_equal_structures_mean_equal_containers(a, b):
    """A structure tells apart what differs in containers, and nothing else."""
    (left, one), (right, other) = tree.flatten(a), tree.flatten(b)
    fits = len(left) == len(right) and same(tree.unflatten(one, right), b)
    assert (one == other) == fits
    assert hash(one) == hash(other) or one != other


@given(TREES)
def test_a_path_for_each_leaf(node):
    leaves, structure = tree.flatten(node)
    paths = tree.paths(node)
    assert paths == tree.structure_paths(structure)
    assert len(set(paths)) == len(leaves)
    for path, leaf in zip(paths, leaves, strict=True):
        assert _follow(node, path.split("/") if path else []) == leaf


def _follow(node: Any, keys: list[str]) -> Any:
    if not keys:
        return node
    first, *rest = keys
    if isinstance(node, dict):
        return _follow(node[first], rest)
    return _follow(getattr(node, first) if hasattr(node, "_fields") else node[int(first)], rest)


@given(TREES)
def test_map_of_the_identity(node):
    assert same(tree.map(lambda x: x, node), node)


@given(TREES)
def test_map_of_a_composition(node):
    def double(x: int) -> int:
        return 2 * x

    def next_one(x: int) -> int:
        return x + 1

    inside = tree.map(next_one, node)
    assert same(tree.map(double, inside), tree.map(lambda x: double(next_one(x)), node))


@given(TREES)
def test_map_over_two_trees_pairs_leaves(node):
    paired = tree.map(lambda a, b: (a, b), node, tree.map(lambda x: x * 10, node))
    assert [*tree.leaves(paired)] == [y for x in tree.leaves(node) for y in (x, x * 10)]


@given(TREES, st.sets(LEAVES))
def test_combine_undoes_partition(node, kept):
    sides = tree.partition(lambda _, leaf: leaf in kept, node)
    assert same(tree.combine(*sides), node)
    assert same(tree.combine(*reversed(sides)), node)


@given(TREES, st.sets(LEAVES))
def test_a_partition_shares_out_the_leaves(node, kept):
    taken, left = tree.partition(lambda _, leaf: leaf in kept, node)
    assert list(tree.leaves(taken)) == [leaf for leaf in tree.leaves(node) if leaf in kept]
    assert list(tree.leaves(left)) == [leaf for leaf in tree.leaves(node) if leaf not in kept]


@given(TREES)
def test_overlay_of_nothing(node):
    assert same(tree.overlay(lambda leaf, patch: 1 / 0, node, None), node)
    nothing = tree.map(lambda _: None, node)
    assert same(tree.overlay(lambda leaf, patch: 1 / 0, node, nothing), node)


@given(TREES, st.sets(LEAVES))
def test_overlay_changes_what_the_patch_names(node, chosen):
    """A patch of whole trees at some leaves is the map of a function that looks at the leaf."""
    patch = tree.map(lambda x: {"by": (x, 1)} if x in chosen else None, node)
    seen = tree.overlay(lambda leaf, by: leaf + 100 * by["by"][1] + by["by"][0], node, patch)
    assert same(seen, tree.map(lambda x: 2 * x + 100 if x in chosen else x, node))


@given(TREES)
def test_refill_is_unflatten_by_example(node):
    values = [leaf + 100 for leaf in tree.leaves(node)]
    assert same(tree.refill(node, values), tree.map(lambda x: x + 100, node))
