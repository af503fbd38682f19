from __future__ import annotations

import numpy as np
import pytest

import mfunc.data as md
from mfunc.data import Ragged


def chunk(*rows):
    ids = Ragged.from_rows(rows)
    return {"input_ids": ids, "labels": Ragged(ids.values + 100, ids.offsets)}


def test_blocks_run_over_the_ends_of_chunks():
    chunks = [chunk([1, 2], [3]), (chunk([4]), {"tokenize.samples": 1}), chunk([5, 6, 7, 8])]
    made = list(md.blocks(chunks, 3))
    assert [c["input_ids"].tolist() for c, _ in made] == [[[1, 2, 3]], [], [[4, 5, 6]], []]
    assert made[2][0]["labels"].tolist() == [[104, 105, 106]]
    assert [counts for _, counts in made] == [
        {"blocks.rows": 1, "blocks.tokens": 3},
        {"tokenize.samples": 1, "blocks.rows": 0, "blocks.tokens": 0},
        {"blocks.rows": 1, "blocks.tokens": 3},
        {"blocks.lost": 2},
    ]


def test_they_are_written_as_they_are():
    told = md.indexed.write("x", md.blocks([chunk(range(10))], 4))
    assert told["rows"] == 2
    assert told["counts"] == {"blocks.rows": 2, "blocks.tokens": 8, "blocks.lost": 2}
    np.testing.assert_array_equal(md.indexed.read("x")["input_ids"].flat, np.arange(8))


def test_nothing_in_nothing_out():
    assert list(md.blocks([], 3)) == []


def test_what_is_refused():
    with pytest.raises(ValueError, match="blocks: length must be an integer >= 1, got 0"):
        md.blocks([], 0)
    with pytest.raises(ValueError, match="blocks: needs a Ragged column 'input_ids'"):
        list(md.blocks([{"text": ["a"]}], 3))
    with pytest.raises(
        ValueError, match=r"a chunk has \['input_ids'\], the first has \['input_ids'"
    ):
        list(md.blocks([chunk([1]), {"input_ids": Ragged.from_rows([[1]])}], 3))
