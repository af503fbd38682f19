from __future__ import annotations

from itertools import islice

import numpy as np
import pytest

import mfunc.data as md

LENGTHS = np.random.default_rng(0).geometric(0.02, 1_000)
PINNED = [[4, 2], [1, 3], [6, 5], [0]]
SAMPLES = {
    "input_ids": md.Ragged.from_windows(np.arange(2_000), np.zeros(1_000, int), LENGTHS),
    "n": np.arange(1_000),
}


def test_the_saving_is_real_and_reported():
    batches, counts = md.counted(md.batch_by_length(8, key_or_seed=1), SAMPLES)
    counts = {name.split(".")[1]: n for name, n in counts.items()}
    padded = [md.pad_to_divisor(1)(batch)["input_ids"].size for batch in batches]
    by_chance = [
        md.pad_to_divisor(1)(batch)["input_ids"].size
        for batch in md.batch(8)(md.shuffle(1)(SAMPLES))
    ]
    assert counts["slots"] == sum(padded)
    assert counts["shuffled_slots"] == sum(by_chance)
    assert (counts["samples"], counts["batches"], counts["dropped"]) == (1_000, 125, 0)
    assert counts["tokens"] == LENGTHS.sum()
    assert (
        counts["slots"] / counts["tokens"] < 1.05 < 2 < counts["shuffled_slots"] / counts["tokens"]
    )


def test_a_window_is_between_chance_and_all():
    slots = [
        md.length_batches(LENGTHS, 8, key_or_seed=1, window=window).slots(LENGTHS)
        for window in (1, 5, 25, None)
    ]
    assert slots == sorted(slots, reverse=True)
    assert len(set(slots)) == 4


def test_rounded_slots_are_what_padding_makes():
    plan = md.length_batches(LENGTHS, 8, key_or_seed=1, window=5)
    widths = [
        md.pad_to_divisor(16, remainder=1)(batch)["input_ids"].size
        for batch in md.batch_by_length(8, key_or_seed=1, window=5)(SAMPLES)
    ]
    assert plan.slots(LENGTHS, divisor=16, remainder=1) == sum(widths)


def test_order_is_pinned():
    plan = md.length_batches([5, 1, 4, 2, 3, 9, 7], 2, key_or_seed=3)
    again = md.length_batches([5, 1, 4, 2, 3, 9, 7], 2, key_or_seed=np.array([0, 3], np.uint32))
    assert [batch.tolist() for batch in plan] == [batch.tolist() for batch in again]
    assert [batch.tolist() for batch in plan] == PINNED
    assert repr(plan) == "BatchPlan(7 samples in 4 batches)"
    assert plan[-1].tolist() == PINNED[-1]
    with pytest.raises(IndexError):
        plan[4]


def test_batches_come_in_random_order_and_differ_by_seed():
    means = [LENGTHS[batch].mean() for batch in md.length_batches(LENGTHS, 8, key_or_seed=1)]
    assert means != sorted(means)
    other = md.length_batches(LENGTHS, 8, key_or_seed=2)
    assert means != [LENGTHS[batch].mean() for batch in other]


def test_what_is_dropped_is_as_likely_short_as_long():
    lengths = np.arange(11)
    plans = [
        md.length_batches(lengths, 5, key_or_seed=seed, drop_remainder=True) for seed in range(60)
    ]
    dropped = [{*range(11)} - {*plan.order.tolist()} for plan in plans]
    assert all(len(each) == 1 for each in dropped)
    assert len(set().union(*dropped)) == 11
    _, counts = md.counted(md.batch_by_length(7, key_or_seed=0, drop_remainder=True), SAMPLES)
    assert counts["batch_by_length.dropped"] == 1_000 % 7


def test_going_on_at_a_batch_builds_none_before_it(monkeypatch):
    whole = list(md.batch_by_length(8, key_or_seed=4)(SAMPLES))
    built = []
    monkeypatch.setattr(
        "mfunc.data.packing.buckets.take_rows", lambda columns, index: built.append(index) or index
    )
    rest = md.batch_by_length(8, key_or_seed=4, start=120)(SAMPLES)
    assert built == []
    assert [index.tolist() for index in islice(rest, 2)] == [
        b["n"].tolist() for b in whole[120:122]
    ]
    assert len(built) == 2


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: md.length_batches([1], 0, key_or_seed=0),
            ValueError,
            r"size must be an int.* >= 1",
        ),
        (lambda: md.length_batches([1], 1, key_or_seed=-1), ValueError, "length_batches: key_or_s"),
        (lambda: md.length_batches([1], 1, key_or_seed=0, window=0), ValueError, "window must be"),
        (lambda: md.length_batches([-1], 1, key_or_seed=0), ValueError, "must be integers >= 0"),
        (lambda: md.length_batches([1.5], 1, key_or_seed=0), ValueError, "must be integers >= 0"),
        (lambda: md.length_batches([[1]], 1, key_or_seed=0), ValueError, "on one axis"),
        (lambda: md.batch_by_length(0, key_or_seed=0), ValueError, "size must be an integer"),
        (lambda: md.batch_by_length(1), TypeError, r"missing a required .*'key_or_seed'"),
        (lambda: md.batch_by_length(1, key_or_seed=0, start=-1), ValueError, "start must be an"),
        (
            lambda: md.batch_by_length(500, key_or_seed=0, start=3)(SAMPLES),
            ValueError,
            "start=3, but there are 2 batches",
        ),
        (
            lambda: md.batch_by_length(1, key_or_seed=0)({"text": ["a"]}),
            ValueError,
            "needs a Ragged column 'input_ids'",
        ),
        (
            lambda: md.length_batches([1], 1, key_or_seed=0).slots([1], divisor=2, remainder=2),
            ValueError,
            r"remainder must be an integer in 0\.\.1",
        ),
    ],
)
def test_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_no_samples_no_batches():
    plan = md.length_batches([], 4, key_or_seed=0)
    assert (len(plan), plan.slots([])) == (0, 0)
    empty = md.take(0)(SAMPLES)
    assert list(md.batch_by_length(4, key_or_seed=0)(empty)) == []
