from __future__ import annotations

import json
import math
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mfunc.train import fit, log_jsonl, log_tensorboard, loss_plot, read_log

LOG = Path("runs/first/log.jsonl")


def count_up(state, batch):
    return state + batch, {"loss": float(batch), "tokens": 2.0}


def run(steps, start=0):
    batches = range(start + 1, steps + 1)
    return list(fit(count_up, 0, batches, start=start, progress=False, callbacks=[log_jsonl(LOG)]))


def logged():
    return [row["step"] for row in read_log(LOG)]


# --- JSONL ---


def test_a_line_a_step_holds_what_fit_told():
    wanted = [metrics for _, metrics in run(3)]
    assert [json.loads(line) for line in LOG.read_text().splitlines()] == wanted == read_log(LOG)
    assert next(iter(wanted[0])) == "step"
    assert read_log(LOG, until=2) == wanted[:2]


def test_a_line_is_there_as_soon_as_its_step_is_told():
    found = fit(count_up, 0, [1, 2], progress=False, callbacks=[log_jsonl(LOG)])
    for number in (1, 2):
        next(found)
        assert logged()[-1] == number


def test_a_resumed_run_drops_what_it_does_again():
    run(7)
    before = LOG.read_bytes().splitlines()
    run(9, start=4)
    assert logged() == list(range(1, 10))
    assert LOG.read_bytes().splitlines()[:4] == before[:4], "kept to the byte"
    assert [path.name for path in LOG.parent.iterdir()] == ["log.jsonl"]


def test_half_a_line_of_a_killed_run_is_dropped():
    run(3)
    with LOG.open("a") as file:
        file.write('{"step": 4, "lo')
    assert logged() == [1, 2, 3]
    run(5, start=3)
    assert logged() == [1, 2, 3, 4, 5]
    LOG.write_text('{"step": 1')
    run(2)
    assert logged() == [1, 2]


def test_the_log_of_another_run_is_kept():
    for _ in range(3):
        run(2)
    names = ["log.1.jsonl", "log.2.jsonl", "log.jsonl"]
    assert sorted(path.name for path in LOG.parent.iterdir()) == names
    assert all(len(read_log(LOG.with_name(name))) == 2 for name in names)


def test_one_callback_that_goes_back_drops_too():
    log = log_jsonl(LOG)
    for step in (1, 2, 3, 2, 3):
        log({}, {"step": step, "loss": 0.5})
    assert logged() == [1, 2, 3]


def test_numbers_that_json_has_not_become_null():
    given = {"step": 1, "loss": math.nan, "a": math.inf, "b": np.float32(0.5), "c": "text", "d": 3}
    log_jsonl(LOG)({}, {**given, "e": None, "f": True})
    row = json.loads(LOG.read_text(), parse_constant=pytest.fail)
    wanted = {"step": 1, "loss": None, "a": None, "b": 0.5, "c": "text", "d": 3, "e": None}
    assert row == {**wanted, "f": True}
    with pytest.raises(TypeError, match=r"log_jsonl: the metric 'x' is list; metrics are numbers"):
        log_jsonl(LOG)({}, {"step": 2, "x": [1, 2]})


@pytest.mark.parametrize(
    "line", ["no json", "[1, 2]", '{"loss": 1.0}', '{"step": "x"}', '{"step": null}', ""]
)
def test_a_file_that_is_no_log_is_refused_at_once_and_left_alone(line):
    LOG.parent.mkdir(parents=True)
    text = '{"step": 1}\n' + line + '\n{"step": 3}\n'
    LOG.write_text(text)
    for read in (log_jsonl, read_log):
        with pytest.raises(ValueError, match=r"log.jsonl: line 2 is no line of a log .*'step'"):
            read(LOG)
    assert LOG.read_text() == text


def test_there_must_be_a_file_to_read():
    with pytest.raises(FileNotFoundError, match=r"log.jsonl: no such file"):
        read_log(LOG)


# --- TensorBoard ---

WRITE = """
import sys
from mfunc.train import fit, log_tensorboard
start, end = map(int, sys.argv[1:])
def step(state, batch):
    return state, {"loss": batch / 2, "tokens": 3.0}
def say(state, metrics):
    return {"answer": "forty-two"} if metrics["step"] == 2 else None
calls = [say, log_tensorboard("board")]
for _ in fit(step, 0, range(start + 1, end + 1), start=start, progress=False, callbacks=calls):
    pass
"""


def events():
    """Every event in the folder, in the order of files: (step, {tag: value}, is a new start)."""
    from tensorboardX.proto.event_pb2 import Event

    found = []
    for path in sorted(Path("board").iterdir()):
        data, at = path.read_bytes(), 0
        while at < len(data):
            (length,) = struct.unpack_from("<Q", data, at)
            event = Event.FromString(data[at + 12 : at + 12 + length])
            at += 16 + length
            tags = {value.tag: value.simple_value for value in event.summary.value}
            found.append((event.step, tags, event.session_log.status == event.session_log.START))
    return found


def test_scalars_of_each_step_and_a_resumed_run_hides_what_it_does_again():
    pytest.importorskip("tensorboardX")
    for start, end in ((0, 3), (2, 4)):
        subprocess.run([sys.executable, "-c", WRITE, str(start), str(end)], check=True)
    losses = [(step, tags["loss"]) for step, tags, _ in events() if "loss" in tags]
    assert losses == [(1, 0.5), (2, 1.0), (3, 1.5), (3, 1.5), (4, 2.0)]
    assert [step for step, _, is_start in events() if is_start] == [1, 3]
    assert any(tag.startswith("answer") for _, tags, _ in events() for tag in tags)
    assert not any(tag == "step" for _, tags, _ in events() for tag in tags)


def test_without_tensorboardx_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(ImportError, match=r"log_tensorboard needs the extra `log`: pip install"):
        log_tensorboard("board")


# --- the picture ---


def test_the_curve_goes_on_over_a_resume():
    pytest.importorskip("matplotlib")
    plot = loss_plot("runs/first/loss.png", LOG)
    run(6)
    plot({}, {})
    whole = Path("runs/first/loss.png").read_bytes()
    run(4)
    run(6, start=4)
    loss_plot("runs/first/again.png", LOG)({}, {})
    assert Path("runs/first/again.png").read_bytes() == whole
    run(5)
    plot({}, {})
    assert Path("runs/first/loss.png").read_bytes() != whole


def test_without_matplotlib_the_extra_is_named_before_the_run(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"mfunc.draw needs the extra `plot`"):
        loss_plot("loss.png", LOG)
