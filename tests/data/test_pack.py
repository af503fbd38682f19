from __future__ import annotations

import numpy as np
import pytest

import mfunc.data as md

SAMPLES = {
    "input_ids": md.Ragged.from_rows([[7, 8, 9], [4, 5], [6], []]),
    "labels": md.Ragged.from_rows([[-100, 8, 9], [-100, 5], [6], []]),
}


def test_one_pack_written_out():
    out, counts = md.counted(md.pack(4, pad_id=1), SAMPLES)
    assert out["input_ids"].tolist() == [[7, 8, 9, 6], [4, 5, 1, 1]]
    assert out["labels"].tolist() == [[-100, 8, 9, 6], [-100, 5, -100, -100]]
    assert out["segment_ids"].tolist() == [[1, 1, 1, 2], [1, 1, 0, 0]]
    assert out["position_ids"].tolist() == [[0, 1, 2, 0], [0, 1, 0, 0]]
    assert counts == {
        "pack.samples": 4,
        "pack.empty": 1,
        "pack.rows": 2,
        "pack.tokens": 6,
        "pack.slots": 8,
    }


def test_overlong_is_an_error_that_names_row_and_remedy():
    columns = {**SAMPLES, "_origin": [f"x.json line {i}" for i in range(1, 5)]}
    message = r"pack: row 0 \(x.json line 1\) has 3 tokens but seq_length=2; put truncate\(\.\.\.\)"
    with pytest.raises(ValueError, match=message):
        md.pack(2)(columns)
    with pytest.raises(ValueError, match=r"row 0 .* has 3 tokens but capacity=2"):
        md.pack(3, capacity=2)(columns)


@pytest.mark.parametrize(
    ("overlong", "tokens", "count"),
    [
        ("drop", [4, 5, 6], {"pack.dropped": 1, "pack.tokens_lost": 3}),
        ("truncate", [4, 5, 6, 7, 9], {"pack.cut": 1, "pack.tokens_lost": 1}),
        ("split", [4, 5, 6, 7, 8, 9], {"pack.split": 1, "pack.tokens_lost": 0}),
    ],
)
def test_overlong_is_handled_and_counted(overlong, tokens, count):
    out, counts = md.counted(md.pack(2, overlong=overlong), SAMPLES)
    assert sorted(out["input_ids"][out["segment_ids"] != 0].tolist()) == tokens
    assert count.items() <= counts.items()
    assert counts["pack.samples"] == 4


def test_concat_never_asks_about_overlong():
    out = md.pack(2, strategy="concat")(SAMPLES)
    assert out["input_ids"].tolist() == [[7, 8], [9, 4], [5, 6]]
    assert out["segment_ids"].tolist() == [[1, 1], [1, 2], [1, 2]]
    assert out["position_ids"].tolist() == [[0, 1], [0, 0], [0, 0]]


def test_settings():
    with pytest.raises(ValueError, match=r"capacity must be an integer in 1\.\.8, got 9"):
        md.pack(8, capacity=9)
    with pytest.raises(ValueError, match=r"strategy must be one of .*did you mean 'next_fit'"):
        md.pack(8, strategy="nextfit")
    with pytest.raises(ValueError, match="overlong must be one of 'error', 'drop', 'truncate'"):
        md.pack(8, overlong="cut")
    with pytest.raises(ValueError, match="pad_id must be an integer >= 0, got -1"):
        md.pack(8, pad_id=-1)


def test_columns_that_would_be_lost_are_refused():
    with pytest.raises(ValueError, match="pack makes column 'position_ids' itself"):
        md.pack(4)({**SAMPLES, "position_ids": SAMPLES["input_ids"]})
    with pytest.raises(ValueError, match=r"column 'text' \(list\) has one value per sample"):
        md.pack(4)({**SAMPLES, "text": ["a"] * 4})
    with pytest.raises(ValueError, match=r"put tokenize\(\.\.\.\) before it"):
        md.pack(4)({"text": ["a"]})


def test_wide_ids_become_int32():
    ids = md.Ragged(np.array([1, 2, 3]), [0, 3])
    assert md.pack(4)({"input_ids": ids})["input_ids"].dtype == np.int32


def test_extra_columns_keep_their_type():
    weights = md.Ragged.from_rows([[0.5, 1.5, 2.5], [3.5, 4.5], [5.5], []], np.float32)
    out = md.pack(4)({**SAMPLES, "weights": weights})
    assert out["weights"].dtype == np.float32
    assert out["weights"].tolist() == [[0.5, 1.5, 2.5, 5.5], [3.5, 4.5, 0, 0]]


def test_rows_checks_that_the_plan_fits_the_columns():
    plan = md.pack_plan([3, 2, 1, 0], capacity=4)
    with pytest.raises(ValueError, match="was made for other samples than 'input_ids'"):
        md.rows(plan, {"input_ids": SAMPLES["input_ids"][1:]}, 0, 2)
    with pytest.raises(ValueError, match="was made for other samples than 'input_ids'"):
        md.rows(plan, {"input_ids": md.Ragged.from_rows([[1], [2], [3]])}, 0, 2)
    with pytest.raises(ValueError, match=r"rows: 1\.\.3 is not within the plan's 2 rows"):
        md.rows(plan, SAMPLES, 1, 3)
    with pytest.raises(ValueError, match="seq_length must be an integer >= 4, got 3"):
        md.rows(plan, SAMPLES, 0, 1, seq_length=3)
    with pytest.raises(ValueError, match="pack makes column 'segment_ids' itself"):
        md.rows(plan, {"segment_ids": SAMPLES["input_ids"]}, 0, 1)


def test_unpack_wants_packed_rows():
    with pytest.raises(ValueError, match=r"needs 'segment_ids' \[rows, S\]"):
        md.unpack()({"input_ids": np.ones((2, 3), int)})
    with pytest.raises(
        ValueError, match=r"'input_ids' has shape \(2, 4\), but segment_ids \(2, 3\)"
    ):
        md.unpack()({"segment_ids": np.ones((2, 3), int), "input_ids": np.ones((2, 4), int)})


def test_unpack_of_padded_rows_is_the_samples():
    """The same columns as pack makes, so the same inverse."""
    back = md.unpack()(md.pad_to_divisor(8)(md.take(3)(SAMPLES)))
    assert back == md.take(3)(SAMPLES)
