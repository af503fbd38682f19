from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from mfunc.data import pack_plan
from mfunc.data.packing.histogram import (
    best_fit,
    count_lengths,
    exact,
    fill_rows,
    greedy,
    row_count,
    spread,
)

PLANNERS = {
    "best_fit": best_fit,
    "exact": lambda *a: fill_rows(*a, exact),
    "greedy": lambda *a: fill_rows(*a, greedy),
}


def test_count_lengths_is_longest_first_without_empty_ones():
    assert list(count_lengths(np.array([3, 0, 5, 3])).items()) == [(5, 1), (3, 2)]
    assert count_lengths(np.zeros(0, np.int64)) == {}


@pytest.mark.parametrize("planner", PLANNERS)
@pytest.mark.parametrize("most", [2, 3, 99])
def test_operations_place_every_sample_once(planner, most):
    sizes = np.random.default_rng(1).integers(0, 40, 700)
    operations = PLANNERS[planner](count_lengths(sizes), 40, most)
    order, lengths, row_starts = spread(operations, sizes, 40)
    assert len(row_starts) - 1 == row_count(operations)
    assert sorted(order.tolist()) == np.flatnonzero(sizes).tolist()
    assert np.array_equal(sizes[order], lengths)
    assert all(lengths[a:b].sum() <= 40 and b - a <= most for a, b in pairwise(row_starts))


def test_tightest_stays_as_tight_as_it_is():
    """Rows on drawn lengths, against the bound; each part of exact closing earns some of them."""
    lengths = np.random.default_rng(3).lognormal(4.65, 0.6, 20_000).astype(int) + 30
    found = {}
    for capacity in (512, 1024, 2048):
        sizes = np.minimum(lengths, capacity)
        plans = [
            pack_plan(sizes, capacity=capacity, strategy=strategy)
            for strategy in ("tightest", "first_fit_decreasing")
        ]
        found[capacity] = (-(-sizes.sum() // capacity), *map(len, plans))
    assert found == {512: (6028, 6050, 6097), 1024: (3025, 3029, 3045), 2048: (1513, 1514, 1518)}
