from __future__ import annotations

import mindspore as ms
import numpy as np
import pytest

from mfunc import tree
from mfunc.optim import add_decayed_weights, all_but
from mfunc.optim.choosing import decays, decided, merged, part, taken
from mfunc.transform import jit

PATHS = ["embed", "layers/0/norm", "layers/0/q", "layers/0/q_bias"]


@pytest.mark.parametrize(
    ("mask", "wanted"),
    [
        ("layers/*", [False, True, True, True]),
        (("*norm*", "embed"), [True, True, False, False]),
        (all_but("*norm*", "*bias", "*nothing*"), [True, False, True, False]),
        (lambda path: np.bool_(path == "embed"), [True, False, False, False]),
        ((), [False] * 4),
    ],
)
def test_masks(mask, wanted):
    assert taken("here", mask, PATHS) == wanted


def test_patterns_are_case_sensitive_and_whole():
    assert not all_but("norm")("norm")
    assert all_but("norm")("norms")
    assert all_but("norm")("Norm")


@pytest.mark.parametrize(
    ("mask", "error", "message"),
    [
        (
            ("embed", "*/k"),
            ValueError,
            r"here: pattern '\*/k' matches no parameter; paths look like embed, layers/0/norm, .*,",
        ),
        (lambda path: None, TypeError, r"here: the mask says None of 'embed'; it must say True or"),
        (lambda path: 1, TypeError, r"here: the mask says 1 of 'embed'"),
    ],
)
def test_masks_that_say_nothing(mask, error, message):
    with pytest.raises(error, match=message):
        taken("here", mask, PATHS)


NODE = {"b": (ms.Tensor([1.0]), ms.Tensor([[2.0], [3.0]])), "a": ms.Tensor([4.0])}
RANKS = decided(lambda paths, shapes: [len(shape) - 1 for shape in shapes])
DECAYS = decays("here", 0.5, lambda path: path.startswith("b"))


def both(node):
    labels = RANKS(node)
    first, second = part(node, labels, 0), part(node, labels, 1)
    joined = merged(labels, (tree.leaves(first), tree.leaves(second)))

    def shrink(leaf, decay):
        return leaf * decay

    decayed = tree.map(shrink, tree.leaves(node), DECAYS(node))
    return first, tree.refill(node, joined), decayed


@pytest.mark.parametrize("way", [both, jit(both)], ids=["eager", "compiled"])
def test_leaves_are_parted_and_joined(way):
    first, joined, decayed = way(NODE)
    assert first["b"][1] is None
    assert tree.paths(first) == ["a", "b/0"]
    assert tree.flatten(joined)[1] == tree.flatten(NODE)[1]
    for seen, leaf in zip(tree.leaves(joined), tree.leaves(NODE), strict=True):
        np.testing.assert_array_equal(seen.asnumpy(), leaf.asnumpy())
    assert [leaf.asnumpy().ravel().tolist() for leaf in decayed] == [[0.0], [0.5], [1.0, 1.5]]


def test_another_tree_than_the_parameters_is_refused():
    with pytest.raises(ValueError, match=r"optim: a tree of 2 leaves was given for 3 parameters"):
        part({"a": 1, "b": 2}, (0, 1, 0), 0)


def test_a_pattern_without_a_parameter_is_refused_by_init():
    with pytest.raises(ValueError, match=r"add_decayed_weights: pattern 'c' matches no parameter"):
        add_decayed_weights(0.1, mask="c").init(NODE)
