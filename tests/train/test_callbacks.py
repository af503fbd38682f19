from __future__ import annotations

import math

import numpy as np
import pytest

from mfunc.train import early_stopping, evaluating, every, fit
from mfunc.train.callbacks import merge
from mfunc.transform import jit


def step_of(*tokens):
    """A step of so many tokens each, whose state counts them."""
    given = iter(tokens)

    def step(state, batch):
        count = next(given)
        return state + count, {"loss": 1.0, "tokens": count}

    return step


def steps_called(callback_of, tokens, **settings):
    seen = []
    callback = callback_of(lambda state, metrics: seen.append(metrics["step"]))
    list(fit(step_of(*tokens), 0, tokens, progress=False, callbacks=[callback], **settings))
    return seen


# --- merge ---


@pytest.mark.parametrize("told", [3.0, [("a", 1)], True])
def test_a_callback_returns_metrics_or_nothing(told):
    def wrong(state, metrics):
        return told

    message = rf"fit: the callback .*wrong returned {type(told).__name__}; it must be a mapping"
    with pytest.raises(TypeError, match=message):
        merge(wrong, {}, {})


def test_a_metric_is_not_written_over():
    def again(state, metrics):
        return {"loss": 0.0}

    with pytest.raises(ValueError, match=r"again returned the metric 'loss', which is there alr"):
        merge(again, {}, {"loss": 1.0})
    metrics = {"stop": "one"}
    merge(lambda state, metrics: {"stop": "two"}, {}, metrics)
    assert metrics == {"stop": "two"}


# --- every ---


def test_every_so_many_steps():
    assert steps_called(lambda call: every(call, steps=3), [1.0] * 10) == [3, 6, 9]
    assert steps_called(lambda call: every(call, steps=1), [1.0] * 3) == [1, 2, 3]


def test_every_so_many_tokens():
    """100 is reached by step 3, 200 to 400 by step 4, 500 exactly by step 6."""
    tokens = [40.0, 40.0, 40.0, 300.0, 0.0, 80.0, 50.0]
    assert steps_called(lambda call: every(call, tokens=100), tokens) == [3, 4, 6]


def test_a_step_that_was_left_out_reaches_nothing():
    """Its batch had 60 tokens, of which none was trained."""
    seen = []
    note = every(lambda state, metrics: seen.append(metrics["step"]), tokens=100)
    told = iter([(1.0, 60.0), (math.nan, 60.0), (1.0, 30.0), (1.0, 30.0)])

    def step(state, batch):
        loss, tokens = next(told)
        return state, {"loss": loss, "tokens": tokens}

    list(fit(step, 0, range(4), progress=False, callbacks=[note], on_nonfinite="skip"))
    assert seen == [4]


def test_several_callbacks_at_one_interval_see_each_other():
    def first(state, metrics):
        return {"a": metrics["step"]}

    def second(state, metrics):
        return {"b": metrics["a"] + 1}

    run = fit(
        step_of(*[1.0] * 4), 0, range(4), progress=False, callbacks=[every(first, second, steps=2)]
    )
    assert [(m.get("a"), m.get("b")) for _, m in run] == [
        (None, None),
        (2, 3),
        (None, None),
        (4, 5),
    ]


def test_an_interval_within_an_interval():
    assert steps_called(lambda call: every(every(call, steps=2), steps=3), [1.0] * 12) == [6, 12]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, r"every: no interval; give one of steps and tokens"),
        ({"steps": 1, "tokens": 2}, r"every: \{'steps': 1, 'tokens': 2\}; give one"),
        ({"steps": 0}, r"every: steps=0; it must be positive"),
        ({"tokens": -5}, r"every: tokens=-5; it must be positive"),
        ({"tokens": math.nan}, r"every: tokens=nan; it must be positive"),
    ],
)
def test_an_interval_is_one_and_positive(settings, message):
    with pytest.raises(ValueError, match=message):
        every(lambda state, metrics: None, **settings)


# --- evaluating ---


def scaled_loss(params, batch, frozen):
    return (params["a"] * batch["x"] * frozen).mean(), batch["x"].sum() * 0.0 + 2.0


def test_an_evaluation_is_anew_each_time_and_compiled_once(capsys):
    loss = jit(scaled_loss)
    rows = [{"x": np.float32([1.0, 3.0])}, {"x": np.float32([5.0, 7.0])}]
    callback = evaluating(loss, lambda: iter(rows), 10.0, name="held_out", progress=False)
    for a in (1.0, 2.0):
        assert callback({"params": {"a": np.float32(a)}}, {"step": 1}) == {
            "held_out_loss": 40.0 * a,
            "held_out_perplexity": math.exp(40.0 * a),
            "held_out_tokens": 4.0,
        }
    assert loss.compiles() == 1
    assert capsys.readouterr().err == ""
    evaluating(loss, lambda: rows, 10.0)({"params": {"a": np.float32(1.0)}}, {})
    assert "eval: " in capsys.readouterr().err


@pytest.mark.parametrize("batches", [[1.0], iter([1.0])])
def test_batches_are_a_function(batches):
    with pytest.raises(TypeError, match=r"evaluating: batches is list.*; give a function that gi"):
        evaluating(lambda params, batch: (1.0, 1), batches)


# --- early stopping ---


def stops_at(values, **settings):
    """The index of the value at which it stops, or None."""
    call = early_stopping("x", **settings)
    for i, value in enumerate(values):
        if told := call({}, {"step": i, "x": value}):
            assert sorted(told) == ["stop"]
            return i
    return None


def test_patience_counts_calls_without_a_new_best():
    assert stops_at([5, 4, 4, 4.5], patience=2) == 3
    assert stops_at([5, 4, 4.5, 3, 3, 3], patience=2) == 5
    assert stops_at([5, 4, 3, 2, 1], patience=1) is None
    assert stops_at([5, 5], patience=1) == 1


def test_a_small_gain_is_none():
    assert stops_at([5, 4.95, 4.91], patience=2, min_delta=0.1) == 2
    assert stops_at([5, 4.95, 4.89, 4.7], patience=2, min_delta=0.1) is None


def test_more_may_be_better():
    assert stops_at([1, 2, 3, 3, 2], patience=2, mode="max") == 4
    assert early_stopping("x", patience=1, mode="max", history=[3.0])({}, {"step": 1, "x": 2}) == {
        "stop": "x has not been better than 3 for 1 calls"
    }


def test_what_is_no_number_is_not_better():
    assert stops_at([math.nan, math.nan], patience=2) == 1
    assert stops_at([5, math.nan, 4, math.inf, 4.5], patience=2) == 4


@pytest.mark.parametrize("cut", range(6))
def test_with_its_history_it_stops_where_it_would_have(cut):
    values = [5.0, 4.0, 4.5, 3.0, 3.5, 3.2]
    history = [None if i == 2 else value for i, value in enumerate(values[:cut])]
    assert stops_at(values[cut:], patience=2, history=history) == 5 - cut
    assert stops_at(values, patience=2) == 5


def test_a_metric_that_is_not_there_is_an_error():
    call = early_stopping("eval_los", patience=1)
    with pytest.raises(ValueError, match=r"no metric 'eval_los' at step 7, only \['eval_loss', 's"):
        call({}, {"step": 7, "eval_loss": 1.0})


@pytest.mark.parametrize(
    "settings", [{"patience": 0}, {"patience": 1, "min_delta": -1}, {"patience": 1, "mode": "up"}]
)
def test_early_stopping_checks_its_settings(settings):
    with pytest.raises(ValueError, match=r"early_stopping: patience=.*; patience is at least 1"):
        early_stopping(**settings)


def test_a_run_that_gets_no_better_ends():
    losses = iter([3.0, 2.0, 2.1, 2.2, 2.3, 1.0])
    watch = every(
        lambda state, metrics: {"eval_loss": next(losses)}, early_stopping(patience=2), steps=2
    )
    run = list(fit(step_of(*[1.0] * 12), 0, range(12), progress=False, callbacks=[watch]))
    assert len(run) == 8
    assert run[-1][1]["stop"] == "eval_loss has not been better than 2 for 2 calls"
