from __future__ import annotations

import math

import mindspore as ms
import numpy as np
import pytest
from tests.metrics.golden import GOLDEN

import mfunc as mf
from mfunc.metrics import perplexity, prompt_accuracy

TOKENS = GOLDEN["tokens"]
INF, NAN = math.inf, math.nan


def losses() -> tuple[np.ndarray, np.ndarray]:
    """Nats of each golden token, and 1 where it counts."""
    logits, targets = np.array(TOKENS["logits"]), np.array(TOKENS["targets"])
    shares = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    right = np.take_along_axis(shares, np.maximum(targets, 0)[..., None], -1)[..., 0]
    return -np.log(right), (targets != -100).astype(float)


def test_the_number_of_torchmetrics():
    nats, counted = losses()
    assert perplexity(nats, counted) == pytest.approx(TOKENS["perplexity"], rel=1e-9)


def test_batches_weigh_by_their_tokens():
    """MindFormers takes the mean over batches: here exp(2), not exp(1.2)."""
    assert perplexity([1.0, 3.0], [90, 10]) == pytest.approx(math.exp(1.2))
    nats, counted = losses()
    count = counted.sum(-1)
    rows = (nats * counted).sum(-1) / count
    assert perplexity(rows, count) == pytest.approx(perplexity(nats, counted), rel=1e-12)
    assert math.exp(rows.mean()) != pytest.approx(perplexity(rows, count), rel=1e-2)


def test_it_takes_what_the_loss_gives():
    logits = np.random.default_rng(0).normal(size=(2, 5, 7)).astype(np.float32)
    labels = np.array([[-100, 1, 2, 3, 4], [5, -100, 6, -100, -100]], np.int32)
    batches = [(ms.Tensor(logits[i : i + 1]), ms.Tensor(labels[i : i + 1])) for i in range(2)]
    parts = [mf.loss.next_token_loss(*batch) for batch in batches]
    whole, _ = mf.loss.next_token_loss(ms.Tensor(logits), ms.Tensor(labels))
    found = perplexity(*zip(*parts, strict=True))
    assert found == pytest.approx(math.exp(float(whole)), rel=1e-6)
    evaluated = mf.evaluate(lambda params, batch: mf.loss.next_token_loss(*batch), {}, batches)
    assert found == pytest.approx(evaluated["perplexity"], rel=1e-12)


def test_limits():
    assert perplexity([0.0], [5]) == 1
    assert perplexity([0.0, 700.0], [1, 0]) == 1
    assert perplexity([1e5], [1]) == INF


@pytest.mark.parametrize("wrong", [NAN, INF, -INF])
def test_numbers_that_are_not_finite_are_refused(wrong):
    with pytest.raises(ValueError, match=f"perplexity: losses hold {wrong} at index 1; every"):
        perplexity([1.0, wrong], [1, 0])
    with pytest.raises(ValueError, match="perplexity: counts hold"):
        perplexity([1.0, 1.0], [1, wrong])
    with pytest.raises(ValueError, match=r"prompt_accuracy: losses hold .* at index 0, 1"):
        prompt_accuracy([[1.0, wrong]], [0])


def test_perplexity_of_what_does_not_fit():
    with pytest.raises(ValueError, match=r"losses have the shape \(2,\) but counts \(1,\); each"):
        perplexity([1.0, 2.0], [1])
    with pytest.raises(ValueError, match=r"perplexity: a count is -1; it must be at least 0"):
        perplexity([1.0, 2.0], [3, -1])
    with pytest.raises(ValueError, match=r"perplexity: no trained token in any batch; nothing"):
        perplexity([1.0, 2.0], [0, 0])
    with pytest.raises(ValueError, match=r"perplexity: no losses; nothing can be measured"):
        perplexity([], [])


def test_the_least_surprising_candidate_wins():
    assert prompt_accuracy([[2.0, 1.0, 3.0]], [1]) == 100
    assert prompt_accuracy([[2.0, 1.0, 3.0]], [2]) == 0
    assert prompt_accuracy([[1.0, 1.0]], [0]) == 100, "of equal losses the first"
    assert prompt_accuracy([[2.0, 1.0], [1.0, 2.0], [1.0, 2.0]], [1, 1, 0]) == (
        pytest.approx(200 / 3)
    )


def test_many_rows_are_counted_exactly():
    """float16, in which MindFormers counts, has no 2049."""
    rows = np.tile([[1.0, 2.0]], (4099, 1))
    assert prompt_accuracy(rows, np.arange(4099) % 2) == 100 * 2050 / 4099


def test_prompt_accuracy_of_what_does_not_fit():
    with pytest.raises(ValueError, match=r"losses must be \[texts, candidates\], got the shape"):
        prompt_accuracy([1.0, 2.0], [0])
    with pytest.raises(
        ValueError, match=r"prompt_accuracy: labels must have the shape \(1,\), got"
    ):
        prompt_accuracy([[1.0, 2.0]], [0, 1])
    for label in (2, -1, -100):
        message = rf"prompt_accuracy: label {label} at index 0 must be one of 0\.\.1$"
        with pytest.raises(ValueError, match=message):
            prompt_accuracy([[1.0, 2.0]], [label])
    with pytest.raises(ValueError, match=r"prompt_accuracy: no losses; nothing can be measured"):
        prompt_accuracy(np.zeros((0, 2)), [])
