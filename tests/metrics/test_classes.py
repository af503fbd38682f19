from __future__ import annotations

import mindspore as ms
import numpy as np
import pytest
from tests.metrics.golden import GOLDEN

from mfunc.metrics import accuracy, token_accuracy

TOKENS = GOLDEN["tokens"]
NAN = float("nan")


def test_the_number_of_torchmetrics():
    found = accuracy(TOKENS["logits"], TOKENS["targets"])
    assert found == pytest.approx(TOKENS["accuracy"], rel=1e-6)  # which is float32


def test_choices_and_scores_are_the_same():
    chosen = np.argmax(TOKENS["logits"], -1)
    assert accuracy(chosen, TOKENS["targets"]) == accuracy(TOKENS["logits"], TOKENS["targets"])


def test_tensors_of_any_float_type():
    logits, labels = ms.Tensor([[0.1, 0.9], [0.9, 0.1]]), ms.Tensor([1, 1], ms.int32)
    for dtype in (ms.float32, ms.float16, ms.bfloat16):
        assert accuracy(logits.astype(dtype), labels) == 50.0


def test_masked_scores_are_not_nan():
    assert accuracy([[-np.inf, 0.0], [0.0, -np.inf]], [1, 0]) == 100


def test_tokens_are_shifted_as_in_the_loss():
    labels = np.array([[-100, 5, 6, 7]])
    assert token_accuracy([[5, 6, 7, 0]], labels) == (100.0, 3)
    assert token_accuracy(labels, labels)[0] == 0.0, "predicting the token itself is no use"
    logits = np.eye(8, dtype=np.float32)[[[5, 6, 0, 0]]]
    assert token_accuracy(logits, labels) == (pytest.approx(200 / 3), 3)


def test_no_token_predicts_the_next_segment():
    labels, segments = [[1, 2, 3, 4, -100]], [[1, 1, 2, 2, 0]]
    assert token_accuracy([[2, 0, 4, 0, 0]], labels, segments) == (100.0, 2)
    assert token_accuracy([[2, 0, 4, 0, 0]], labels)[1] == 3


def test_a_batch_without_trained_tokens_weighs_nothing():
    assert token_accuracy([[1, 2]], [[5, -100]]) == (0.0, 0)


@pytest.mark.parametrize("metric", [accuracy, token_accuracy])
def test_hostile_input(metric):
    name = metric.__name__
    with pytest.raises(ValueError, match=f"{name}: a score at index 0, 1 is NaN; no class can be"):
        metric([[[0.0, 1.0], [NAN, 1.0]]], [[1, -100]])
    with pytest.raises(
        ValueError, match=rf"{name}: predictions have the shape \(1, 3\) but labels"
    ):
        metric([[1, 2, 3]], [[1, 2]])
    with pytest.raises(ValueError, match=rf"{name}: label 2 at index 0, 1 must be one of 0\.\.1"):
        metric([[[0.0, 1.0], [1.0, 0.0]]], [[1, 2]])
    with pytest.raises(ValueError, match=rf"{name}: label -1 at index 0, 0 must be .* or -100"):
        metric([[0, 1]], [[-1, 2]])
    with pytest.raises(ValueError, match=rf"{name}: label {2**31} at index 0, 0"):
        metric([[0]], [[2**31]])
    with pytest.raises(TypeError, match=f"{name}: labels must be integers, got float64"):
        metric([[0, 1]], [[0.0, 1.0]])
    with pytest.raises(
        TypeError, match=f"{name}: predictions of the labels' shape must be classes"
    ):
        metric([[0.0, 1.0]], [[0, 1]])
    with pytest.raises(ValueError, match=f"{name}: no labels; nothing can be measured"):
        metric(np.zeros((0, 3), int), np.zeros((0, 3), int))


def test_what_each_refuses_besides():
    with pytest.raises(ValueError, match=r"accuracy: every label is -100; nothing can be measured"):
        accuracy([1, 2], [-100, -100])
    with pytest.raises(ValueError, match=r"token_accuracy: labels must be \[rows, tokens\], got"):
        token_accuracy([1, 2], [1, 2])
    with pytest.raises(
        ValueError, match=r"segment_ids have the shape \(1, 3\) but labels \(1, 2\)"
    ):
        token_accuracy([[1, 2]], [[1, 2]], [[1, 1, 1]])
