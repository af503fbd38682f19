from __future__ import annotations

import math

import mindspore as ms
import numpy as np
import pytest

from mfunc import tree
from mfunc.donation import Resident
from mfunc.optim import adamw, skip_nonfinite
from mfunc.train import fit, init_state, train_step
from mfunc.train.nonfinite import judge

NAN = float("nan")
BAD = 4  # the number of the step whose batch is bad


def distance(params, batch):
    error = params["a"] * batch["x"] - batch["y"]
    return (error * error).mean(), (batch["x"] * 0.0 + 1.0).sum()


def batches(count=8, bad=(BAD,)):
    rng = np.random.default_rng(0)
    given = [{name: rng.normal(size=5).astype(np.float32) for name in "xy"} for _ in range(count)]
    for number in bad:
        given[number - 1]["y"][2] = np.nan
    return given


OPTIMIZER = adamw(0.1)
PLAIN = train_step(distance, OPTIMIZER)
DONATING = train_step(distance, OPTIMIZER, donate=True)


def first_state():
    return init_state({"a": ms.Tensor([1.0])}, OPTIMIZER)


def bits(node):
    return [np.array(leaf.asnumpy()).tobytes() for leaf in tree.leaves(node)]


def run(step, given, **settings):
    """Every (bits of the state, metrics): the state of a donating step dies with the next one."""
    found = fit(step, first_state(), given, progress=False, **settings)
    return [(bits(state), metrics) for state, metrics in found]


@pytest.fixture(scope="module")
def clean():
    """The run that never sees the bad batch."""
    return run(PLAIN, [batch for i, batch in enumerate(batches(), 1) if i != BAD])


# --- raise ---


def test_the_run_stops_and_the_batch_is_kept():
    found = fit(PLAIN, first_state(), batches(), progress=False, bad_batches="bad")
    for _ in range(BAD - 1):
        next(found)
    message = (
        r"fit: the loss is nan at step 4; lower .* look at this batch in bad.step_00000004\.npz"
    )
    with pytest.raises(FloatingPointError, match=message):
        next(found)
    kept = np.load("bad/step_00000004.npz")
    assert sorted(kept) == ["x", "y"]
    assert all(np.array_equal(kept[n], batches()[3][n], equal_nan=True) for n in "xy")


def test_without_a_folder_the_error_says_how_to_keep_it():
    with pytest.raises(
        FloatingPointError, match=r"look at this batch; fit\(bad_batches=folder\) k"
    ):
        run(PLAIN, batches())


# --- skip ---


def test_a_skipped_step_leaves_no_trace_in_the_state(clean):
    """Bit by bit the run without that batch: parameters, moments, the count of steps."""
    skipped = run(PLAIN, batches(), on_nonfinite="skip", bad_batches="bad")
    assert [m["step"] for _, m in skipped] == list(range(1, 9))
    assert skipped[BAD - 1][0] == skipped[BAD - 2][0]
    del skipped[BAD - 1]
    assert [state for state, _ in skipped] == [state for state, _ in clean]
    assert [m["loss"] for _, m in skipped] == [m["loss"] for _, m in clean]


def test_what_is_told_of_a_skipped_step():
    skipped = [m for _, m in run(PLAIN, batches(), on_nonfinite="skip", bad_batches="bad")]
    assert [m["nonfinite"] for m in skipped] == [0, 0, 0, 1, 1, 1, 1, 1]
    assert [m["tokens"] for m in skipped] == [5.0] * 3 + [0.0] + [5.0] * 4
    assert skipped[-1]["tokens_seen"] == 35.0
    assert [m["step"] for m in skipped if "bad_batch" in m] == [BAD]
    assert skipped[BAD - 1]["bad_batch"].endswith("step_00000004.npz")
    assert math.isnan(skipped[BAD - 1]["loss"])
    assert all(math.isfinite(m["running_loss"]) for m in skipped)
    without = [m for _, m in run(PLAIN, batches(), on_nonfinite="skip")]
    assert all("bad_batch" not in m for m in without)


@pytest.mark.parametrize("kind", ["tensors", "arrays"])
def test_skip_is_refused_for_a_step_that_donates(kind):
    """Before a loss is bad, not days after the start; arrays are alive after the first step."""
    state = first_state()
    if kind == "arrays":
        state = tree.map(ms.Tensor.asnumpy, state)
    found = fit(DONATING, state, batches(bad=()), progress=False, on_nonfinite="skip")
    with pytest.raises(ValueError, match=r"fit: on_nonfinite='skip' .* donates.*skip_nonfinite"):
        list(found)


# --- roll back ---


def test_rolled_back_is_the_run_from_the_snapshot_without_what_came_between():
    """Snapshots after steps 0, 2, 4, ...; number 4 is bad, so number 5 goes on from 2."""
    back = run(DONATING, batches(), on_nonfinite="roll_back", snapshot_every=2)
    wanted = run(DONATING, [b for i, b in enumerate(batches(), 1) if i not in (3, 4)])
    assert [m.get("rolled_back_to") for _, m in back] == [None, None, None, 2, *[None] * 4]
    assert [m["nonfinite"] for _, m in back] == [0, 0, 0, 1, 1, 1, 1, 1]
    assert back[3][0] == back[1][0]
    del back[2:4]
    assert [state for state, _ in back] == [state for state, _ in wanted]


def test_a_snapshot_serves_twice():
    """A donating step overwrites what it is given; the snapshot must outlive that."""
    back = run(DONATING, batches(bad=(2, 4)), on_nonfinite="roll_back")
    assert back[1][0] == back[3][0] == bits(first_state())
    assert [m.get("rolled_back_to") for _, m in back[:4]] == [None, 0, None, 0]


def test_a_state_goes_back_into_the_graph_that_is_there():
    found = fit(DONATING, first_state(), batches(), progress=False, on_nonfinite="roll_back")
    state = [state for state, _ in found][-1]
    assert DONATING.compiles() == 1
    assert {type(leaf) for leaf in tree.leaves(state)} == {Resident}


def poisoned(state, batch):
    """A step whose loss is fine, but whose new state is not: the next loss is NaN."""
    return state + batch, {"loss": float(state)}


def test_a_state_that_is_not_finite_is_no_snapshot():
    settings = {"on_nonfinite": "roll_back", "snapshot_every": 1, "progress": False}
    found = list(fit(poisoned, np.float32(1.0), [1.0, np.inf, 1.0, 1.0], **settings))
    assert [float(state) for state, _ in found] == [2.0, math.inf, 2.0, 3.0]
    assert found[2][1]["rolled_back_to"] == 1


def test_the_first_state_must_be_finite_to_go_back_to():
    state = {"params": {"w": ms.Tensor([1.0, NAN])}, "count": 3}
    with pytest.raises(ValueError, match=r"fit: the first state is not finite at params/w"):
        fit(PLAIN, state, [], on_nonfinite="roll_back")


def test_snapshots_keep_dtypes():
    leaves = {
        "half": ms.Tensor([1.5], ms.float16), "brain": ms.Tensor([1.5], ms.bfloat16),
        "key": np.array([1, 2], np.uint32), "count": 3,
    }  # fmt: skip
    decide = judge("roll_back", leaves, start=0, limit=1, snapshot_every=1, folder=None)
    back = decide(leaves, None, None, {"step": 1, "loss": NAN})
    assert [back[name].dtype for name in ("half", "brain", "key")] == [
        ms.float16, ms.bfloat16, np.uint32,
    ]  # fmt: skip
    assert float(back["brain"]) == 1.5
    assert int(back["count"]) == 3
    with pytest.raises(ValueError, match=r"not finite at brain"):
        judge(
            "roll_back", {**leaves, "brain": ms.Tensor([NAN], ms.bfloat16)}, start=0, limit=1,
            snapshot_every=1, folder=None,
        )  # fmt: skip


# --- count ---


def test_count_goes_on_with_what_the_step_returned():
    def careful(state, batch):
        return state + (0 if math.isnan(batch) else batch), {"loss": batch, "tokens": 2.0}

    found = list(fit(careful, 0, [1.0, NAN, 3.0], progress=False, on_nonfinite="count"))
    assert [state for state, _ in found] == [1.0, 1.0, 4.0]
    assert [(m["nonfinite"], m["tokens"]) for _, m in found] == [(0, 2.0), (1, 0.0), (1, 2.0)]


def test_an_optimizer_that_leaves_bad_gradients_out_may_donate(clean):
    """The way out that the refusal of "skip" names."""
    optimizer = skip_nonfinite(OPTIMIZER)
    first, params = init_state({"a": ms.Tensor([1.0])}, optimizer), []
    step = train_step(distance, optimizer, donate=True)
    for state, metrics in fit(step, first, batches(), progress=False, on_nonfinite="count"):
        params.append(state["params"]["a"].asnumpy().copy())
        assert metrics["nonfinite"] == int(state["optimizer"]["skipped"])
    assert metrics["nonfinite"] == 1
    assert params[BAD - 1] == params[BAD - 2]
    del params[BAD - 1]
    np.testing.assert_allclose(
        params, [np.frombuffer(now[-1], np.float32) for now, _ in clean], rtol=1e-6
    )


# --- never endless ---


@pytest.mark.parametrize("policy", ["skip", "roll_back", "count"])
def test_too_many_in_a_row_raise(policy):
    def step(state, batch):
        return state, {"loss": batch}

    given = [NAN, NAN, 1.0, NAN, NAN, NAN, 1.0]
    found = fit(
        step, 0, given, progress=False, on_nonfinite=policy, max_nonfinite=2, bad_batches="bad"
    )
    told = [next(found)[1]["nonfinite"] for _ in range(5)]
    assert told == [1, 2, 2, 3, 4]
    message = r"the loss is nan at step 6, number 3 in a row that is none; .*step_00000006.npz"
    with pytest.raises(FloatingPointError, match=message):
        next(found)
    assert float(np.load("bad/step_00000006.npz")["batch"]) != 0


@pytest.mark.parametrize("loss", [math.inf, -math.inf])
def test_infinite_losses_are_no_numbers(loss):
    found = fit(lambda s, b: (s, {"loss": loss}), 0, [1], progress=False, on_nonfinite="skip")
    assert next(found)[1]["nonfinite"] == 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"on_nonfinite": "ignore"}, r"on_nonfinite='ignore'; it is one of raise, skip, roll_back"),
        ({"max_nonfinite": 0}, r"fit: max_nonfinite=0; it must be at least 1"),
        ({"snapshot_every": 0}, r"fit: snapshot_every=0; it must be at least 1"),
    ],
)
def test_settings_are_checked_when_fit_is_called(settings, message):
    with pytest.raises(ValueError, match=message):
        fit(PLAIN, {}, [], **settings)
