from __future__ import annotations

import threading

import numpy as np
import pytest

from mfunc.checkpoint import Checkpointer, background, restore, save_state, steps, writer

STATE = {"w": np.float32([1, 2])}


class Gate:
    """A disk that waits to be let through, and counts who writes at once."""

    def __init__(self, monkeypatch, fail_at=()):
        self.go, self.writing, self.most, self.threads = threading.Event(), 0, 0, set()
        real = writer.write_host

        def slow(run, arrays, metrics):
            self.threads.add(threading.current_thread())
            self.writing += 1
            self.most = max(self.most, self.writing)
            self.go.wait(10)
            self.writing -= 1
            if metrics["step"] in fail_at:
                raise OSError(f"disk full at {metrics['step']}")
            return real(run, arrays, metrics)

        monkeypatch.setattr(writer, "write_host", slow)


def test_saving_returns_before_the_disk_does_and_the_end_waits(tmp_path, monkeypatch):
    run, gate = Checkpointer(tmp_path), Gate(monkeypatch)
    state = {"w": np.float32([1, 2])}
    with background(run) as save:
        assert save(state, {"step": 1}) is None
        assert steps(run) == ()
        state["w"][:] = 9  # as a donated step would
        threading.Timer(0.05, gate.go.set).start()
    assert steps(run) == (1,)
    assert restore(run, STATE).state["w"].tolist() == [1, 2]
    assert gate.threads.isdisjoint({threading.current_thread()})


def test_one_save_at_a_time(tmp_path, monkeypatch):
    run, gate = Checkpointer(tmp_path), Gate(monkeypatch)
    gate.go.set()
    with background(run) as save:
        for step in range(1, 8):
            save(STATE, {"step": step})
            assert len(steps(run)) >= step - 1, "the one before is there"
    assert steps(run) == tuple(range(1, 8))
    assert gate.most == 1
    assert len(gate.threads) == 1
    assert not any(thread.is_alive() for thread in gate.threads)


def test_what_went_wrong_is_raised_by_the_next_save(tmp_path, monkeypatch):
    Gate(monkeypatch, fail_at=(1,)).go.set()
    with background(Checkpointer(tmp_path)) as save:
        save(STATE, {"step": 1})
        with pytest.raises(OSError, match="disk full at 1"):
            save(STATE, {"step": 2})
        save(STATE, {"step": 3})
    assert steps(Checkpointer(tmp_path)) == (3,)


def test_or_at_the_end(tmp_path, monkeypatch):
    Gate(monkeypatch, fail_at=(1,)).go.set()
    with pytest.raises(OSError, match="disk full at 1"), background(Checkpointer(tmp_path)) as save:
        save(STATE, {"step": 1})


def broken_off(folder, error):
    with background(Checkpointer(folder)) as save:
        save(STATE, {"step": 1})
        raise error


def test_an_error_of_the_run_is_told_with_that_of_the_disk(tmp_path, monkeypatch):
    Gate(monkeypatch, fail_at=(1,)).go.set()
    with pytest.raises(KeyboardInterrupt) as caught:
        broken_off(tmp_path, KeyboardInterrupt())
    assert str(caught.value.__cause__) == "disk full at 1"


def test_an_error_of_the_run_loses_no_checkpoint(tmp_path):
    with pytest.raises(ZeroDivisionError):
        broken_off(tmp_path, ZeroDivisionError())
    assert steps(Checkpointer(tmp_path)) == (1,)


def test_the_folder_is_the_runs_alone(tmp_path):
    run = Checkpointer(tmp_path)
    with background(run) as save:
        save(STATE, {"step": 1})
        with pytest.raises(RuntimeError, match="keeps its checkpoints here"):
            save_state(run, STATE, {"step": 2})
        with pytest.raises(RuntimeError, match="keeps its checkpoints here"), background(run):
            pass
    save_state(run, STATE, {"step": 2})
    assert steps(run) == (1, 2)


def test_the_files_are_those_of_save_state(tmp_path):
    one, two = Checkpointer(tmp_path / "one"), Checkpointer(tmp_path / "two")
    path = save_state(one, STATE, {"step": 1, "loss": 2.0})
    with background(two) as save:
        save(STATE, {"step": 1, "loss": 2.0})
    for name in ("state.safetensors", "checkpoint.json"):
        assert (two.folder / path.name / name).read_bytes() == (path / name).read_bytes()
