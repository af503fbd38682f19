"""A stream of batches: reached again from a number, every row in every epoch."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

import mfunc.data as md


@st.composite
def streams(draw):
    """Columns and settings of a stream that has batches."""
    lengths = draw(st.lists(st.integers(1, 6), min_size=1, max_size=12))
    rows = [np.full(n, i + 1) for i, n in enumerate(lengths)]
    columns = {name: md.Ragged.from_rows(rows) for name in ("input_ids", "labels")}
    pack = md.pack(
        draw(st.integers(6, 9)),
        strategy=draw(st.sampled_from(["tightest", "first_fit_decreasing", "next_fit", "concat"])),
        seed=draw(st.none() | st.integers(0, 3)),
    )
    prepare = draw(st.sampled_from([None, pack, lambda columns: pack(columns)]))
    settings = {
        "seed": draw(st.integers(0, 2**64 - 1)),
        "prepare": prepare,
        "collate": None if prepare else md.pad_to_divisor(4),
        "epochs": draw(st.integers(1, 3)),
        "size": draw(st.integers(1, 3)),
        "drop_remainder": False,
    }
    return columns, settings


def bits(batches):
    return [
        [(name, array.shape, array.tobytes()) for name, array in sorted(batch.items())]
        for batch in batches
    ]


@given(stream=streams(), data=st.data())
def test_from_any_batch_on_it_is_what_was_left(stream, data):
    columns, settings = stream
    whole = bits(md.epochs(columns, **settings))
    start = data.draw(st.integers(0, len(whole)))
    assert bits(md.epochs(columns, start=start, **settings)) == whole[start:]
    endless = md.epochs(columns, start=start, **{**settings, "epochs": None})
    assert bits(itertools.islice(endless, len(whole) - start)) == whole[start:]


@given(stream=streams())
def test_every_token_is_in_every_epoch(stream):
    columns, settings = stream
    batches = list(md.epochs(columns, **settings))
    seen = np.concatenate([b["input_ids"][b["segment_ids"] > 0] for b in batches])
    wanted = np.tile(columns["input_ids"].flat, settings["epochs"])
    assert sorted(seen) == sorted(wanted)


@given(stream=streams())
def test_the_data_stay_as_they_are(stream):
    columns, settings = stream
    before = {name: column.values.copy() for name, column in columns.items()}
    list(md.epochs(columns, **settings))
    assert all(np.array_equal(before[name], columns[name].values) for name in columns)
