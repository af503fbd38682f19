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
