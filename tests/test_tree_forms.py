"""The functions of `tree` inside of compiled functions."""

from __future__ import annotations

import pytest
from tests.trees import assert_close, tensor

from mfunc import tree
from mfunc.transform import jit


def add(a, b):
    return a + b


def moved(leaf, by):
    return leaf * by["times"] + by["plus"]


def all_four(node, patch):
    mapped = tree.map(add, node, node)
    first, *rest = tree.leaves(mapped)
    return tree.refill(node, [*rest, first]), tree.overlay(moved, node, patch)


def test_compiled_equals_eager():
    x = tensor(3)
    by = {"times": x, "plus": x + 1}
    node = {"b": (x * 2, [x * 3, None]), "a/b": x * 4, "a": {"b": x * 5}}
    patch = {"b": (None, [by, None]), "a/b": None, "a": {"b": by}}
    assert_close(jit(all_four)(node, patch), all_four(node, patch))


def test_a_difference_found_while_compiling_reads_like_python():
    """No C++ in the message, and the function compiles when it is called rightly afterwards."""

    def summed(a, b):
        return tree.map(add, a, b)

    fast, x = jit(summed), tensor(2)
    with pytest.raises(ValueError, match=r"^tree.map: tree 1 has no leaf at layers/0/b") as caught:
        fast({"layers": ({"w": x, "b": x},)}, {"layers": ({"w": x},)})
    assert "mindspore/" not in str(caught.value).split("\n")[0]
    assert_close(fast({"a": x}, {"a": x}), {"a": x + x})
