"""A graph called by its phase: what MindSpore must go on doing for it."""

from __future__ import annotations

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor
from tests.trees import assert_close

from mfunc import direct
from mfunc.gradient import value_and_grad
from mfunc.transform import jit


@pytest.fixture
def compiled():
    """A compiled function of tensors, and what calls it directly."""

    def double(x, y):
        return x * 2.0, (x + y).sum()

    graph, before = ms.jit(double), direct.graphs()
    x, y = Tensor([1.0, 2.0]), Tensor([3.0, 4.0])
    graph(x, y)
    return graph, direct.caller(before, (x, y))


def test_the_graph_is_the_same(compiled):
    graph, call = compiled
    for seed in range(3):
        x, y = (Tensor(np.random.default_rng(seed + i).random(2), ms.float32) for i in (0, 9))
        assert_close(call((x, y)), graph(x, y))
        assert all(isinstance(leaf, Tensor) for leaf in call((x, y)))


def test_a_call_compiles_nothing(compiled):
    before = direct.count()
    compiled[1]((Tensor([5.0, 6.0]), Tensor([7.0, 8.0])))
    assert direct.count() == before


def test_two_graphs_in_turn(compiled):
    def triple(x):
        return x * 3.0

    before, x = direct.graphs(), Tensor([1.0])
    ms.jit(triple)(x)
    other = direct.caller(before, (x,))
    for _ in range(2):
        assert other((Tensor([2.0]),)).asnumpy().tolist() == [6.0]
        found, _ = compiled[1]((Tensor([1.0, 2.0]), Tensor([0.0, 0.0])))
        assert found.asnumpy().tolist() == [2.0, 4.0]


@pytest.mark.parametrize(
    "given", [(1.0,), (ms.mutable(2),), (ms.Parameter(Tensor([1.0]), name="given"),)]
)
def test_what_mindspore_has_to_look_at_is_left_to_it(given):
    def same(x):
        return x * 1

    before = direct.graphs()
    ms.jit(same)(*given)
    assert direct.caller(before, given) is None


def test_a_graph_that_was_there_before_is_left_to_mindspore(compiled):
    assert direct.caller(direct.graphs(), (Tensor([1.0]),)) is None


def test_an_eager_gradient_through_a_jitted_function_is_another_graph():
    """Also after the function has been called directly."""

    def square(x):
        return (x * x).sum()

    fast = jit(square)
    for _ in range(3):
        assert float(fast(Tensor([1.0, 2.0]))) == 5.0
    for _ in range(2):
        value, gradient = value_and_grad(fast)(Tensor([1.0, 2.0]))
        assert (float(value), gradient.asnumpy().tolist()) == (5.0, [2.0, 4.0])
    assert float(fast(Tensor([3.0]))) == 9.0
    assert float(fast(Tensor([1.0, 2.0]))) == 5.0
