from __future__ import annotations

import itertools
import math
import time

import mindspore as ms
import numpy as np
import pytest

from mfunc import random, tree
from mfunc.loss import next_token_loss
from mfunc.nn import llama
from mfunc.optim import adamw, chain, clip_by_global_norm
from mfunc.train import fit, init_state, train_step

CONFIG = llama.Config(
    vocab_size=16, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
    initializer_range=0.3,
)  # fmt: skip
OPTIMIZER = chain(clip_by_global_norm(1.0), adamw(1e-2))
STEPS = 30


def language_loss(params, batch):
    logits = llama.apply(params, CONFIG, batch["input_ids"])
    return next_token_loss(logits, batch["labels"])


def batches(steps, seed=0):
    """Counting up modulo 16 from anywhere: every next token can be known."""
    for start in np.random.default_rng(seed).integers(0, 16, (steps, 4, 1)):
        ids = ((start + np.arange(12)) % 16).astype(np.int32)
        yield {"input_ids": ids, "labels": np.where(np.arange(12) < 2, -100, ids).astype(np.int32)}


def bits(node):
    return [leaf.asnumpy().tobytes() for leaf in tree.leaves(node)]


@pytest.fixture(scope="module")
def trained():
    """One run of a tiny LLaMA: the state before, its bits then, and all that `fit` gave."""
    state = init_state(llama.init(random.key(0), CONFIG), OPTIMIZER)
    before, step = bits(state), train_step(language_loss, OPTIMIZER)
    return state, before, list(fit(step, state, batches(STEPS), total=STEPS, progress=False)), step


# --- fit ---


def test_the_loss_falls(trained):
    losses = [metrics["loss"] for _, metrics in trained[2]]
    assert losses[0] > 2.0
    assert losses[-1] < 0.5 * losses[0]


def test_the_state_given_is_unchanged_and_the_last_one_is_trained(trained):
    state, before, run, _ = trained
    assert bits(state) == before
    last = run[-1][0]
    assert tree.flatten(last)[1] == tree.flatten(state)[1]
    assert all(a != b for a, b in zip(bits(last["params"]), bits(state["params"]), strict=True))
    assert int(last["optimizer"][1]["count"]) == STEPS


def test_yielded_states_are_values(trained):
    """The state of a step is not written over by later ones: training can go on from any."""
    _, _, run, step = trained
    again = list(fit(step, run[9][0], list(batches(STEPS))[10:], progress=False))
    assert bits(again[-1][0]) == bits(run[-1][0])
    assert [m["loss"] for _, m in again] == [m["loss"] for _, m in run[10:]]


def test_metrics_are_those_of_the_docstring(trained):
    metrics = [metrics for _, metrics in trained[2]]
    names = [
        "loss", "running_loss", "seconds", "step", "tokens", "tokens_per_second", "tokens_seen",
    ]  # fmt: skip
    assert all(sorted(m) == names for m in metrics)
    assert all(type(value) in (int, float) for m in metrics for value in m.values())
    assert [m["step"] for m in metrics] == list(range(1, STEPS + 1))
    assert {m["tokens"] for m in metrics} == {4 * 10}
    assert [m["tokens_seen"] for m in metrics] == [40 * n for n in range(1, STEPS + 1)]
    seconds = [m["seconds"] for m in metrics]
    assert 0 < seconds[0] < seconds[-1]
    assert seconds == sorted(seconds)


def test_seconds_count_from_the_start():
    began = time.perf_counter()
    ((_, metrics),) = fit(script({"loss": 1.0}), 0, [1], progress=False)
    assert 0 < metrics["seconds"] < time.perf_counter() - began


def test_one_compilation_serves_all_steps(trained):
    assert trained[3].compiles() == 1


def script(*metrics):
    """A step that only says what its metrics are."""
    told = iter(metrics)
    return lambda state, batch: (state + batch, next(told))


def test_a_step_may_tell_more_and_need_not_count_tokens():
    step = script({"loss": 3.0, "norm": np.float32(2.0)}, {"loss": ms.Tensor(1.0), "norm": 1})
    run = list(fit(step, 10, [1, 2], progress=False))
    assert [(state, m["loss"], m["norm"]) for state, m in run] == [(11, 3.0, 2.0), (13, 1.0, 1.0)]
    assert run[1][1]["running_loss"] == pytest.approx((0.95 * 3 + 1) / 1.95)


def test_frozen_trees_reach_every_step():
    def step(state, batch, one, two):
        return state + batch * one["a"] + two, {"loss": 0.0}

    run = fit(step, 0, [1, 2], {"a": 10}, 5, progress=False)
    assert [state for state, _ in run] == [15, 40]


def test_fit_is_lazy_and_stops_where_its_caller_stops():
    taken = []
    run = fit(
        script(*[{"loss": 1.0}] * 9), 0, (taken.append(i) or i for i in range(9)), progress=False
    )
    assert taken == []
    next(run), next(run)
    run.close()
    assert taken == [0, 1]


def test_no_batches_no_steps():
    assert list(fit(script(), 0, [], progress=False)) == []


def test_a_step_must_tell_its_loss():
    with pytest.raises(ValueError, match=r"fit: the step tells no metric 'loss', only \['cost'\]"):
        list(fit(script({"cost": 1.0}), 0, [1], progress=False))


def test_the_share_of_real_tokens_is_told_where_the_batch_says_it():
    batches = [{"segment_ids": np.array([[1, 1, 2, 0]])}, {"input_ids": np.array([[1, 1, 2, 0]])}]
    run = fit(lambda s, b: (s, {"loss": 1.0}), 0, batches, progress=False)
    assert [m.get("fill") for _, m in run] == [0.75, None]


# --- speed ---


def test_tokens_per_second_are_of_steps_that_compile_nothing(monkeypatch):
    """By a clock that only the parts of a run move: 10 tokens in 2 s of the data and 3 of the step.

    The first step takes longer, and the third, which says that it compiles once more.
    """
    now, graphs = [100.0], [0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])

    def passes(seconds):
        now[0] += seconds

    def step(state, batch):
        graphs[0] += batch > 5
        passes(batch)
        return state, {"loss": 1.0, "tokens": 10.0}

    step.compiles = lambda: graphs[0]
    batches = (passes(2) or seconds for seconds in (50, 3, 70, 3))
    callbacks, rates = [lambda state, metrics: passes(1000)], []
    for _, metrics in fit(step, 0, batches, progress=False, callbacks=callbacks):
        passes(10000)  # the caller's time
        rates.append(metrics["tokens_per_second"])
    assert rates == [0.0, 2.0, 2.0, 2.0]
    assert metrics["seconds"] == 3 * 11000 + 4 * 2 + 50 + 3 + 70 + 3


# --- where it starts and ends ---


def count_up(state, batch):
    return state + batch, {"loss": 1.0, "tokens": float(batch)}


def test_a_resumed_run_numbers_and_counts_on():
    whole = list(fit(count_up, 0, range(1, 9), progress=False))
    at, metrics = whole[4]
    settings = {"start": 5, "tokens_seen": metrics["tokens_seen"], "progress": False}
    rest = list(fit(count_up, at, range(6, 9), **settings))
    for name in ("step", "tokens_seen", "loss"):
        assert [m[name] for _, m in rest] == [m[name] for _, m in whole[5:]]
    assert [state for state, _ in rest] == [state for state, _ in whole[5:]]


def test_total_is_the_last_step_and_no_batch_more_is_taken():
    numbers = itertools.count(1)
    run = fit(count_up, 0, numbers, start=4, total=7, progress=False)
    assert [m["step"] for _, m in run] == [5, 6, 7]
    assert next(numbers) == 4
    assert list(fit(count_up, 0, numbers, start=7, total=7, progress=False)) == []
    assert [m["step"] for _, m in fit(count_up, 0, [1], total=9, progress=False)] == [1]


@pytest.mark.parametrize(("start", "total"), [(-1, None), (5, 4)])
def test_a_start_beyond_the_end_is_refused(start, total):
    with pytest.raises(ValueError, match=rf"fit: start={start}, total={total}; start counts"):
        fit(count_up, 0, [], start=start, total=total)


def test_the_bar_of_a_resumed_run_begins_where_it_is(capsys):
    list(fit(count_up, 0, [1, 1], start=8, total=10))
    bar = capsys.readouterr().err
    assert "8/10" in bar
    assert "10/10" in bar


# --- callbacks ---


def test_callbacks_see_the_state_and_what_the_ones_before_them_said():
    seen = []

    def first(state, metrics):
        return {"double": 2 * state}

    def second(state, metrics):
        seen.append((state, metrics["double"], metrics["step"], metrics["tokens_seen"]))

    run = list(fit(count_up, 0, [1, 2], progress=False, callbacks=[first, second]))
    assert seen == [(1, 2, 1, 1.0), (3, 6, 2, 3.0)]
    assert [m["double"] for _, m in run] == [2, 6]


def test_a_callback_ends_the_run_after_its_step_is_yielded():
    taken = []

    def enough(state, metrics):
        return {"stop": "enough"} if metrics["step"] == 2 else None

    batches = (taken.append(i) or i for i in range(9))
    run = list(fit(count_up, 0, batches, progress=False, callbacks=[enough]))
    assert [m.get("stop") for _, m in run] == [None, "enough"]
    assert taken == [0, 1]


def test_the_bar_tells_the_running_loss(capsys):
    list(fit(script({"loss": 1.25, "tokens": 1000.0}), 0, [1], description="warm", total=1))
    bar = capsys.readouterr().err
    assert "warm" in bar
    assert "1/1" in bar
    assert "loss 1.250, 0 tokens/s" in bar
    list(fit(script({"loss": 1.25}), 0, [1], progress=False))
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_no_number_stops_the_run_and_names_the_step(loss):
    run = fit(script({"loss": 1.0}, {"loss": loss}, {"loss": 1.0}), 0, [1, 1, 1], progress=False)
    next(run)
    with pytest.raises(
        FloatingPointError, match=rf"fit: the loss is {loss} at step 2; lower the lea"
    ):
        next(run)
