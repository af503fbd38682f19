from __future__ import annotations

import numpy as np
import pytest
from mindspore import Tensor
from tests.trees import arrays, assert_close, tensor

from mfunc import random, tree
from mfunc.dynamic import Dim
from mfunc.gradient import value_and_grad
from mfunc.nn import dropping
from mfunc.nn.dropping import dropout, fold_paths
from mfunc.transform import jit

KEY = random.key(7)


def kept(key, shape, rate):
    return dropout(Tensor(np.ones(shape, np.float32)), key, rate).asnumpy() != 0


@pytest.mark.parametrize("rate", [0.05, 0.1, 0.5, 0.9])
def test_numbers_are_dropped_with_their_probability_and_independently(rate):
    """By columns, by rows, by neighbours of one draw, and between keys."""
    lost = ~kept(KEY, (4000, 40), rate)
    other = ~kept(random.fold_in(KEY, 1), (4000, 40), rate)
    spread = np.sqrt(rate * (1 - rate))
    assert abs(lost.mean() - rate) < 5 * spread / np.sqrt(lost.size)
    assert (np.abs(lost.mean(0) - rate) < 5 * spread / np.sqrt(4000)).all()
    assert abs(lost.mean(1).std() * np.sqrt(40) / spread - 1) < 5 / np.sqrt(2 * 4000 * spread**2)
    columns = np.hstack([lost, other]) - rate
    correlation = columns.T @ columns / 4000 / spread**2
    assert np.abs(correlation - np.diag(np.diag(correlation))).max() < 6 / np.sqrt(4000)
    rows = lost[:300] - rate
    between = rows @ rows.T / 40 / spread**2
    assert abs((between - np.diag(np.diag(between))).mean()) < 5 / 300 / np.sqrt(40)


@pytest.mark.parametrize("rate", [0.0, 1e-6, 0.01, 0.05, 0.1, 1 / 3, 0.5, 0.9])
def test_the_table_holds_the_law_of_four(rate):
    table = dropping.table(rate)
    zero = table == 0
    patterns = zero @ (1 << np.arange(4))
    share = np.bincount(patterns, minlength=16) / 2**16
    lost = np.array([bin(pattern).count("1") for pattern in range(16)])
    np.testing.assert_allclose(share, rate**lost * (1 - rate) ** (4 - lost), rtol=0, atol=2**-16)
    np.testing.assert_allclose(zero.mean(0), rate, rtol=0, atol=3e-5)
    np.testing.assert_allclose(table.mean(0, np.float64), 1.0, rtol=1e-6)


def dropped(batch, key):
    return dropout(batch["x"], key, 0.25)


def test_compiled_equals_eager_for_any_number_of_rows_and_rows_are_a_prefix():
    """Widths that 16 divides and others; one graph for all lengths."""
    fast = jit(dropped, dynamic={"x": (Dim("rows"), None)})
    longest = {width: dropped({"x": tensor(50, width)}, KEY).asnumpy() for width in (32, 20)}
    for width, wanted in longest.items():
        for rows in (50, 1):
            x = Tensor(tensor(50, width).asnumpy()[:rows])
            np.testing.assert_array_equal(fast({"x": x}, KEY).asnumpy(), wanted[:rows])
    assert fast.compiles() == 2


def test_more_axes_and_other_dtypes():
    x = tensor(6, 20)
    wide = dropout(Tensor(x.asnumpy().reshape(2, 3, 20)), KEY, 0.5).asnumpy()
    np.testing.assert_array_equal(wide.reshape(6, 20), dropout(x, KEY, 0.5).asnumpy())
    half = dropout(Tensor(np.ones((3, 20), np.float16)), KEY, 0.5).asnumpy()
    assert half.dtype == np.float16
    assert set(half.ravel()) == {0.0, 2.0}


def total(x, key):
    return (dropout(x, key, 0.5) * x).sum()


def test_the_gradient_passes_where_the_numbers_do():
    x = tensor(5, 20)
    scale = kept(KEY, (5, 20), 0.5) * 2.0
    for fn in (value_and_grad(total), jit(value_and_grad(total))):
        np.testing.assert_allclose(fn(x, KEY)[1].asnumpy(), 2 * scale * x.asnumpy(), rtol=1e-6)


def test_a_rate_out_of_range_or_variable():
    for rate in (1.0, -0.5):
        with pytest.raises(
            ValueError, match=f"dropout: rate={rate}; it must be at least 0 and below"
        ):
            kept(KEY, (2, 4), rate)
    with pytest.raises(TypeError, match="dropout: the rate is a variable of the graph"):
        jit(dropout)(tensor(2, 4), KEY, 0.5)


def folded(key, node):
    return fold_paths(key, node, "a")


@pytest.mark.parametrize("node", [
    {"q": {"a": 1.0, "b": 2.0}},
    {"layers": ({"q": {"a": 1.0, "b": 2.0}, "k": None}, {"a": 3.0}), "a": 4.0, "za": 5.0},
])  # fmt: skip
def test_keys_are_folded_from_paths_in_python_and_in_graphs(node):
    node = tree.map(lambda number: Tensor(np.float32([number])), node)
    for keys in (folded(KEY, node), jit(folded)(KEY, node)):
        wanted = [path for path in tree.paths(node) if path.split("/")[-1] == "a"]
        assert tree.paths(keys) == wanted
        for path, key in zip(wanted, tree.leaves(arrays(keys)), strict=True):
            np.testing.assert_array_equal(key, random.fold_in(KEY, path))
    assert_close(folded(Tensor(KEY), node), folded(KEY, node))
