from __future__ import annotations

import numpy as np
import pytest

from mfunc.data import Ragged, concat
from mfunc.data.columns import num_rows, row_name, take_rows, token_columns

IDS = Ragged.from_rows([[1, 2], [3]])


def test_kinds_of_columns():
    assert num_rows("f", {}) == 0
    assert num_rows("f", {"a": IDS, "b": np.zeros((2, 5)), "c": ["x", None]}) == 2
    with pytest.raises(
        TypeError, match="f: column 'a' is a tuple; allowed are Ragged, ndarray, list"
    ):
        num_rows("f", {"a": (1, 2)})
    with pytest.raises(TypeError, match="f: column 'a' is an array without a sample axis"):
        num_rows("f", {"a": np.array(3)})
    with pytest.raises(TypeError, match="f: needs a dict of columns, got list"):
        num_rows("f", [{"a": 1}])
    with pytest.raises(ValueError, match="f: columns differ in length: a 2, b 1"):
        num_rows("f", {"a": IDS, "b": ["x"]})


def test_token_columns_agree_in_every_row():
    labels = Ragged.from_rows([[1, 2], [3, 4]])
    with pytest.raises(ValueError, match="f: row 1 has 1 input_ids but 2 labels"):
        token_columns("f", {"input_ids": IDS, "labels": labels})
    with pytest.raises(ValueError, match=r"needs a Ragged column 'input_ids', got text \(list\)"):
        token_columns("f", {"text": ["a"]})
    assert list(token_columns("f", {"input_ids": IDS, "text": ["a", "b"]})) == ["input_ids"]


def test_ids_become_int32_or_are_refused():
    wide = Ragged(np.array([1, 2, 3]), [0, 2, 3])
    assert token_columns("f", {"input_ids": wide})["input_ids"].dtype == np.int32
    with pytest.raises(ValueError, match="input_ids holds int64, not all 32-bit integers"):
        token_columns("f", {"input_ids": Ragged(np.array([2**31]), [0, 1])})
    with pytest.raises(ValueError, match="input_ids holds float64"):
        token_columns("f", {"input_ids": Ragged(np.array([1.0]), [0, 1])})


def test_rows_are_named_with_their_origin():
    assert row_name({}, 3) == "row 3"
    assert row_name({"_origin": ["a.json line 1"]}, 0) == "row 0 (a.json line 1)"


def test_take_rows_by_mask_and_by_number():
    columns = {"a": IDS, "b": np.arange(4).reshape(2, 2), "c": ["x", "y"]}
    for index in (np.array([1]), np.array([False, True])):
        taken = take_rows(columns, index)
        assert taken["a"] == Ragged.from_rows([[3]])
        assert taken["b"].tolist() == [[2, 3]]
        assert taken["c"] == ["y"]


def test_concat_wants_the_same_columns():
    assert concat([]) == {}
    joined = concat([{"a": IDS, "b": np.ones(2)}, {"a": IDS[1:], "b": np.zeros(1)}])
    assert joined["a"] == Ragged.from_rows([[1, 2], [3], [3]])
    assert joined["b"].tolist() == [1, 1, 0]
    with pytest.raises(ValueError, match=r"a part has b \(list\) but the first a \(Ragged\)"):
        concat([{"a": IDS}, {"b": ["x"]}])
    with pytest.raises(ValueError, match=r"a part has a \(list\) but the first a \(Ragged\)"):
        concat([{"a": IDS}, {"a": ["x"]}])
