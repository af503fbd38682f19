from __future__ import annotations

import json

import numpy as np
import pytest

import mfunc.data as md


def test_zigzag_is_the_same_function():
    assert md.zigzag_mask is md.segment_mask


def test_shapes_and_types():
    assert md.segment_mask([1, 1, 0]).shape == (3, 3)
    assert md.segment_mask(np.ones((2, 5, 4), int)).shape == (2, 5, 4, 4)
    assert md.segment_mask([1]).dtype == bool
    assert md.position_ids(np.ones((2, 5, 4), int)).shape == (2, 5, 4)
    assert md.position_ids([1, 2]).dtype == md.actual_seq_len([1, 2]).dtype == np.int32


def test_padding_attends_to_itself_so_that_no_query_is_without_a_key():
    mask = md.segment_mask([1, 0, 0])
    assert mask.any(axis=-1).all()
    assert not mask[1:, 0].any()


@pytest.mark.parametrize("segments", [3, [], [[]], [1.0, 2.0], ["a"]])
@pytest.mark.parametrize("function", [md.segment_mask, md.position_ids, md.actual_seq_len])
def test_what_is_not_segment_ids(function, segments):
    with pytest.raises(
        ValueError, match=r"segment_ids must be integers \[\.\.\., S\], S >= 1, got"
    ):
        function(segments)


@pytest.mark.parametrize(
    ("segments", "message"),
    [
        ([1, 0, 2], "row 0 has segment 2 after 0 at position 2"),
        ([[1, 1], [2, 1]], "row 1 has segment 1 after 2 at position 1"),
    ],
)
def test_boundaries_of_misordered_documents_are_refused(segments, message):
    with pytest.raises(ValueError, match=message):
        md.actual_seq_len(segments)


def test_rows_of_one_document_are_not_joined():
    """The last document of a row and the first of the next may bear one number."""
    assert md.actual_seq_len([[1, 1], [1, 1]]).tolist() == [2, 4]
    assert md.position_ids([[1, 1], [1, 1]]).tolist() == [[0, 1], [0, 1]]


def test_agrees_with_mindspeed(shared):
    cases = json.loads((shared / "golden/mindspeed/training/training_side_v210.json").read_text())
    assert len(cases["neat_pack"]) > 3
    for case in cases["neat_pack"]:
        segments = np.array(case["attention_mask"])
        assert md.position_ids(segments).tolist() == case["position_ids"]
        documents = case["reference_cumulative_segments"]
        ours = md.actual_seq_len(segments).tolist()
        real = [end for end in ours if end <= (segments != 0).sum()]
        assert real == documents[: len(real)]
        assert len(ours) - len(real) == int((segments == 0).any())
        real_rows = segments != 0
        allowed = np.array(case["allowed_lf_4d"], bool)
        assert np.array_equal(md.segment_mask(segments)[real_rows], allowed[real_rows])
