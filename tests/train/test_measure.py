from __future__ import annotations

import math

import numpy as np
import pytest
from tests import models

from mfunc.loss import next_token_loss
from mfunc.nn import llama
from mfunc.train import evaluate
from mfunc.transform import jit


def language_loss(params, batch):
    logits = llama.apply(params, models.TINY, batch["input_ids"])
    return next_token_loss(logits, batch["labels"])


@pytest.fixture(scope="module")
def rows():
    """Nine rows of which some have few trained tokens, one none."""
    rng = np.random.default_rng(1)
    ids = rng.integers(0, 16, (9, 8)).astype(np.int32)
    trained = np.arange(8) >= np.array([0, 1, 7, 5, 8, 2, 3, 6, 0])[:, None]
    return {"input_ids": ids, "labels": np.where(trained, ids, -100).astype(np.int32)}


def test_the_result_does_not_depend_on_batching(rows):
    params, loss = models.params(2), jit(language_loss)

    def batched(size):
        return [{k: v[i : i + size] for k, v in rows.items()} for i in range(0, 9, size)]

    whole = evaluate(loss, params, batched(9))
    assert whole["tokens"] == (rows["labels"][:, 1:] != -100).sum()
    assert whole["perplexity"] == pytest.approx(math.exp(whole["loss"]))
    assert evaluate(loss, params, batched(3)) == pytest.approx(whole, rel=1e-6)
    assert loss.compiles() == 2
    plain = np.mean([float(loss(params, batch)[0]) for batch in batched(3)])
    assert abs(plain - whole["loss"]) > 1e-3, "a mean of means is something else"


def test_more_than_a_loss_is_weighed_the_same_way():
    def measure(params, batch):
        return {"accuracy": batch / 10, "loss": batch}, batch

    told = evaluate(measure, {}, [1.0, 3.0, 0.0], progress=False)
    wanted = {"accuracy": 0.25, "loss": 2.5, "perplexity": math.exp(2.5), "tokens": 4.0}
    assert told == pytest.approx(wanted)
    shares = evaluate(lambda params, batch: ({"accuracy": 0.5}, 2), {}, [0], progress=False)
    assert shares == {"accuracy": 0.5, "tokens": 2.0}


def test_frozen_trees_reach_the_loss():
    seen = evaluate(lambda params, batch, frozen: (params + batch + frozen, 2), 1, [10, 30], 100)
    assert seen == {"loss": 121.0, "perplexity": math.exp(121.0), "tokens": 4.0}


@pytest.mark.parametrize(
    ("loss", "perplexity"), [(709.0, math.exp(709.0)), (710.0, math.inf), (math.inf, math.inf)]
)
def test_a_perplexity_too_large_for_a_float_is_inf(loss, perplexity):
    assert evaluate(lambda params, batch: (loss, 1), {}, [0])["perplexity"] == perplexity


def test_a_loss_that_is_no_number_is_told():
    told = evaluate(lambda params, batch: (batch, 1), {}, [1.0, math.nan])
    assert math.isnan(told["loss"])
    assert math.isnan(told["perplexity"])


def test_a_batch_of_which_nothing_is_trained_counts_for_nothing():
    told = evaluate(lambda params, batch: batch, {}, [(math.nan, 0.0), (2.0, 3.0)])
    assert told == {"loss": 2.0, "perplexity": math.exp(2.0), "tokens": 3.0}


@pytest.mark.parametrize("given", [[], [0.0, 0.0]])
def test_nothing_to_measure_is_an_error(given):
    with pytest.raises(ValueError, match=r"evaluate: no trained token in any batch; nothing can"):
        evaluate(lambda params, batch: (1.0, batch), {}, given)


def test_the_bar_goes_when_it_is_full(capsys):
    evaluate(lambda params, batch: (1.0, 1), {}, [1, 2], total=2, description="held out")
    bar = capsys.readouterr().err
    assert "held out: " in bar
    assert "/2 [" in bar
    assert "\n" not in bar
    evaluate(lambda params, batch: (1.0, 1), {}, [1, 2], progress=False)
    assert capsys.readouterr().err == ""
