from __future__ import annotations

import numpy as np
import pytest

import mfunc.data as md

ROWS = {"text": list("abcdefgh"), "n": np.arange(8)}


def test_shuffle_is_one_permutation_of_all_columns():
    out = md.shuffle(3)(ROWS)
    assert [ROWS["text"][i] for i in out["n"]] == out["text"]
    assert out["text"] != ROWS["text"]
    assert out["text"] != md.shuffle(4)(ROWS)["text"]


def test_shuffle_order_is_pinned():
    """The bits of Philox and a stable sort: the same for ever."""
    assert md.shuffle(0)(ROWS)["n"].tolist() == [0, 2, 1, 5, 4, 3, 6, 7]
    assert md.shuffle(2**64 - 1)(ROWS)["n"].tolist() == [0, 7, 4, 2, 6, 3, 1, 5]


@pytest.mark.parametrize(
    ("key", "error", "message"),
    [
        (-1, ValueError, r"integer in 0\.\.18446744073709551615, got -1"),
        (2**64, ValueError, "got 18446744073709551616"),
        (1.5, TypeError, "got 1.5"),
        (np.array([1, 2]), ValueError, r"a key is two uint32.*got int64 of shape \(2,\)"),
        (np.array([1], np.uint32), ValueError, r"got uint32 of shape \(1,\)"),
    ],
)
def test_neither_seed_nor_key(key, error, message):
    with pytest.raises(error, match=message):
        md.shuffle(key)


def test_batches_are_views_and_errors_come_before_the_first():
    first = next(md.batch(3)(ROWS))
    assert first["text"] == ["a", "b", "c"]
    assert np.shares_memory(first["n"], ROWS["n"])
    assert [len(b["n"]) for b in md.batch(3)(ROWS)] == [3, 3, 2]
    assert [len(b["n"]) for b in md.batch(3, drop_remainder=True)(ROWS)] == [3, 3]
    with pytest.raises(ValueError, match="columns differ in length"):
        md.batch(2)({"a": ["x"], "b": []})
    with pytest.raises(ValueError, match="size must be an integer >= 1, got 0"):
        md.batch(0)
    with pytest.raises(TypeError, match="drop_remainder must be True or False"):
        md.batch(2, drop_remainder="no")


def test_take_and_skip_beyond_the_end():
    assert md.take(99)(ROWS)["text"] == ROWS["text"]
    assert md.skip(99)(ROWS)["text"] == []
    with pytest.raises(ValueError, match="n must be an integer >= 0, got -1"):
        md.take(-1)


def test_repeat_to_multiple_begins_again_and_counts():
    out, counts = md.counted(md.repeat_to_multiple(3), ROWS)
    assert out["text"] == [*"abcdefgh", "a"]
    assert counts == {"repeat_to_multiple.rows": 8, "repeat_to_multiple.repeated": 1}
    assert md.repeat_to_multiple(5)({"n": np.array([1, 2])})["n"].tolist() == [1, 2, 1, 2, 1]
    assert md.repeat_to_multiple(4)({"text": []}) == {"text": []}
    with pytest.raises(ValueError, match="multiple must be an integer >= 1, got 0"):
        md.repeat_to_multiple(0)
