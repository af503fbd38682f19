"""What the transforms with code of their own share."""

from __future__ import annotations

import pytest
from tests.trees import assert_close, tensor

from mfunc import forms, staging
from mfunc.staging import SLOT
from mfunc.transform import jit

RESULTS = {
    "leaf": 1,
    "constants between": {"b": (1, "tanh", None), "a": [2, {"z": 3}]},
    "ten and nine": {"10": 1, "9": (2,)},
}


def pattern_of(node):
    """Whole numbers stand for traced values, all else for constants."""
    if isinstance(node, dict):
        return {key: pattern_of(child) for key, child in node.items()}
    if isinstance(node, (tuple, list)):
        return type(node)([pattern_of(child) for child in node])
    return SLOT if isinstance(node, int) else node


@pytest.mark.parametrize("name", RESULTS)
def test_a_tree_taken_apart_is_built_again(name):
    node = RESULTS[name]
    pattern = pattern_of(node)
    assert forms.write_tree(pattern)(forms.write_slots(pattern)(node)) == node


def test_texts_stand_in_for_the_leaves():
    double = forms.write_tree({"a": SLOT, "b": 7}, ["times * flat[0]"], times=2)
    assert double((21,)) == {"a": 42, "b": 7}


def scaled(node, by):
    return node["x"] * by


def test_each_set_of_containers_and_dtypes_is_written_once():
    asked = []

    def write(patterns, kinds):
        asked.append((patterns, [str(kind) for kind in kinds]))
        passed = staging.opened(tuple(patterns), "args")
        text = f"def call(args):\n{passed.lines}    return fn({passed.slots[0]})"
        return staging.write("call", text, fn=tripled)

    both = forms.for_graphs(scaled, write)

    def twice(x):
        return both({"x": x}, 2.0) + both({"x": x * 1.0}, 2.0)

    x = tensor(3)
    assert_close(both({"x": x}, 2.0), x * 2.0)
    assert_close(jit(twice)(x), x * 6.0, rtol=1e-6)
    assert asked == [([{"x": SLOT}, 2.0], ["Float32"])]


def tripled(x):
    return x * 3.0
