from __future__ import annotations

import pickle

import numpy as np
import pytest

import mfunc.data as md
from mfunc.dynamic import Dim

# One sample: source 1..5 (untrained), target 6 7 and eos 8.
ONE = {
    "input_ids": md.Ragged.from_rows([[1, 2, 3, 4, 5, 6, 7, 8], [9, 8]]),
    "labels": md.Ragged.from_rows([[-100] * 5 + [6, 7, 8], [-100, 8]]),
    "_origin": ["a.json line 1", "a.json line 2"],
}


def test_padding_of_every_column():
    columns = {**ONE, "weights": md.Ragged.from_rows([[1] * 8, [1, 1]])}
    out = md.pad_to_divisor(5, pad_id=3)(columns)
    assert out["input_ids"][1].tolist() == [9, 8] + [3] * 8
    assert out["labels"][1].tolist() == [-100, 8] + [-100] * 8
    assert out["weights"][1].tolist() == [1, 1] + [0] * 8
    assert out["segment_ids"].tolist() == [[1] * 8 + [0] * 2, [1] * 2 + [0] * 8]
    assert np.array_equal(out["position_ids"], md.position_ids(out["segment_ids"]))
    assert out["_origin"] == ONE["_origin"]
    assert out["segment_ids"].dtype == out["position_ids"].dtype == np.int32


@pytest.mark.parametrize(("remainder", "width"), [(0, 8), (1, 9), (3, 11)])
def test_padded_length(remainder, width):
    assert md.pad_to_divisor(4, remainder=remainder)(ONE)["labels"].shape == (2, width)


def test_max_length():
    assert md.pad_to_divisor(4, max_length=8)(ONE)["labels"].shape == (2, 8)
    with pytest.raises(ValueError, match=r"row 0 \(a.json line 1\) has 8 tokens but max_length=4"):
        md.pad_to_divisor(4, max_length=4)(ONE)
    message = r"max_length=10 is not 4 \* k \+ 1; the next below is 9"
    with pytest.raises(ValueError, match=message):
        md.pad_to_divisor(4, remainder=1, max_length=10)
    with pytest.raises(ValueError, match=r"remainder must be an integer in 0\.\.3, got 4"):
        md.pad_to_divisor(4, remainder=4)


def test_made_columns_are_not_overwritten():
    with pytest.raises(ValueError, match="makes column 'segment_ids' itself"):
        md.pad_to_divisor(4)({**ONE, "segment_ids": ONE["input_ids"]})


WEIGHTED = {**ONE, "weights": md.Ragged.from_rows([[2] * 8, [2, 2]])}


def test_pads_of_further_columns_and_another_ignored_label():
    out = md.pad_to_divisor(5, pads={"weights": 7}, ignore_id=-1)(WEIGHTED)
    assert out["weights"][1].tolist() == [2, 2] + [7] * 8
    assert out["labels"][1].tolist() == [-1, 8] + [-1] * 8
    assert WEIGHTED["labels"][1].tolist() == [-100, 8]
    real = {**ONE, "weights": md.Ragged.from_rows([[0.5] * 8, [1.5, 2.5]])}
    out = md.pad_to_divisor(8, pads={"weights": 0.25})(real)
    assert out["weights"][1].tolist() == [1.5, 2.5] + [0.25] * 6


def test_a_fixed_length():
    assert md.pad_to_divisor(11, max_length=11)(ONE)["input_ids"].shape == (2, 11)


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"pads": {"wieghts": 1}}, ValueError, "names 'wieghts', but .* did you mean 'weights'"),
        ({"pads": {"_origin": 1}}, ValueError, "names '_origin', but the Ragged columns are"),
        ({"pads": {"weights": 0.5}}, ValueError, "'weights' is int32, which cannot hold 0.5"),
        ({"pads": {"weights": 2**31}}, ValueError, "cannot hold 2147483648"),
        ({"pads": {"weights": float("inf")}}, ValueError, "cannot hold inf"),
        ({"pads": {"weights": "x"}}, TypeError, "pad of 'weights' must be a number, got 'x'"),
        ({"pads": {"labels": 0}}, ValueError, "pad of 'labels' is the setting ignore_id"),
        ({"pads": {"input_ids": 0}}, ValueError, "pad of 'input_ids' is the setting pad_id"),
        ({"pad_id": 2**31}, ValueError, "pad_id must be an integer in"),
        ({"ignore_id": 1.0}, TypeError, "ignore_id must be an integer"),
    ],
)
def test_pads_are_checked(settings, error, message):
    with pytest.raises(error, match=message):
        md.pad_to_divisor(4, **settings)(WEIGHTED)


def test_upstreams_lengths_but_for_remainder_0():
    """The table of the dynamic-shape batches; with remainder 0 upstream rounds nothing."""
    table = [(100, 2, 1, 101), (101, 2, 1, 101), (102, 2, 1, 103), (100, 16, 1, 113)]
    table += [(113, 16, 1, 113), (114, 16, 1, 129), (100, 2, 0, 100), (101, 2, 0, 102)]
    for longest, divisor, remainder, width in table:
        ids = {"input_ids": md.Ragged.from_rows([range(longest), range(7)])}
        padded = md.pad_to_divisor(divisor, remainder=remainder)(ids)
        assert padded["input_ids"].shape == (2, width)


# --- one object for data and graph ---

LENGTH = Dim("length", divisor=4, remainder=1, min=9, max=17)


@pytest.mark.parametrize(("longest", "width"), [(1, 9), (9, 9), (10, 13), (17, 17)])
def test_a_dim_says_the_length(longest, width):
    columns = {"input_ids": md.Ragged.from_rows([[1] * longest, [2]])}
    assert md.pad_to_divisor(LENGTH)(columns)["input_ids"].shape == (2, width)


def test_no_token_takes_the_least_size_of_a_dim():
    columns = {"input_ids": md.Ragged.from_rows([[], []])}
    assert md.pad_to_divisor(LENGTH)(columns)["input_ids"].shape == (2, 9)


def test_a_dim_refuses_what_it_cannot_hold():
    with pytest.raises(ValueError, match="row 0 has 18 tokens but max_length=17; put truncate"):
        md.pad_to_divisor(LENGTH)({"input_ids": md.Ragged.from_rows([[1] * 18])})


@pytest.mark.parametrize("settings", [{"remainder": 1}, {"max_length": 17}])
def test_a_dim_has_its_own_remainder_and_largest_size(settings):
    with pytest.raises(ValueError, match=r"length = 4 k \+ 1, from 9 to 17 has its own remainder"):
        md.pad_to_divisor(LENGTH, **settings)


def test_a_dim_whose_largest_is_no_size_is_refused():
    with pytest.raises(ValueError, match="max=18 is not a size of length = 4 k"):
        md.pad_to_divisor(Dim("length", divisor=4, remainder=1, max=18))


def test_transforms_of_one_dim_are_equal():
    same = Dim("length", divisor=4, remainder=1, min=9, max=17)
    assert md.pad_to_divisor(LENGTH) == md.pad_to_divisor(same)
    assert pickle.loads(pickle.dumps(md.pad_to_divisor(LENGTH))) == md.pad_to_divisor(same)
