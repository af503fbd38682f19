from __future__ import annotations

from functools import partial

import numpy as np
import pytest

import mfunc as mf
from mfunc.metrics import bleu, cmrc, measure, rouge, sentence_bleu, squad
from mfunc.metrics.pairs import paired

METRICS = [squad, cmrc, rouge, bleu, sentence_bleu]
each_metric = pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.__name__)


def test_measure_keeps_equal_keys_apart():
    metrics = {"en": squad, "zh": cmrc, "rouge": partial(rouge, tokenize="char")}
    found = measure(metrics, ["北京", "上海"], [["北京", "京"], "上海市"])
    assert sorted(found) == [
        "en/exact_match", "en/f1", "rouge/rouge1", "rouge/rouge2", "rouge/rougeL", "zh/exact_match",
        "zh/f1",
    ]  # fmt: skip
    assert all(type(value) is float for value in found.values())
    assert found["zh/f1"] == pytest.approx(90)
    with pytest.raises(ValueError, match=r"measure: no metrics; give at least one"):
        measure({}, ["a"], ["a"])


def test_measured_answers_stand_beside_the_measured_loss():
    """What a training loop logs: the loss of `mf.evaluate` and the scores of what was generated."""
    loss = mf.evaluate(lambda params, batch: (batch * params, batch), 1.0, [1.0, 3.0])
    metrics = {**loss, **measure({"squad": squad}, ["a cat", "dog"], ["the cat", "cow"])}
    assert metrics["squad/f1"] == 50.0
    assert metrics["perplexity"] == pytest.approx(mf.metrics.perplexity([1.0, 3.0], [1, 3]))


@each_metric
def test_rows_that_do_not_match_are_refused_by_name(metric):
    name = metric.__name__
    with pytest.raises(ValueError, match=f"{name}: 2 predictions but 1 references; each predict"):
        metric(["a b c d", "b"], ["a b c d"])
    with pytest.raises(ValueError, match=f"{name}: no predictions; nothing can be measured"):
        metric([], [])
    with pytest.raises(ValueError, match=f"{name}: the list of references 1 is empty; give one"):
        metric(["a", "b"], ["a", []])


@each_metric
@pytest.mark.parametrize("wrong", ["text", b"text", {"a": "b"}, {"a"}, 3, None])
def test_what_is_no_list_is_refused(metric, wrong):
    message = rf"{metric.__name__}: predictions must be a list with one entry a row, got a \w+"
    with pytest.raises(TypeError, match=message):
        metric(wrong, ["text"])
    with pytest.raises(TypeError, match="references must be a list with one entry a row"):
        metric(["text"], wrong)


@each_metric
@pytest.mark.parametrize("wrong", [None, 3, b"text", float("nan"), ["text"]])
def test_a_prediction_that_is_no_text_is_refused(metric, wrong):
    with pytest.raises(TypeError, match=f"{metric.__name__}: prediction 1 must be a text, got"):
        metric(["a", wrong], ["a", "b"])


@each_metric
@pytest.mark.parametrize("wrong", [None, 3, [None], ["a", 3], {"a": 1}])
def test_a_reference_that_is_no_text_is_refused(metric, wrong):
    with pytest.raises(TypeError, match=f"{metric.__name__}: reference 1 must be a text or a list"):
        metric(["a", "b"], ["a", wrong])


def test_rows_may_come_from_numpy_or_a_generator():
    assert paired("squad", np.array(["a", "b"]), (r for r in ("a", ("b", "c")))) == [
        ("a", ["a"]), ("b", ["b", "c"])
    ]  # fmt: skip


@each_metric
def test_the_callers_rows_are_left_as_they_are(metric):
    predictions, references = ["A cat, sat on it.\nTwo", "b c d e"], [["a cat"], "b c d e"]
    metric(predictions, references)
    assert (predictions, references) == (
        ["A cat, sat on it.\nTwo", "b c d e"],
        [["a cat"], "b c d e"],
    )
