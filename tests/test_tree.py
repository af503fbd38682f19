from __future__ import annotations

from collections import OrderedDict, namedtuple

import numpy as np
import pytest
from tests.trees import Pair, Single, assert_close, tensor

from mfunc import tree
from mfunc.transform import jit


def test_leaves_come_in_sorted_key_order():
    node = {"b": (1, [2, None]), "a": Pair({"z": 3, "y": 4}, ()), "c": {}}
    assert list(tree.leaves(node)) == [4, 3, 1, 2]
    assert tree.paths(node) == ["a/left/y", "a/left/z", "b/0", "b/1/0"]


@pytest.mark.parametrize("node", [7, "word", np.ones(2), {1, 2}, range(3)])
def test_everything_else_is_a_leaf(node):
    assert tree.flatten(node) == ([node], tree.LEAF)
    assert tree.paths(node) == [""]


@pytest.mark.parametrize("node", [None, {}, [], (), {"a": None, "b": ((), [])}])
def test_nodes_without_leaves(node):
    leaves, structure = tree.flatten(node)
    assert leaves == []
    assert tree.count(structure) == 0
    assert tree.unflatten(structure, []) == node


def test_containers_are_told_apart():
    nodes = [(1,), [1], {"0": 1}, Single(1), 1, ((1,),), (1, None), {"left": 1}]
    structures = [tree.flatten(node)[1] for node in nodes]
    assert len(set(structures)) == len(nodes)


def test_two_namedtuples_of_one_name_are_told_apart():
    one, other = namedtuple("State", "a b"), namedtuple("State", "a b")
    assert tree.flatten(one(1, 2))[1] != tree.flatten(other(1, 2))[1]


def test_a_key_that_is_no_string_is_refused():
    with pytest.raises(TypeError, match=r"^tree: dict key 3 is int; keys are strings$"):
        tree.flatten({"a": [{3: 1}]})


def test_a_subclass_of_dict_is_refused():
    with pytest.raises(TypeError, match=r"^tree: a node is a OrderedDict; use a plain dict$"):
        tree.flatten((OrderedDict(a=1),))


@pytest.mark.parametrize(("leaves", "said"), [([1], "fewer"), ([], "fewer"), ([1, 2, 3], "more")])
def test_unflatten_counts_the_leaves(leaves, said):
    structure = tree.flatten({"a": 0, "b": (0,)})[1]
    with pytest.raises(ValueError, match=f"the structure has 2 leaves, {said} were given"):
        tree.unflatten(structure, leaves)
    with pytest.raises(ValueError, match=f"2 leaves, {said} were given"):
        tree.refill({"a": 0, "b": (0,)}, leaves)


MISMATCHES = [
    ({"a": 1, "b": {"c": 2}}, {"a": 1, "b": {}}, "has no leaf at b/c"),
    ({"a": 1}, {"a": 1, "c": (2,)}, "has an extra leaf at c/0"),
    ((1, 2), [1, 2], "has the same paths but other containers"),
    ({"a": (1, None)}, {"a": (1,)}, "has the same paths but other containers"),
    (1, (1,), "has no leaf at the root"),
    ({}, 1, "has an extra leaf at the root"),
]


@pytest.mark.parametrize(("node", "other", "said"), MISMATCHES)
def test_map_says_where_structures_differ(node, other, said):
    with pytest.raises(ValueError, match=f"^tree.map: tree 2 {said}"):
        tree.map(lambda a, b, c: a, node, node, other)


def test_map_may_return_trees():
    assert tree.map(lambda x: (x, None), {"a": 1, "b": [2]}) == {"a": (1, None), "b": [(2, None)]}


def test_map_changes_nothing_in_place():
    node = {"a": [1, 2], "b": {"c": 3}}
    tree.map(lambda x: x + 1, node)
    tree.partition(lambda *_: True, node)
    assert node == {"a": [1, 2], "b": {"c": 3}}


def test_partition_sees_paths():
    node = {"layers": ({"w": 1, "b": 2}, {"w": 3, "b": 4})}
    taken, left = tree.partition(lambda path, leaf: path.startswith("layers/1") and leaf < 4, node)
    assert taken == {"layers": ({"w": None, "b": None}, {"w": 3, "b": None})}
    assert left == {"layers": ({"w": 1, "b": 2}, {"w": None, "b": 4})}


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        ({"a": (1, 2)}, {"a": (None, 3)}, "both trees have something at a/1; one must be None"),
        (1, 2, "both trees have something at the root"),
        ({"a": [1]}, {"a": (None,)}, "both trees have something at a; one must be None"),
        ({"a": 1}, {"b": 1}, r"the keys at the root differ: \['a', 'b'\]"),
        ({"x": {"a": 1}}, {"x": {"a": None, "b": 1}}, r"the keys at x differ: \['b'\]"),
        ([1, 2], [None], "2 and 1 children at the root"),
    ],
)
def test_combine_refuses_what_does_not_fit(first, second, said):
    with pytest.raises(ValueError, match=f"^tree.combine: {said}"):
        tree.combine(first, second)


@pytest.mark.parametrize(
    ("base", "patch", "said"),
    [
        ({"a": (1, 2)}, {"a": [1, 2]}, "another container than the base at a$"),
        ((1, 2), (1,), "another container than the base at the root"),
        ({"a": {"b": 1}}, {"a": {"c": 1}}, r"the keys at a differ: \['b', 'c'\]"),
    ],
)
def test_overlay_refuses_what_does_not_fit(base, patch, said):
    with pytest.raises(ValueError, match=f"^tree.overlay: .*{said}"):
        tree.overlay(lambda leaf, by: leaf, base, patch)


# --- inside a compiled function: the same functions, other code ---


def half(x):
    return x * 0.5


def minus(a, b):
    return a - 2.0 * b


def add_all(leaf, by):
    return leaf + by["add"]


def mapped(node):
    return tree.map(half, node)


def mapped_two(node, other):
    return tree.map(minus, node, other)


def listed(node):
    return tree.leaves(node)


def refilled(node):
    return tree.refill(node, tree.leaves(mapped(node)))


def overlaid(node, patch):
    return tree.overlay(add_all, node, patch)


X, Y, Z = tensor(2, seed=1), tensor(2, seed=2), tensor(2, seed=3)
GRAPH_ZOO = {
    "leaf": X,
    "dict": {"b": X, "a": Y},
    "tuple": (X,),
    "list": [X, Y],
    "nested": {"layers": ({"w": X, "b": None}, {"w": Y, "b": None}), "head": [Z, ()], "e": {}},
    "none": None,
    "empty": {},
}


@pytest.mark.parametrize("node", GRAPH_ZOO.values(), ids=GRAPH_ZOO.keys())
def test_the_graph_sees_the_same_trees(node):
    """Each function of trees, compiled, on each tree: what it gives outside."""

    def everything(node):
        return mapped(node), mapped_two(node, mapped(node)), listed(node), refilled(node)

    assert_close(jit(everything)(node), everything(node))


def test_overlay_in_a_graph():
    base = GRAPH_ZOO["nested"]
    patch = {
        "layers": ({"w": None, "b": None}, {"w": {"add": Z}, "b": None}),
        "head": None,
        "e": {},
    }
    assert_close(jit(overlaid)(base, patch), overlaid(base, patch))


@pytest.mark.parametrize(("node", "other", "said"), MISMATCHES)
def test_a_mismatch_in_a_graph_is_said_in_the_same_words(node, other, said):
    node, other = tree.map(lambda _: X, node), tree.map(lambda _: X, other)
    with pytest.raises(ValueError, match=f"^tree.map: tree 1 {said}"):
        jit(mapped_two)(node, other)
