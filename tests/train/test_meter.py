from __future__ import annotations

import mindspore as ms
import numpy as np
import pytest

from mfunc.train.meter import Totals, add, fill, told, words

NAN = float("nan")


def totals_of(*steps):
    totals = Totals()
    for loss, tokens, seconds, compiled in steps:
        totals = add(totals, {"loss": loss, "tokens": tokens}, seconds, compiled=compiled)
    return totals


def test_steps_that_compile_have_no_part_in_the_rate():
    numbers = told(totals_of((1.0, 10.0, 9.0, True), (1.0, 20.0, 0.5, False)), 1.0)
    assert numbers["tokens_per_second"] == 40.0
    assert numbers["tokens_seen"] == 30.0
    assert told(totals_of((1.0, 10.0, 9.0, True)), 1.0)["tokens_per_second"] == 0.0


def test_the_running_loss_is_weighted_by_tokens_and_forgets():
    run = told(totals_of((4.0, 10.0, 1.0, True), (1.0, 30.0, 1.0, False)), 1.0)["running_loss"]
    assert run == pytest.approx((0.95 * 10 * 4 + 30 * 1) / (0.95 * 10 + 30))
    assert told(totals_of((2.0, 0.0, 1.0, True)), 2.0)["running_loss"] == 2.0


def test_a_loss_that_is_no_number_takes_time_and_counts_for_no_mean():
    numbers = told(totals_of((2.0, 10.0, 1.0, False), (NAN, 0.0, 1.0, False)), NAN)
    assert numbers == {"tokens_seen": 10.0, "running_loss": 2.0, "tokens_per_second": 5.0}
    assert told(totals_of((NAN, 10.0, 1.0, False)), 5.0)["tokens_seen"] == 0.0


@pytest.mark.parametrize(
    ("batch", "share"),
    [
        ({"segment_ids": np.array([[1, 2, 2, 0], [1, 0, 0, 0]])}, 0.5),
        ({"segment_ids": ms.Tensor([[1, 0]])}, 0.5),
        ({"attention_mask": np.array([[1, 1, 0, 0]])}, 0.5),
        ({"attention_mask": np.array([[True, False, True, True]])}, 0.75),
        ({"segment_ids": np.array([[3, 0]]), "attention_mask": np.array([[1, 1]])}, 0.5),
        ({"attention_mask": np.ones((1, 1, 4, 4))}, None),
        ({"segment_ids": np.zeros((0, 4), int)}, None),
        ({"input_ids": np.array([[7, 0]])}, None),
        (7, None),
        (None, None),
    ],
)
def test_the_share_of_real_tokens(batch, share):
    assert fill(batch) == share


def test_the_words_of_the_bar():
    numbers = {"running_loss": 1.25, "tokens_per_second": 4321.4}
    assert words(numbers) == "loss 1.250, 4,321 tokens/s"
    more = words({**numbers, "fill": 0.93, "nonfinite": 2})
    assert more == "loss 1.250, 4,321 tokens/s, 93 % real, 2 not finite"
    assert "finite" not in words({**numbers, "nonfinite": 0})
