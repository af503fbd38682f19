from __future__ import annotations

import pickle
import sys

import numpy as np
import pytest

from mfunc.data import Ragged
from mfunc.data.ragged import copy_windows, offsets_of

ROWS = Ragged.from_rows([[7, 8, 9], [], [4, 5]])


def test_rows_slices_and_choices():
    assert [r.tolist() for r in ROWS] == [[7, 8, 9], [], [4, 5]]
    assert ROWS[-1].tolist() == [4, 5]
    assert ROWS[1:] == Ragged.from_rows([[], [4, 5]])
    assert ROWS[1:].values is not None
    assert np.shares_memory(ROWS[1:].values, ROWS.values)
    assert ROWS[::-1] == Ragged.from_rows([[4, 5], [], [7, 8, 9]])
    assert ROWS[[2, 0, 2]] == Ragged.from_rows([[4, 5], [7, 8, 9], [4, 5]])
    assert ROWS[np.array([True, False, True])] == Ragged.from_rows([[7, 8, 9], [4, 5]])
    assert ROWS[[]] == Ragged.from_rows([])
    assert len(ROWS[5:]) == 0
    with pytest.raises(IndexError):
        ROWS[3]
    with pytest.raises(IndexError):
        ROWS[[3]]


def test_offsets_need_not_begin_at_zero():
    view = Ragged(np.arange(10), [4, 6, 9])
    assert view == Ragged.from_rows([[4, 5], [6, 7, 8]])
    assert view.flat.tolist() == [4, 5, 6, 7, 8]


def test_values_cannot_be_written_through_it_but_stay_the_callers():
    values = np.arange(3, dtype=np.int32)
    ragged = Ragged(values, [0, 3])
    with pytest.raises(ValueError, match="read-only"):
        ragged[0][0] = 1
    values[0] = 5
    assert ragged[0][0] == 5, "no copy was made"


@pytest.mark.parametrize(
    ("offsets", "message"),
    [
        ([0, 3, 2], "offsets decrease after row 1"),
        ([0, 9], r"offsets span 0\.\.9, but there are 5 values"),
        ([-1, 3], r"offsets span -1\.\.3"),
        ([], "at least one integer"),
        ([0.0, 1.0], "at least one integer"),
    ],
)
def test_wrong_offsets(offsets, message):
    with pytest.raises(ValueError, match=message):
        Ragged(np.arange(5), offsets)


def test_values_have_one_axis():
    with pytest.raises(ValueError, match=r"one axis, got shape \(2, 2\)"):
        Ragged(np.zeros((2, 2)), [0, 1])


def test_from_rows_makes_int32_and_never_changes_a_value():
    assert Ragged.from_rows([[1], np.array([2, 3])]).dtype == np.int32
    assert Ragged.from_rows([]).dtype == np.int32
    assert Ragged.from_rows([[1, 2]], np.uint16).dtype == np.uint16
    with pytest.raises(ValueError, match="int64 values do not fit int32"):
        Ragged.from_rows([[2**31]])
    with pytest.raises(ValueError, match="do not fit uint8"):
        Ragged.from_rows([[-100]], np.uint8)
    with pytest.raises(ValueError, match="row 1 is not a sequence of numbers"):
        Ragged.from_rows([[1], "ab"])


def test_equality_is_of_rows():
    assert Ragged(np.array([0, 7, 8, 9, 4, 5]), [1, 4, 4, 6]) == ROWS
    assert Ragged.from_rows([[7, 8], [9], [4, 5]]) != ROWS
    assert Ragged.from_rows([[7, 8, 9], [], [4, 6]]) != ROWS
    assert ROWS != "rows"
    assert pickle.loads(pickle.dumps(ROWS)) == ROWS


@pytest.mark.parametrize("count", [0, 1, 100, 511, 512, 3000])
def test_copy_windows_equals_a_loop(count):
    rng = np.random.default_rng(count)
    lengths = rng.choice([0, 1, 2, 5, 5, 5, 40, 300], count)
    lengths[: count // 50] = rng.integers(0, 900, count // 50)  # rare lengths among common ones
    values = rng.integers(0, 1000, 2000)
    starts = rng.integers(0, 1000, count)
    at = offsets_of(lengths)
    out, expected = np.zeros(at[-1], int), np.zeros(at[-1], int)
    copy_windows(out, at[:-1], values, starts, lengths)
    for to, start, length in zip(at[:-1], starts, lengths, strict=True):
        expected[to : to + length] = values[start : start + length]
    assert np.array_equal(out, expected)


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.float64])
def test_rows_of_a_strided_view(dtype):
    """Every second value: windows are of these, not of what lies between."""
    values = np.arange(2000).astype(dtype)[::2]
    rows = np.tile([3, 500, 7], 300)
    ragged = Ragged(values, offsets_of(np.repeat([2, 1], [400, 200])))
    assert [r.tolist() for r in ragged[rows]] == [ragged[int(i)].tolist() for i in rows]


def test_arrow_is_zero_copy_both_ways():
    arrow = pytest.importorskip("pyarrow", exc_type=ImportError)
    back = Ragged.from_arrow(ROWS.to_arrow())
    assert back == ROWS
    assert np.shares_memory(back.values, ROWS.values)
    array = arrow.array([[1, 2], [], [3]], arrow.list_(arrow.int32()))
    assert Ragged.from_arrow(array.slice(1)) == Ragged.from_rows([[], [3]])
    with pytest.raises(ValueError, match=r"without nulls, got list.* with 1 null rows"):
        Ragged.from_arrow(arrow.array([[1], None]))
    with pytest.raises(ValueError, match="needs a list array"):
        Ragged.from_arrow(arrow.array([1, 2]))


def test_without_pyarrow_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ImportError, match=r"pip install 'mfunc\[arrow\]'"):
        ROWS.to_arrow()
