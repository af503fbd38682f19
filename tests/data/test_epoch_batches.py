from __future__ import annotations

import itertools
import weakref

import numpy as np
import pytest

import mfunc.data as md
from mfunc.data import epoch_batches

ROWS = {"n": np.arange(7), "text": list("abcdefg")}
SAMPLES = {
    "input_ids": md.Ragged.from_rows([np.full(1 + i % 5, i) for i in range(40)]),
    "labels": md.Ragged.from_rows([np.full(1 + i % 5, i) for i in range(40)]),
}


def numbers(*args, **settings):
    return [batch["n"].tolist() for batch in md.epochs(*args, **settings)]


def same(a, b):
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


def test_the_stream_is_pinned():
    """Raw bits of Philox and a stable sort: the same for ever, epoch 0 as `shuffle` has it."""
    assert numbers(ROWS, seed=3, size=3, epochs=3) == [
        [6, 1, 5], [2, 4, 3], [3, 5, 6], [4, 0, 2], [2, 4, 1], [3, 6, 5],
    ]  # fmt: skip
    whole = next(md.epochs(ROWS, seed=3, size=7))
    assert whole["text"] == md.shuffle(3)(ROWS)["text"]
    key = np.array([0, 3], np.uint32)
    assert same(whole, next(md.epochs(ROWS, seed=key, size=7)))


def test_a_remainder_is_left_out_or_short():
    assert [len(b) for b in numbers(ROWS, seed=0, size=3, epochs=2)] == [3, 3, 3, 3]
    short = numbers(ROWS, seed=0, size=3, epochs=2, drop_remainder=False)
    assert [len(b) for b in short] == [3, 3, 1, 3, 3, 1]
    first = [*short[0], *short[1], *short[2]]
    assert sorted(first) == list(range(7))
    assert numbers(ROWS, seed=0, size=9, epochs=1, drop_remainder=False) == [first]


def test_epochs_go_on_without_end():
    batches = itertools.islice(md.epochs(ROWS, seed=0, size=7), 50)
    assert len({tuple(batch["n"]) for batch in batches}) > 45


@pytest.mark.parametrize("strategy", ["tightest", "first_fit_decreasing", "next_fit", "concat"])
def test_a_bare_pack_gives_what_calling_it_gives(strategy):
    """The lazy way, where rows are built with their batch, and the general one."""
    pack = md.pack(8, strategy=strategy, segment_multiple=2, pad_id=9, seed=1)
    settings = {"seed": 5, "size": 3, "epochs": 2, "drop_remainder": False}
    lazy = list(md.epochs(SAMPLES, prepare=pack, **settings))
    general = list(md.epochs(SAMPLES, prepare=lambda columns: pack(columns), **settings))
    assert len(lazy) == len(general) > 8
    assert all(map(same, lazy, general))


def test_packed_rows_are_no_curriculum():
    """`pack` begins with the longest samples; here the rows are shuffled once more."""

    def longest_of(rows):
        return [int(row.max()) for row in rows["position_ids"]]

    packed = longest_of(md.pack(8)(SAMPLES))
    epoch = longest_of(next(md.epochs(SAMPLES, seed=0, size=len(packed), prepare=md.pack(8))))
    assert packed == sorted(packed, reverse=True)
    assert sorted(epoch, reverse=True) == packed != epoch


def test_overlong_samples_are_cut_once_before_the_first_epoch():
    pack = md.pack(3, overlong="drop")
    batches = md.epochs(SAMPLES, seed=0, size=1, prepare=pack, epochs=1)
    kept = {int(i) for b in batches for i in b["input_ids"][b["segment_ids"] > 0]}
    assert kept == {i for i in range(40) if 1 + i % 5 <= 3}
    with pytest.raises(ValueError, match=r"pack: row 3 has 4 tokens but seq_length=3"):
        md.epochs(SAMPLES, seed=0, size=1, prepare=md.pack(3))


def test_collate_gets_each_batch():
    batches = md.epochs(SAMPLES, seed=0, size=4, collate=md.pad_to_divisor(4), epochs=1)
    shapes = {batch["input_ids"].shape for batch in batches}
    assert shapes <= {(4, 4), (4, 8)}


def test_epochs_that_are_skipped_build_no_rows(monkeypatch):
    built = []
    real = epoch_batches.packing

    def counting(**settings):
        steps = real(**settings)

        def build(plan, samples, start, stop):
            built.append((start, stop))
            return steps.build(plan, samples, start, stop)

        return steps._replace(build=build)

    monkeypatch.setattr(epoch_batches, "packing", counting)
    settings = {"seed": 0, "size": 3, "prepare": md.pack(8)}
    wanted = next(itertools.islice(md.epochs(SAMPLES, **settings), 36, None))
    assert len(built) == 37
    built.clear()
    assert same(next(md.epochs(SAMPLES, start=36, **settings)), wanted)
    assert len(built) == 1


def test_no_two_epochs_are_in_memory():
    alive = []

    def prepare(columns):
        assert not any(made() is not None for made in alive), "the last epoch is still there"
        made = columns["n"] * 1
        alive.append(weakref.ref(made))
        return {"n": made}

    batches = md.epochs({"n": np.arange(10)}, seed=0, size=5, prepare=prepare, epochs=5, start=3)
    assert len([batch["n"].sum() for batch in batches]) == 7
    assert len(alive) == 5


def test_a_resume_at_the_very_end_is_over_and_one_beyond_it_is_refused():
    assert numbers(ROWS, seed=0, size=3, epochs=2, start=4) == []
    with pytest.raises(ValueError, match=r"epochs: start=5, but 2 epochs have 4 batches"):
        next(md.epochs(ROWS, seed=0, size=3, epochs=2, start=5))


@pytest.mark.parametrize(
    ("columns", "settings", "error", "message"),
    [
        (
            {"n": np.arange(0)},
            {},
            ValueError,
            r"epochs: there are no rows, so there are no batches",
        ),
        ({}, {}, ValueError, r"epochs: there are no rows"),
        ([1, 2], {}, TypeError, r"epochs: needs a dict of columns, got list"),
        (ROWS, {"size": 0}, ValueError, r"epochs: size must be an integer >= 1, got 0"),
        (ROWS, {"size": 8}, ValueError, r"epochs: epoch 0 has 7 rows but size=8, so it has no b"),
        (ROWS, {"start": -1}, ValueError, r"epochs: start must be an integer >= 0, got -1"),
        (ROWS, {"start": 1.0}, TypeError, r"epochs: start must be an integer >= 0, got 1.0"),
        (ROWS, {"epochs": 0}, ValueError, r"epochs: epochs must be an integer >= 1, got 0"),
        (ROWS, {"seed": -3}, ValueError, r"epochs: seed must be an integer in 0\.\..*got -3"),
        (ROWS, {"drop_remainder": 1}, TypeError, r"epochs: drop_remainder must be True or False"),
        (ROWS, {"prepare": 3}, TypeError, r"epochs: prepare must be a function of columns, got 3"),
        (ROWS, {"collate": "x"}, TypeError, r"epochs: collate must be a function of columns, got"),
        (ROWS, {"prepare": md.pack(8)}, ValueError, r"pack: needs a Ragged column 'input_ids'"),
    ],
)
def test_wrong_settings_are_refused_at_once(columns, settings, error, message):
    with pytest.raises(error, match=message):
        md.epochs(columns, **{"seed": 0, "size": 2, **settings})


@pytest.mark.parametrize(
    ("prepare", "error", "message"),
    [
        (md.take(1), ValueError, r"epochs: epoch 0 has 1 rows but size=2"),
        (md.take(0), ValueError, r"epochs: epoch 0 has 0 rows but size=2"),
        (
            md.batch(2),
            TypeError,
            r"epochs: the result of prepare: needs a dict of columns, got gen",
        ),
        (lambda columns: None, TypeError, r"the result of prepare: needs a dict .*got NoneType"),
    ],
)
def test_what_prepare_makes_is_refused_at_the_first_batch(prepare, error, message):
    with pytest.raises(error, match=message):
        next(md.epochs(ROWS, seed=0, size=2, prepare=prepare))
