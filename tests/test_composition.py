"""Every transform inside of every other, over a zoo of trees, against derivatives on paper.

Each operator turns a function of a tree into another one. On paper a function is a sum over all
numbers of a tree of terms `factor * curve^(order)(scale * number)`, and so is what an operator
makes of it.
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np
import pytest
from mindspore import Tensor, ops
from tests.trees import arrays, tensor

from mfunc import tree
from mfunc.batching import vmap
from mfunc.depth import block, remat
from mfunc.gradient import grad, value_and_grad
from mfunc.products import jvp, vjp
from mfunc.transform import jit

SLOPE = 0.7  # along which directional derivatives go, the same for all numbers
SCALES = (0.5, 1.0, 1.5)  # that are mapped over


class Term(NamedTuple):
    factor: float
    order: int
    scale: float


def curve(node):
    """The sum of x sin x over all numbers."""
    return ops.addn([(leaf * ops.sin(leaf)).sum() for leaf in tree.leaves(node)])


CURVES = (
    lambda x: x * np.sin(x),
    lambda x: np.sin(x) + x * np.cos(x),
    lambda x: 2 * np.cos(x) - x * np.sin(x),
)


def on_paper(terms, node):
    leaves = [np.asarray(leaf, np.float64) for leaf in tree.leaves(arrays(node))]
    return sum(
        term.factor * CURVES[term.order](term.scale * leaf).sum()
        for term in terms
        for leaf in leaves
    )


# --- operators: a function, and what becomes of its terms ---


def slope_leaf(leaf):
    return ops.ones_like(leaf) * SLOPE


def total(leaf):
    return leaf.sum()


def sum_of(node):
    return ops.addn(tree.leaves(tree.map(total, node)))


def by_grad(fn):
    def along(node):
        return sum_of(grad(fn)(node)) * SLOPE

    return along


def by_value_and_grad(fn):
    def along(node):
        value, slopes = value_and_grad(fn)(node)
        return sum_of(slopes) * SLOPE + 0.0 * value

    return along


def by_vjp(fn):
    def along(node):
        value, pull = vjp(fn, node)
        return sum_of(pull(ops.ones_like(value) * SLOPE)[0])

    return along


def by_jvp(fn):
    def along(node):
        return jvp(fn, (node,), (tree.map(slope_leaf, node),))[1]

    return along


def by_vmap(fn):
    def scaled(node, by):
        def times(leaf):
            return leaf * by

        return fn(tree.map(times, node))

    def mapped(node):
        return vmap(scaled, (None, 0))(node, Tensor(np.float32(SCALES))).sum()

    return mapped


def derived(terms):
    return [Term(t.factor * SLOPE * t.scale, t.order + 1, t.scale) for t in terms]


def mapped(terms):
    return [Term(t.factor, t.order, t.scale * by) for t in terms for by in SCALES]


def kept(terms):
    return terms


OPERATORS = {
    "grad": (by_grad, derived),
    "value_and_grad": (by_value_and_grad, derived),
    "vjp": (by_vjp, derived),
    "jvp": (by_jvp, derived),
    "vmap": (by_vmap, mapped),
    "block": (block, kept),
    "remat": (remat, kept),
    "jit": (jit, kept),
}

ZOO = (
    lambda s: tensor(2, 3, seed=s),
    lambda s: {"b": tensor(2, seed=s), "a": (tensor(seed=s + 1), None)},
    lambda s: [tensor(1, seed=s), {"x": {}, "10": tensor(2, seed=s + 1), "9": tensor(2, seed=s)}],
    lambda s: (tensor(2, 3, seed=s)[1], {"t": tensor(3, 2, seed=s).T}),  # views
    lambda s: {"deep": ({"er": [tensor(2, seed=s)]},), "one": tensor(2, seed=s)},
)


@pytest.mark.parametrize(
    ("number", "outer", "inner"),
    [(i, *pair) for i, pair in enumerate(itertools.product(OPERATORS, repeat=2))],
)
def test_pairs(number, outer, inner):
    (make, terms), (make_inner, inner_terms) = OPERATORS[outer], OPERATORS[inner]
    fast = jit(make(make_inner(curve)))
    wanted = terms(inner_terms([Term(1.0, 0, 1.0)]))
    for seed in (1, 2, 3):
        node = ZOO[number % len(ZOO)](seed)
        assert float(fast(node)) == pytest.approx(on_paper(wanted, node), rel=1e-4, abs=1e-4)
    assert fast.compiles() == 1


@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.parametrize("number", range(len(ZOO)))
def test_each_over_the_zoo_without_jit(name, number):
    make, terms = OPERATORS[name]
    node = ZOO[number](7)
    wanted = on_paper(terms([Term(1.0, 0, 1.0)]), node)
    assert float(make(curve)(node)) == pytest.approx(wanted, rel=1e-4, abs=1e-4)
