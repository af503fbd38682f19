"""What holds for every run: wherever it breaks off and goes on."""

from __future__ import annotations

import itertools
import math
import tempfile
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from mfunc.train import early_stopping, every, fit, log_jsonl, read_log

LOSSES = st.lists(st.floats(0, 9).map(lambda x: round(x, 1)), min_size=1, max_size=24)
TOKENS = st.integers(0, 300)


def step(state, batch):
    """A state of which every number tells of all batches so far."""
    loss, tokens = batch
    return (state * 31 + tokens + int(10 * loss)) % 1009, {"loss": loss, "tokens": tokens}


def timeless(metrics):
    return {
        name: value
        for name, value in metrics.items()
        if name not in ("seconds", "tokens_per_second", "running_loss")
    }


@given(
    LOSSES, st.data(), st.integers(1, 5), st.integers(1, 400), st.integers(1, 3)
)  # fmt: skip
def test_a_run_that_breaks_off_anywhere_goes_on_the_same(losses, data, steps, tokens, patience):
    """States, metrics, the steps of every interval and where it stops early."""
    batches = [(loss, data.draw(TOKENS)) for loss in losses]
    cut = data.draw(st.integers(0, len(batches)))

    def watch(history):
        def note(state, metrics):
            return {"noted": metrics["step"]}

        stop = early_stopping("loss", patience=patience, history=history)
        return [every(stop, steps=steps), every(note, tokens=tokens)]

    def run(state, given, history=(), **settings):
        found = fit(step, state, given, callbacks=watch(history), progress=False, **settings)
        return [(state, timeless(metrics)) for state, metrics in found]

    whole = run(1, batches)
    before = run(1, batches[:cut])
    assert before == whole[:cut]
    if before and "stop" in before[-1][1]:
        return
    at, seen = (before[-1][0], before[-1][1]["tokens_seen"]) if before else (1, 0.0)
    history = [m["loss"] for _, m in before if m["step"] % steps == 0]
    rest = run(at, batches[cut:], history, start=cut, tokens_seen=seen)
    assert rest == whole[cut:]


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 9), st.binary(max_size=9)), max_size=6))
def test_a_log_has_every_step_once_however_often_a_run_is_killed(runs):
    """Each run goes on from a step that the ones before have reached, and dies within a line."""
    with tempfile.TemporaryDirectory() as folder:
        path, reached = Path(folder) / "log.jsonl", 0
        for number, (back, length, torn) in enumerate(runs):
            start = max(reached - back, 0)
            log = log_jsonl(path)
            for at in range(start + 1, start + length + 1):
                log({}, {"step": at, "run": number})
            reached = start + length
            with path.open("ab") as file:
                file.write(torn.replace(b"\n", b" "))
            rows = read_log(path)
            assert [row["step"] for row in rows] == list(range(1, reached + 1))
            assert all(row["run"] == number for row in rows if row["step"] > start)


@given(st.lists(st.sampled_from([1.0, math.nan, math.inf]), max_size=20), st.integers(1, 4))
def test_losses_that_are_no_numbers_are_skipped_counted_and_bounded(losses, limit):
    def count(state, batch):
        return state + 1, {"loss": batch}

    runs = [len(list(group)) for bad, group in itertools.groupby(losses, math.isfinite) if not bad]
    found, raised = [], False
    try:
        settings = {"on_nonfinite": "skip", "max_nonfinite": limit, "progress": False}
        for state, metrics in fit(count, 0, losses, **settings):
            found.append((state, metrics["nonfinite"]))
    except FloatingPointError:
        raised = True
    assert raised == (max(runs, default=0) > limit)
    for i, (state, bad) in enumerate(found, 1):
        assert bad == sum(not math.isfinite(loss) for loss in losses[:i])
        assert state == i - bad
