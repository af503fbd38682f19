"""The rules on single rows; `test_difference.py` makes the mistakes themselves."""

from __future__ import annotations

import numpy as np
import pytest

from mfunc.data.views.cause import (
    UNKNOWN,
    Change,
    Row,
    Special,
    change,
    content,
    ids_cause,
    labels_cause,
    mask_cause,
)

BOS, EOS, PAD = 1, 2, 0
SPECIAL = Special(BOS, EOS, PAD)


def row(ids, labels=None, mask=None) -> Row:
    return Row(*(None if x is None else np.array(x, np.int32) for x in (ids, labels, mask)))


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ([1, 2], [1, 2], (2, (), ())),
        ([], [1], (0, (), (1,))),
        ([1, 1, 1], [1, 1], (2, (1,), ())),
        ([5, 6, 7, 8], [5, 9, 8], (1, (6, 7), (9,))),
    ],
)
def test_change(a, b, expected):
    assert change(np.array(a), np.array(b)) == Change(*expected)


@pytest.mark.parametrize(
    ("given", "special", "expected"),
    [
        (row([5, 6, 0, 0]), SPECIAL, [5, 6]),
        (row([5, 6, 0, 0]), Special(), [5, 6, 0, 0]),
        (row([5, 6, 0, 0], mask=[1, 1, 1, 0]), Special(), [5, 6, 0]),
        (row([5, 6, 0, 0], mask=[1, 1, 1, 1]), SPECIAL, [5, 6]),
        (row([5, 2, 2, 2]), Special(eos=2, pad=2), [5, 2]),
        (row([5, 2, 2, 2], [-100, 2, 2, -100]), Special(eos=2, pad=2), [5, 2, 2]),
        (row([0, 0]), SPECIAL, []),
        (row([]), SPECIAL, []),
    ],
)
def test_content(given, special, expected):
    assert content(given, special).tolist() == expected


@pytest.mark.parametrize(
    ("a", "b", "cause"),
    [
        ([1, 5, 6, 2], [5, 6, 2], "bos missing in b"),
        ([5, 6, 2], [1, 5, 6, 2], "bos extra in b"),
        ([1, 5, 2], [1, 1, 5, 2], "bos doubled in b"),
        ([1, 5, 2], [1, 5], "eos missing in b"),
        ([1, 5, 2, 1, 6, 2], [1, 5, 1, 6, 2], "eos missing in b"),
        ([1, 5, 2], [5], "bos missing in b, eos missing in b"),
        ([1, 5, 2, 2, 6], [1, 5, 2, 6], "eos doubled in a"),
        ([1, 5, 2, 6], [1, 2, 5, 6], UNKNOWN),
        ([5, 6, 0, 0], [5, 6], "extra padding in a"),
        ([5, 6, 7, 7], [5, 6, 8, 8], "pad differs: 7 in a, 8 in b"),
        ([5, 6, 7, 8], [5, 6, 7, 9], UNKNOWN),
        ([5, 6, 7, 8, 9], [5, 6, 7], "truncated in b"),
        ([5, 6, 7, 8, 2], [5, 6, 2], "truncated in b"),
        ([5, 6, 7, 8], [], UNKNOWN),
        ([5, 6, 7, 8], [6, 7, 8], UNKNOWN),
        ([5, 6, 7], [5, 9, 7], UNKNOWN),
        ([1, 5, 6, 2], [7, 8, 2], UNKNOWN),
    ],
)
def test_ids(a, b, cause):
    assert ids_cause(row(a), row(b), SPECIAL, None, set()) == cause


def test_a_change_that_others_share():
    a, b = row([5, 6, 7, 9]), row([5, 8, 9])
    assert ids_cause(a, b, SPECIAL, None, {Change(1, (6, 7), (8,))}) == "system text differs"
    assert ids_cause(a, b, SPECIAL, None, {Change(1, (6, 7), (9,))}) == UNKNOWN


def test_a_decoder_that_fails_decides_nothing():
    class Broken:
        def decode(self, ids):
            raise RuntimeError("no such id")

    assert ids_cause(row([5, 6]), row([5, 7]), SPECIAL, Broken(), set()) == UNKNOWN


@pytest.mark.parametrize(
    ("a", "b", "cause"),
    [
        ([-100, -100, 7, 2], [5, 6, 7, 2], "prompt trained in b"),
        ([-100, -100, 7, 2], [-100, 6, 7, 2], "prompt trained in b"),
        ([-100, -100, 7, 2], [-100, -100, -100, -100], "answer untrained in b"),
        ([-100, -100, 7, 2], [-100, -100, 7, -100], "eos untrained in b"),
        ([-100, -100, 7, -100], [-100, -100, 7, 2], "eos untrained in a"),
        ([-100, 6, 7, 2], [5, 6, 7, 2], "first token trained in b"),
        ([-100, -100, 7, 2], [-100, 7, 2, -100], "labels shifted by one in b"),
        ([-100, 7, 2, -100], [-100, -100, 7, 2], "labels shifted by one in a"),
        ([-100, -100, 7, 2], [-100, -100, 8, 2], UNKNOWN),
        ([-100, -100, 7, 2], [-100, 6, 7, -100], UNKNOWN),
    ],
)
def test_labels(a, b, cause):
    ids = [5, 6, 7, 2]
    assert labels_cause(row(ids, a), row(ids, b), SPECIAL) == cause


@pytest.mark.parametrize(
    ("a", "b", "cause"),
    [
        (
            [1, 1, 1, 1],
            [1, 1, 2, 0],
            "mask is ones in a (plain pack), segment ids in b (neat pack)",
        ),
        ([1, 1, 1, 0], [1, 1, 2, 0], "mask is 0 and 1 in a, segment ids in b"),
        ([1, 1, 1, 0], [1, 1, 1, 1], "mask of padding is 1 in b, 0 in a"),
        ([1, 1, 2, 0], [2, 2, 1, 0], "segments are numbered otherwise"),
        ([1, 2, 2, 0], [1, 1, 2, 0], "segments have other borders"),
        ([1, 2, 2, 0], [1, 1, 2, 2], UNKNOWN),
    ],
)
def test_masks(a, b, cause):
    ids = [5, 6, 7, 0]
    assert mask_cause(row(ids, mask=a), row(ids, mask=b)) == cause
