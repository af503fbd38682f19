from __future__ import annotations

import json

import numpy as np
import pytest

import mfunc.data as md
from mfunc.data.pad import _target_length

# One sample: source 1..5 (untrained), target 6 7 and eos 8.
ONE = {
    "input_ids": md.Ragged.from_rows([[1, 2, 3, 4, 5, 6, 7, 8], [9, 8]]),
    "labels": md.Ragged.from_rows([[-100] * 5 + [6, 7, 8], [-100, 8]]),
    "_origin": ["a.json line 1", "a.json line 2"],
}


@pytest.mark.parametrize(
    ("policy", "first"),
    [
        ("tail", [1, 2, 3, 4, 5, 8]),
        ("source_first", [1, 2, 5, 6, 7, 8]),
        ("proportional", [1, 2, 4, 5, 6, 8]),
    ],
)
def test_policies_are_as_pictured(policy, first):
    out, counts = md.counted(md.truncate(6, policy=policy), ONE)
    assert [r.tolist() for r in out["input_ids"]] == [first, [9, 8]]
    trained = out["labels"][0] != -100
    assert out["labels"][0][trained].tolist() == [i for i in first if i > 5]
    assert out["_origin"] == ONE["_origin"]
    assert counts == {
        "truncate.samples": 2,
        "truncate.cut": 1,
        "truncate.dropped": 0,
        "truncate.split": 0,
        "truncate.tokens_lost": 2,
    }


def test_drop_and_split_carry_the_other_columns_along():
    out, counts = md.counted(md.truncate(3, policy="drop"), ONE)
    assert out["_origin"] == ["a.json line 2"]
    assert (counts["truncate.dropped"], counts["truncate.tokens_lost"]) == (1, 8)
    out, counts = md.counted(md.truncate(3, policy="split"), ONE)
    assert [r.tolist() for r in out["input_ids"]] == [[1, 2, 3], [4, 5, 6], [7, 8], [9, 8]]
    assert out["_origin"] == ["a.json line 1"] * 3 + ["a.json line 2"]
    assert (counts["truncate.split"], counts["truncate.tokens_lost"]) == (1, 0)


def test_error_names_row_and_remedy():
    message = r"truncate: row 0 \(a.json line 1\) has 8 tokens but max_length=7; choose policy="
    with pytest.raises(ValueError, match=message):
        md.truncate(7, policy="error")(ONE)
    assert md.truncate(8, policy="error")(ONE) == ONE


def test_source_needs_labels_to_be_told():
    with pytest.raises(ValueError, match="policy='source_first' needs 'labels'"):
        md.truncate(3, policy="source_first")({"input_ids": ONE["input_ids"]})


def test_settings():
    with pytest.raises(TypeError, match="missing a required argument: 'policy'"):
        md.truncate(3)
    with pytest.raises(ValueError, match=r"policy must be one of 'error', .*did you mean 'tail'"):
        md.truncate(3, policy="tails")


def test_proportional_lengths_agree_with_llama_factory(shared):
    table = json.loads((shared / "golden/mindspeed/truncation/infer_len_golden.json").read_text())
    checked = 0
    for source, target, most, *_, kept_source, kept_target in table["rows"]:
        if source + target > most:
            targets = _target_length(source, target, most, "proportional")
            assert (most - targets, targets) == (kept_source, kept_target)
            checked += 1
    assert checked > 300


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
