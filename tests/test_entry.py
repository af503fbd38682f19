from __future__ import annotations

import numpy as np
import pytest
from mindspore import Tensor
from tests.trees import assert_close, tensor

from mfunc import tree
from mfunc.entry import build, donation_of, run
from mfunc.transform import jit

X = {"w": tensor(2, 3), "b": [tensor(3, seed=1)]}


def kinds_of(node):
    return [(leaf.shape, leaf.dtype) for leaf in tree.leaves(node)]


def combine(node, scale, *, shift):
    return {"sum": node["w"] * scale + node["b"][0] + shift, "b": node["b"]}


def graph_of(donate=(), homes=None):
    traced = ((X, None), {"shift": Tensor(2.0)})
    leaves, structure = tree.flatten(traced)
    kinds = kinds_of(traced)
    donated = donation_of(structure, kinds, donate, leaves, leaves, homes or {}, "combine")
    return build(combine, structure, ((1, 3.0),), kinds, donated, None, "combine"), leaves


def test_a_graph_of_flat_tensors():
    graph, leaves = graph_of()
    wanted = combine(X, 3.0, shift=2.0)
    assert_close(run(graph, leaves, leaves, "combine", [0]), wanted, rtol=1e-6)
    assert graph.structures == [tree.flatten(wanted)[1]]


def test_a_bare_result():
    leaves, structure = tree.flatten(((tensor(3),), {}))
    graph = build(first, structure, (), kinds_of(leaves), None, None, "first")
    np.testing.assert_array_equal(run(graph, leaves, leaves, "first", [0]), tensor(3).asnumpy())


def first(x):
    return x


def test_a_home_serves_every_graph_of_the_same_tree():
    homes: dict = {}
    trees = [{"w": tensor(2, 2, seed=i)} for i in range(2)]
    donations = []
    for batch, node in zip((tensor(3), tensor(5)), trees, strict=True):
        leaves, structure = tree.flatten(((node, batch), {}))
        kinds = kinds_of(leaves)
        donations.append(donation_of(structure, kinds, (0,), leaves, leaves, homes, "f"))
    assert donations[0].home is donations[1].home
    assert len(homes) == 1
    assert donations[0].places == (0,)


@pytest.mark.parametrize("argnums", [(), (5,)])
def test_nothing_is_donated(argnums):
    graph, _ = graph_of(argnums)
    assert graph.donation is None


def _largest(state, x):
    times = max(1.0, x.shape[0] / 2)
    return {"z": x * times, "a": {"y": state["y"] + 1.0, "b": state["b"] * times}}


def test_the_compiler_asks_twice_with_tuples_for_dicts():
    """It does after Python's `max`; leaves then come in the order in which they were written."""
    state = {"y": Tensor([1.0]), "b": Tensor([2.0, 3.0])}
    seen = jit(_largest)(state, Tensor([1.0, 1.0, 1.0, 1.0]))
    found = [
        (path, leaf.asnumpy().tolist())
        for path, leaf in zip(tree.paths(seen), tree.leaves(seen), strict=True)
    ]
    assert found == [("a/b", [4.0, 6.0]), ("a/y", [2.0]), ("z", [2.0] * 4)]
