from __future__ import annotations

import numpy as np
import pytest

import mfunc.data as md
from mfunc.data import Ragged

PACKED = {
    "input_ids": np.array([[7, 8, 9, 6], [4, 5, 0, 0]]),
    "labels": np.array([[-100, 8, 9, -100], [-100, 5, -100, -100]]),
    "segment_ids": np.array([[1, 1, 1, 2], [1, 1, 0, 0]]),
}


def test_the_page():
    assert str(md.statistics(PACKED)) == (
        "rows       2\n"
        "samples    3  1.50 a row, 2 at most\n"
        "tokens     6  75.00% of 8 places\n"
        "trained    3  50.00% of the tokens\n"
        "untrained  1  samples without a trained token\n"
        "length     shortest 1, mean 2.0, 50 % within 2, 90 % within 3, 99 % within 3, longest 3"
    )


def test_numbers():
    found = md.statistics(PACKED)
    assert (found.lengths.tolist(), found.trained.tolist()) == ([3, 1, 2], [2, 0, 1])
    assert (found.segments.tolist(), found.slots, found.tokens) == ([2, 1], 8, 6)
    assert (found.fill, found.trained_share) == (0.75, 0.5)
    assert [found.percentile(p) for p in (0, 33, 34, 100)] == [1, 1, 2, 3]


def test_a_masks_ones_are_one_sample_and_its_zeros_padding():
    mask = {**PACKED, "attention_mask": np.array([[1, 1, 1, 1], [1, 1, 0, 0]])}
    del mask["segment_ids"]
    assert md.statistics(mask).lengths.tolist() == [4, 2]


def test_padding_without_a_mask_is_told_by_its_token():
    ids = Ragged.from_rows([[5, 0, 0, 0], [0, 0], [5, 6, 0], []])
    labels = Ragged.from_rows([[-100, 0, -100, -100], [-100, -100], [-100, 6, -100], []])
    both = {"input_ids": ids, "labels": labels}
    assert md.statistics(both).lengths.tolist() == [4, 2, 3]
    found = md.statistics(both, pad_id=0)
    assert found.lengths.tolist() == [2, 2]  # a trained 0 is a token
    assert found.segments.tolist() == [1, 0, 1, 0]
    assert "empty      2  rows without a token" in str(found)
    assert md.statistics({"input_ids": ids}, pad_id=0).lengths.tolist() == [1, 2]
    with pytest.raises(ValueError, match="statistics: pad_id must be an integer >= 0, got -1"):
        md.statistics(both, pad_id=-1)


def test_without_labels_all_is_trained():
    found = md.statistics({"input_ids": Ragged.from_rows([[1, 2], [3]])})
    assert found.trained.tolist() == [2, 1]


def test_nothing():
    found = md.statistics([])
    assert (found.tokens, found.slots, found.fill, found.trained_share) == (0, 0, 1.0, 0.0)
    assert str(found).startswith("rows       0\nsamples    0  0.00 a row, 0 at most\n")
    assert len(md.samples({"input_ids": Ragged.from_rows([])})["input_ids"]) == 0


def test_samples_are_taken_out_of_their_rows():
    out = md.samples(PACKED)
    assert [row.tolist() for row in out["input_ids"]] == [[7, 8, 9], [6], [4, 5]]
    assert [row.tolist() for row in out["labels"]] == [[-100, 8, 9], [-100], [-100, 5]]
    assert md.segments(PACKED)[1].tolist() == [1, 1, 0, 0]


def test_other_columns_are_refused():
    with pytest.raises(ValueError, match="statistics has no input_ids, but n"):
        md.statistics({"text": ["a"], "n": [1]})
