from __future__ import annotations

import numpy as np
import pytest

import mfunc.data as md

ROW = [1, 1, 1, 2, 2, 2, 2, 0, 0, 0, 0, 0]


def test_pairs_by_hand():
    found = md.attention_blocks(ROW, block=4, multiple=1)
    assert found["pairs"].tolist() == [[0, 0], [1, 0], [1, 1]]
    assert found["first"].tolist() == [0, 0, 2]
    assert found["pairs"].dtype == found["first"].dtype == np.int32


def test_rows_are_laid_end_to_end():
    """A block may hold the padding of a row and the first document of the next."""
    found = md.attention_blocks([[1, 1, 1, 1, 0, 0], [1, 1, 1, 1, 1, 1]], block=4, multiple=1)
    assert found["pairs"].tolist() == [[0, 0], [1, 1], [2, 1], [2, 2]]


@pytest.mark.parametrize(
    ("settings", "pairs"),
    [({}, 3), ({"multiple": 1}, 3), ({"multiple": 2}, 4), ({"multiple": 8}, 8), ({"most": 7}, 7)],
)
def test_pairs_that_fill_up(settings, pairs):
    found = md.attention_blocks(ROW, block=4, **settings)["pairs"]
    assert found.shape == (pairs, 2)
    assert found[3:].tolist() == [[0, -1]] * (pairs - 3)


def test_pairs_fill_up_to_few_numbers_and_by_no_more_than_half():
    """So that an epoch of packs compiles a step for few of them."""
    found = []
    for count in range(1, 200):
        pairs = md.attention_blocks(np.ones((count, 1), int), block=1)["pairs"]
        assert count <= len(pairs) < 1.5 * count + 1
        found.append(len(pairs))
    assert sorted(set(found)) == [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256]


def test_a_batch_of_padding_has_one_pair_that_fills_up():
    assert md.attention_blocks([[0, 0]], block=2)["pairs"].tolist() == [[0, -1]]


def test_a_long_document_looks_at_all_before_it():
    found = md.attention_blocks([1] * 12, block=4, multiple=1)
    assert found["pairs"].tolist() == [[0, 0], [1, 0], [1, 1], [2, 0], [2, 1], [2, 2]]


@pytest.mark.parametrize(
    ("segments", "settings", "said"),
    [
        ([1, 1, 1], {"block": 2}, "1 rows of 3 are 3 positions, no multiple of block=2; choose"),
        (
            ROW,
            {"block": 4, "most": 2},
            "batch has 3 pairs of blocks, but most=2; give a larger",
        ),
        (ROW, {"block": 4, "most": 9, "multiple": 3}, "multiple and most are given; give one"),
        (ROW, {"block": 0}, "block must be an integer >= 1, got 0"),
        (ROW, {"block": 4, "multiple": 0}, "multiple must be an integer >= 1, got 0"),
        (ROW, {"block": 4, "most": 0}, "most must be an integer >= 1, got 0"),
        ([[1, 2], [2, 2], [1, 1]], {"block": 4}, "3 rows of 2 are 6 positions"),
        ([1, 2, 1, 0], {"block": 2}, "row 0 has segment 1 in 2 places; a segment is one piece"),
        ([[1, 1], [1, 0]], {"block": 3}, "no multiple of block=3"),
        ([1.0], {"block": 1}, r"segment_ids must be integers \[\.\.\., S\]"),
    ],
)
def test_what_is_refused(segments, settings, said):
    with pytest.raises(ValueError, match=said):
        md.attention_blocks(segments, **settings)


def test_a_batch_gets_its_blocks():
    batch = {"segment_ids": np.int32([ROW]), "input_ids": np.int32([ROW])}
    found = md.with_attention_blocks(4, most=5)(batch)
    assert list(found) == ["segment_ids", "input_ids", "attention_blocks"]
    assert found["attention_blocks"]["pairs"].shape == (5, 2)
    assert "attention_blocks" not in batch


def test_a_batch_without_segments_is_refused():
    with pytest.raises(ValueError, match=r"no column 'segment_ids'; put .* columns are ids"):
        md.with_attention_blocks()({"ids": np.int32([[1]])})


@pytest.mark.parametrize("setting", ["block", "multiple", "most"])
def test_settings_are_refused_when_built(setting):
    with pytest.raises(ValueError, match=f"with_attention_blocks: {setting} must be an integer"):
        md.with_attention_blocks(**{setting: 0})


def test_settings_that_exclude_each_other_are_refused_when_built():
    with pytest.raises(ValueError, match="with_attention_blocks: multiple and most are given"):
        md.with_attention_blocks(multiple=2, most=9)


@pytest.mark.parametrize(
    ("length", "pays"), [(2048, True), (512, True), (448, False), (1000, False), (129, False)]
)
def test_which_rows_gain(length, pays):
    assert md.pays_by_blocks(length) is pays
