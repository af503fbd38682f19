from __future__ import annotations

import json
from itertools import pairwise

import numpy as np
import pytest

from mfunc.data import pack_plan
from mfunc.data.packing.histogram import best_fit, count_lengths, exact, fill_rows, row_count
from mfunc.data.packing.plan import STRATEGIES


def rows(plan):
    bounds = plan.row_starts.tolist()
    return [plan.order[a:b].tolist() for a, b in pairwise(bounds)]


def test_first_fit_decreasing_is_the_upstream_assignment(shared):
    """To the sample: of equal lengths the last goes first; both capacities."""
    golden = json.loads(
        (shared / "golden/mindspeed/knapsack/greedy_knapsack_golden.json").read_text()
    )
    assert len(golden["cases"]) == 60
    for case in golden["cases"]:
        for capacity, expected in (
            (case["capacity_mindspeed"], case["index_packs_mindspeed"]),
            (case["seq_length"], case["index_packs_llamafactory_cutoff_eq_S"]),
        ):
            plan = pack_plan(case["lengths"], capacity=capacity, strategy="first_fit_decreasing")
            assert rows(plan) == expected


def test_exact_closing_beats_best_fit_decreasing():
    """4 4 3 3 3 3 in tens: decreasing needs three rows; 4 + 3 + 3 twice is exact."""
    lengths = [4, 4, 3, 3, 3, 3]
    assert len(pack_plan(lengths, capacity=10, strategy="first_fit_decreasing")) == 3
    plan = pack_plan(lengths, capacity=10)
    assert len(plan) == 2
    assert plan.fill == 1.0


def test_tightest_falls_back_on_the_given_order():
    """Found by search: neither decreasing strategy reaches what next-fit does by luck."""
    rng = np.random.default_rng(0)
    wins = 0
    for _ in range(3000):
        capacity = int(rng.integers(8, 30))
        bins = [np.diff(np.sort(rng.choice(capacity - 1, rng.integers(2, 5), False)) + 1,
                        prepend=0, append=capacity) for _ in range(4)]  # fmt: skip
        lengths = np.concatenate(bins)
        tight = pack_plan(lengths, capacity=capacity)
        assert len(tight) == 4, "next-fit on this order is perfect, so tightest must be"
        wins += len(pack_plan(lengths, capacity=capacity, strategy="first_fit_decreasing")) > 4
    assert wins > 100, "the cases are hard enough to mean something"


def test_tightest_is_the_fewest_rows_of_its_three():
    """Whatever it skips; the limit on segments makes next-fit win and lose."""
    rng = np.random.default_rng(4)
    skipped = 0
    for _ in range(1500):
        capacity, most = int(rng.integers(4, 40)), int(rng.integers(1, 6))
        sizes = rng.integers(1, capacity + 1, rng.integers(1, 30))
        counts = count_lengths(sizes)
        best = row_count(best_fit(counts, capacity, most))
        closed = row_count(fill_rows(counts, capacity, most, exact))
        settings = {"capacity": capacity, "max_segments": most}
        kept = len(pack_plan(sizes, strategy="next_fit", **settings))
        assert len(pack_plan(sizes, **settings)) == min(best, closed, kept)
        skipped += kept > min(best, closed)
    assert 100 < skipped < 1400


def test_halves_share_a_row():
    """Twelve of exactly half the capacity do not make twelve rows the bound."""
    assert len(pack_plan([5] * 12 + [4, 4, 3, 3, 3, 3], capacity=10)) == 8


def test_next_fit_keeps_order_and_concat_cuts_at_row_ends():
    assert rows(pack_plan([3, 3, 1, 4], capacity=5, strategy="next_fit")) == [[0], [1, 2], [3]]
    plan = pack_plan([3, 0, 3, 4], capacity=5, strategy="concat")
    assert rows(plan) == [[0, 2], [2, 3]]
    assert plan.begins.tolist() == [0, 0, 2, 0]
    assert plan.lengths.tolist() == [3, 2, 1, 4]


@pytest.mark.parametrize("strategy", sorted(STRATEGIES))
def test_max_segments(strategy):
    plan = pack_plan([1] * 10, capacity=8, strategy=strategy, max_segments=4)
    assert np.diff(plan.row_starts).tolist() == [4, 4, 2]
    assert len(pack_plan([3] * 5, capacity=9, strategy=strategy, max_segments=1)) == 5
    mixed = pack_plan([4] + [1] * 8, capacity=12, strategy=strategy, max_segments=3)
    assert np.diff(mixed.row_starts).tolist() == [3, 3, 3]


@pytest.mark.parametrize("strategy", sorted(STRATEGIES))
@pytest.mark.parametrize("lengths", [[], [0], [0, 0, 0]])
def test_nothing_needs_no_rows(strategy, lengths):
    plan = pack_plan(lengths, capacity=4, strategy=strategy)
    assert (len(plan), plan.order.size, plan.fill) == (0, 0, 1.0)


@pytest.mark.parametrize("strategy", sorted(STRATEGIES))
def test_empty_samples_are_in_no_row(strategy):
    plan = pack_plan([0, 4, 0, 2, 0], capacity=4, strategy=strategy)
    assert sorted(plan.order.tolist()) == [1, 3]


@pytest.mark.parametrize("strategy", sorted(STRATEGIES))
def test_exactly_capacity_fits_and_one_more_is_named(strategy):
    assert len(pack_plan([5, 5], capacity=5, strategy=strategy)) == 2
    if strategy != "concat":
        with pytest.raises(ValueError, match=r"sample 1 has 6 tokens but capacity=5; shorten it"):
            pack_plan([5, 6], capacity=5, strategy=strategy)


def test_wrong_lengths_and_settings():
    with pytest.raises(ValueError, match="sample 1 has length -2"):
        pack_plan([1, -2], capacity=5)
    with pytest.raises(ValueError, match=r"lengths must be integers \[n\], got float64"):
        pack_plan([1.5], capacity=5)
    with pytest.raises(ValueError, match="strategy must be one of 'tightest', "):
        pack_plan([1], capacity=5, strategy="best")
    with pytest.raises(ValueError, match="capacity must be an integer >= 1, got 0"):
        pack_plan([1], capacity=0)
    with pytest.raises(ValueError, match="max_segments must be an integer >= 1, got 0"):
        pack_plan([1], capacity=5, max_segments=0)


def test_long_context_and_capacities_beyond_16_bits():
    rng = np.random.default_rng(2)
    lengths = np.clip(rng.lognormal(9, 1.5, 2000), 1, 131_072).astype(int)
    plan = pack_plan(lengths, capacity=131_072)
    assert plan.lengths.sum() == lengths.sum()
    assert sorted(plan.order.tolist()) == list(range(2000))
    assert max(np.add.reduceat(plan.lengths, plan.row_starts[:-1])) <= 131_072
