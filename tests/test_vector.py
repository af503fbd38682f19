"""`ravel` and `unravel`, operation by operation and compiled."""

from __future__ import annotations

import mindspore as ms
import numpy as np
import pytest
from tests.trees import assert_close, tensor

from mfunc import tree
from mfunc.transform import jit
from mfunc.vector import ravel, unravel

TREES = {
    "leaf": tensor(2, 3),
    "number": tensor(),
    "nested": {"b": (tensor(2, 3), {"z": tensor(4)}), "a": [tensor(), None, tensor(1, 1)]},
    "ten and nine": {"10": tensor(2, seed=1), "9": tensor(2, seed=2)},
}


def scaled(node):
    return unravel(node, ravel(node) * 2.0)


@pytest.mark.parametrize("way", ["eager", "compiled"])
@pytest.mark.parametrize("name", TREES)
def test_joined_in_leaf_order_and_cut_again(name, way):
    node = TREES[name]
    joined, both = (jit(ravel), jit(scaled)) if way == "compiled" else (ravel, scaled)
    wanted = np.concatenate([leaf.asnumpy().reshape(-1) for leaf in tree.leaves(node)])
    assert_close(joined(node), ms.Tensor(wanted))
    assert_close(both(node), tree.map(lambda leaf: leaf * 2.0, node))


def test_the_vector_is_float32():
    node = {"w": tensor(3).astype(ms.float16), "b": tensor(2)}
    assert ravel(node).dtype == ms.float32
    np.testing.assert_array_equal(ravel(node)[2:].asnumpy(), node["w"].asnumpy().astype("float32"))


def test_no_leaves_are_refused():
    with pytest.raises(ValueError, match=r"^ravel: the tree has no leaves; there is nothing to"):
        ravel({"a": None, "b": ()})


def short(node, vector):
    return unravel(node, vector)


def test_another_size_is_refused():
    said = r"unravel: the tree holds 8 numbers, the vector has shape \(7,\)"
    for fn in (short, jit(short)):
        with pytest.raises(ValueError, match=said):
            fn({"w": tensor(2, 3), "b": tensor(2)}, tensor(7))
