"""The laws of optimizers and schedules: groups of leaves, accumulation, the shape of a rate."""

from __future__ import annotations

import mindspore as ms
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.trees import trees

from mfunc import tree
from mfunc.optim import accumulate, sgd, step
from mfunc.optim.choosing import merged, part
from mfunc.schedule import (
    constant,
    cosine,
    cosine_with_restarts,
    inverse_sqrt,
    linear,
    polynomial,
    wsd,
)


@given(trees(st.integers(-9, 9)), st.data())
def test_parts_joined_are_the_whole(node, data):
    leaves = tree.leaves(node)
    labels = data.draw(st.lists(st.integers(0, 2), min_size=len(leaves), max_size=len(leaves)))
    parts = [part(node, labels, label) for label in range(3)]
    assert merged(labels, [tree.leaves(its) for its in parts]) == leaves
    paths = [path for its in parts for path in tree.paths(its)]
    assert sorted(paths) == sorted(tree.paths(node))


@settings(max_examples=15)
@given(st.lists(st.tuples(st.floats(-4, 4, width=32), st.integers(0, 50)), min_size=1, max_size=6))
def test_accumulated_batches_are_one_batch(batches):
    """Gradients are means over tokens; without a token nothing moves."""
    optimizer, params = accumulate(len(batches), sgd(1.0)), {"w": ms.Tensor([0.0])}
    state = optimizer.init(params)
    for grad, tokens in batches:
        grads = {"w": ms.Tensor([grad], ms.float32)}
        params, state = step(optimizer, grads, state, params, weight=tokens)
    total = sum(tokens for _, tokens in batches)
    wanted = sum(grad * tokens for grad, tokens in batches) / max(total, 1)
    assert float(params["w"]) == pytest.approx(-wanted, rel=1e-5, abs=1e-5)


@st.composite
def schedules(draw):
    """Any schedule, with its peak, end, warm-up and steps."""
    total = draw(st.integers(1, 300))
    rise = draw(st.integers(0, total))
    peak, end = draw(st.floats(1e-6, 10.0)), draw(st.floats(0.0, 1e-6))
    known = {"total_steps": total, "warmup_steps": rise}
    ending = {**known, "end": end}
    made = [
        (constant(peak, **known), peak),
        (inverse_sqrt(peak, **known), None),
        (linear(peak, **ending), end),
        (cosine(peak, **ending), end),
        (polynomial(peak, power=draw(st.floats(0.1, 4.0)), **ending), end),
    ]
    if rise < total:
        most = total - rise
        decay, cycles = draw(st.integers(1, most)), draw(st.integers(1, most))
        shape = draw(st.sampled_from(["cosine", "linear", "1-sqrt"]))
        made.append((wsd(peak, decay_steps=decay, shape=shape, **ending), end))
        made.append((cosine_with_restarts(peak, cycles=cycles, **ending), end))
    rate, last = draw(st.sampled_from(made))
    return rate, last, peak, rise, total


@given(schedules(), st.integers(0, 1000))
def test_a_rate_lies_between_0_and_its_peak(made, later):
    rate, last, peak, rise, total = made
    rates = np.array([rate(step) for step in range(total + 1)])
    assert np.all((rates >= 0.0) & (rates <= peak * (1 + 1e-12)))
    assert np.all(np.diff(rates[:rise]) >= 0.0)
    assert rates[0] == (0.0 if rise else rates[0])
    if rise < total:
        assert rates[rise] == pytest.approx(peak)
    if last is not None:
        assert rate(total + later) == pytest.approx(last)
