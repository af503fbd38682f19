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


def test_aligned_segments_as_pictured():
    """What is added is of the segment; `token_mask` tells it from tokens; unpack takes it away."""
    out = md.pack(8, segment_multiple=4, pad_id=1)(SAMPLES)
    assert out["input_ids"].tolist() == [[6, 1, 1, 1, 4, 5, 1, 1], [7, 8, 9, 1, 1, 1, 1, 1]]
    assert out["labels"].tolist()[0] == [6, -100, -100, -100, -100, 5, -100, -100]
    assert out["segment_ids"].tolist() == [[1, 1, 1, 1, 2, 2, 2, 2], [1, 1, 1, 1, 0, 0, 0, 0]]
    assert out["position_ids"].tolist() == [[0, 1, 2, 3, 0, 1, 2, 3], [0, 1, 2, 3, 0, 0, 0, 0]]
    assert out["token_mask"].tolist() == [[1, 0, 0, 0, 1, 1, 0, 0], [1, 1, 1, 0, 0, 0, 0, 0]]
    assert md.actual_seq_len(out["segment_ids"]).tolist() == [4, 8, 12, 16]
    back = md.unpack()(out)
    assert {name: column[::-1] for name, column in back.items()} == md.take(3)(SAMPLES)


def test_alignment_counts_against_capacity():
    """Of nine places two fours can be used; a sample of five tokens would take eight."""
    ids = {"input_ids": md.Ragged.from_rows([range(n) for n in (5, 4, 4)])}
    out = md.pack(12, capacity=9, segment_multiple=4)(ids)
    assert out["segment_ids"].max(axis=1).tolist() == [1, 2]
    with pytest.raises(ValueError, match="row 0 has 5 tokens but capacity=4"):
        md.pack(12, capacity=7, segment_multiple=4)(ids)
    with pytest.raises(ValueError, match="sample 0 has 5 tokens but capacity=4"):
        md.pack_plan([5], capacity=7, segment_multiple=4)
    cut = md.pack(12, capacity=7, segment_multiple=4, strategy="concat")(ids)
    assert cut["token_mask"].sum(axis=1).tolist() == [4, 1, 4, 4]


def test_a_row_as_one_document():
    out = md.pack(4, isolate=False)(SAMPLES)
    assert out["segment_ids"].tolist() == [[1, 1, 1, 1], [1, 1, 0, 0]]
    assert out["position_ids"].tolist() == [[0, 1, 2, 3], [0, 1, 0, 0]]


def test_a_seed_decides_which_equals_meet_and_the_order_of_rows():
    ids = {"input_ids": md.Ragged.from_rows([[i] * (3 if i < 30 else 1) for i in range(40)])}
    plain, *drawn = [md.pack(4, seed=seed)(ids) for seed in (None, 0, 0, 1)]
    assert np.array_equal(drawn[0]["input_ids"], drawn[1]["input_ids"])
    assert not np.array_equal(drawn[0]["input_ids"], drawn[2]["input_ids"])
    assert sorted(drawn[0]["input_ids"].tolist()) != sorted(plain["input_ids"].tolist())
    full, mixed = ((out["segment_ids"] > 0).sum(axis=1).tolist() for out in (plain, drawn[0]))
    assert full == sorted(mixed, reverse=True) != mixed


def test_settings_of_segments_and_order():
    with pytest.raises(ValueError, match=r"seq_length=10 is not a multiple of .*=4, .* try 12"):
        md.pack(10, segment_multiple=4)
    with pytest.raises(ValueError, match=r"segment_multiple must be an integer in 1\.\.3, got 4"):
        md.pack(8, capacity=3, segment_multiple=4)
    with pytest.raises(ValueError, match="segment_multiple must be an integer >= 1, got 0"):
        md.pack(8, segment_multiple=0)
    with pytest.raises(ValueError, match="with isolate=False a row is one segment"):
        md.pack(8, isolate=False, segment_multiple=4)
    with pytest.raises(TypeError, match="isolate must be True or False, got 1"):
        md.pack(8, isolate=1)
    with pytest.raises(ValueError, match=r"pack: seed must be an integer in 0\.\..*, got -1"):
        md.pack(8, seed=-1)
    with pytest.raises(ValueError, match="max_segments must be an integer >= 1, got 0"):
        md.pack(8, max_segments=0)


@pytest.mark.parametrize("overlong", ["error", "drop", "truncate", "split"])
def test_edges(overlong):
    """A sample of exactly S, one all masked, one without tokens, one row, no rows."""
    rows = {"input_ids": [[1, 2, 3, 4], [5, 6], []], "labels": [[-100, 2, 3, 4], [-100] * 2, []]}
    columns = {name: md.Ragged.from_rows(value) for name, value in rows.items()}
    out, counts = md.counted(md.pack(4, overlong=overlong), columns)
    assert out["input_ids"].tolist() == [[1, 2, 3, 4], [5, 6, 0, 0]]
    assert out["labels"].tolist() == [[-100, 2, 3, 4], [-100] * 4]
    assert (counts["pack.empty"], counts["pack.rows"]) == (1, 2)
    one = md.pack(4, overlong=overlong)(md.take(1)(columns))
    assert one["segment_ids"].tolist() == [[1, 1, 1, 1]]
    none = md.pack(4, overlong=overlong, segment_multiple=2, seed=1)(md.skip(2)(columns))
    assert {array.shape for array in none.values()} == {(0, 4)}
