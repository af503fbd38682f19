from __future__ import annotations

import numpy as np
import pytest

import mfunc.data as md
from mfunc.data.packing.steps import packing

SAMPLES = {
    "input_ids": md.Ragged.from_rows([[7, 8, 9], [4, 5], [6], []]),
    "labels": md.Ragged.from_rows([[-100, 8, 9], [-100, 5], [6], []]),
}


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


def test_the_steps_of_a_pack_add_up_to_it():
    pack = md.pack(4, pad_id=1, overlong="truncate", capacity=3, seed=2)
    long = md.Ragged.from_rows([[7, 8, 9, 9, 2], [4, 5], [6], []])
    samples = {"input_ids": long, "labels": long}
    steps = packing(**pack.settings)
    shortened, counts = steps.shorten(samples)
    assert [row.tolist() for row in shortened["input_ids"]] == [[7, 8, 2], [4, 5], [6], []]
    assert counts["truncate.tokens_lost"] == 2
    plan = steps.plan(shortened["input_ids"].lengths)
    whole = pack(samples)
    for i in range(len(plan)):
        row = steps.build(plan, shortened, i, i + 1)
        assert all(np.array_equal(row[name][0], whole[name][i]) for name in whole)
