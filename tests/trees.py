"""Trees for the tests of everything that takes trees: a zoo, a strategy, and a way to compare."""

from __future__ import annotations

from typing import Any, NamedTuple

import mindspore as ms
import numpy as np
from hypothesis import strategies as st

from mfunc import tree


class Pair(NamedTuple):
    """A container that is a NamedTuple."""

    left: Any
    right: Any


class Single(NamedTuple):
    """One more, so that two kinds can be confused."""

    left: Any


NAMES = st.sampled_from(["a", "b", "c", "w", "10", "9", "x y"])


def trees(leaves: st.SearchStrategy, *, namedtuples: bool = True) -> st.SearchStrategy:
    """Any tree: `None` and empty containers among the nodes; with or without NamedTuples."""

    def nodes(children: st.SearchStrategy) -> st.SearchStrategy:
        kinds = [
            st.dictionaries(NAMES, children, max_size=3),
            st.lists(children, max_size=3),
            st.lists(children, max_size=3).map(tuple),
        ]
        if namedtuples:
            kinds += [st.builds(Pair, children, children), st.builds(Single, children)]
        return st.one_of(kinds)

    return st.recursive(st.one_of(leaves, st.none()), nodes, max_leaves=10)


def tensor(*shape: int, seed: int = 0, dtype: type = np.float32) -> ms.Tensor:
    """A whole Tensor of normal numbers."""
    numbers = np.random.default_rng(seed).standard_normal(shape)
    return ms.Tensor(np.asarray(numbers, dtype))


def arrays(node: tree.Tree) -> tree.Tree:
    """The tree with NumPy arrays for Tensors."""
    return tree.map(lambda x: x.asnumpy() if isinstance(x, ms.Tensor) else np.asarray(x), node)


def assert_close(
    seen: tree.Tree, wanted: tree.Tree, *, rtol: float = 0.0, atol: float = 0.0
) -> None:
    """The same containers and, leaf by leaf, the same shape, dtype and numbers."""
    (left, structure), (right, expected) = tree.flatten(arrays(seen)), tree.flatten(arrays(wanted))
    assert structure == expected
    for path, a, b in zip(tree.structure_paths(structure), left, right, strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype), path
        np.testing.assert_allclose(a, b, rtol=rtol, atol=atol, err_msg=path)
