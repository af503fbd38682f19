from __future__ import annotations

import json

import numpy as np
import pytest

import mfunc.data as md

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


def test_both_formulas_agree_with_upstream(shared):
    """All 800 rows of the table: what stays by either formula."""
    table = json.loads((shared / "golden/mindspeed/truncation/infer_len_golden.json").read_text())
    for source, target, most, *expected in table["rows"]:
        bounds = md.infer_max_len(source, target, most)
        kept = (min(source, bounds[0]), min(target, bounds[1]))
        assert [*bounds, *kept, *md.infer_seqlen(source, target, most)] == expected
    assert len(table["rows"]) == 800


def test_the_product_is_upstreams_also_where_it_rounds_down():
    """22 * 30 / 44 is 15; but 30 / 44 in floating point, times 22, is a little less."""
    assert md.infer_seqlen(14, 30, 22) == (8, 14)
    assert md.infer_max_len(14, 30, 22) == (8, 14)


def test_proportional_and_source_first_keep_what_the_formulas_say():
    """The lengths; which tokens they are is pictured above."""
    for source, target, most in [(90, 20, 100), (300, 100, 100), (10, 200, 100), (14, 30, 22)]:
        ids = np.arange(1, source + target + 1)
        labels = np.where(ids <= source, -100, ids)
        columns = {"input_ids": md.Ragged.from_rows([ids]), "labels": md.Ragged.from_rows([labels])}
        for policy in ("proportional", "per_turn"):
            out = md.truncate(most, policy=policy)(columns)
            trained = int((out["labels"][0] != -100).sum())
            assert (most - trained, trained) == md.infer_seqlen(source, target, most)
        out = md.truncate(most, policy="source_first")(columns)
        assert int((out["labels"][0] != -100).sum()) == min(target, most)


def test_per_turn_cuts_every_turn_then_the_end():
    """Two turns of 3 + 2 and 6 + 2 tokens; a label that is not its token begins the second."""
    ids = [1, 2, 3, 4, 5, 11, 12, 13, 14, 15, 16, 17, 18]
    labels = [-100] * 3 + [4, 5] + [99] + [-100] * 5 + [17, 18]
    columns = {"input_ids": md.Ragged.from_rows([ids]), "labels": md.Ragged.from_rows([labels])}

    def cut(most):
        return md.truncate(most, policy="per_turn")(columns)["input_ids"][0].tolist()

    assert cut(13) == ids
    assert cut(12) == ids[:12]
    assert cut(7) == [1, 2, 3, 4, 5, 11, 12]
    assert cut(4) == [1, 2, 3, 4]
    assert cut(1) == [1]


@pytest.mark.parametrize("policy", ["drop", "tail", "source_first", "proportional", "per_turn"])
def test_samples_without_source_or_target_and_without_tokens(policy):
    rows = [[], [1, 2, 3, 4, 5], [6, 7, 8, 9, 1]]
    labels = [[], [-100] * 5, [6, 7, 8, 9, 1]]
    columns = {"input_ids": md.Ragged.from_rows(rows), "labels": md.Ragged.from_rows(labels)}
    assert md.truncate(5, policy=policy)(columns) == columns
    out = md.truncate(3, policy=policy)(columns)
    expected = [0] if policy == "drop" else [0, 3, 3]
    assert out["input_ids"].lengths.tolist() == expected
    assert len(md.truncate(3, policy=policy)(md.take(0)(columns))["input_ids"]) == 0


def test_per_turn_an_answer_of_nothing_ends_its_turn_where_the_next_token_has_a_label_of_its_own():
    """With `efficient_eos` the first token of a turn is labelled eos (9) in place of the answer."""
    sample = {
        "input_ids": md.Ragged.from_rows([[1, 2, 3, 4, 5, 6, 7, 8]]),
        "labels": md.Ragged.from_rows([[-100, -100, -100, 9, -100, 6, 7, 8]]),
    }
    cut = md.truncate(5, policy="per_turn")(sample)
    assert cut["input_ids"][0].tolist() == [1, 2, 3, 4, 5]
    assert cut["labels"][0].tolist() == [-100, -100, -100, 9, -100]
