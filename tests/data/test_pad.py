from __future__ import annotations

import numpy as np
import pytest

import mfunc.data as md

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
