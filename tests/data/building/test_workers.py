from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import time
from itertools import islice
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import mfunc.data as md
from mfunc.data.building import workers as workers_module
from mfunc.data.building.workers import map_chunks

ROOT = Path(__file__).resolve().parents[3]
SHORT = md.truncate(2, policy="tail")


def chunks(count):
    """Chunk i has a row of i tokens."""
    return [{"input_ids": md.Ragged.from_rows([np.arange(i) + 1])} for i in range(count)]


def slow_first(columns):
    time.sleep(0.2 if len(columns["input_ids"].flat) == 0 else 0)
    return columns


def refuses_three(columns):
    if len(columns["input_ids"].flat) == 3:
        raise FileNotFoundError("there are 3")
    return columns


class UnsendableError(Exception):
    def __init__(self, one, two):
        super().__init__(f"{one} and {two}")


def raises_unsendable(columns):
    raise UnsendableError("this", "that")


def gives_unsendable(columns):
    return lambda: columns


def dies(columns):
    if len(columns["input_ids"].flat) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return columns


def exits(columns):
    sys.exit(3)


def test_every_number_of_workers_gives_the_same():
    alone = list(map_chunks(SHORT, chunks(7)))
    assert [counts["truncate.cut"] for _, counts in alone] == [0, 0, 0, 1, 1, 1, 1]
    for workers in (2, 3):
        assert list(map_chunks(SHORT, chunks(7), workers=workers)) == alone
    assert list(map_chunks(SHORT, [], workers=2)) == []


def test_a_slow_chunk_does_not_change_the_order():
    lengths = [len(c["input_ids"].flat) for c, _ in map_chunks(slow_first, chunks(5), workers=2)]
    assert lengths == [0, 1, 2, 3, 4]


def test_chunks_are_taken_as_they_are_needed():
    taken = []

    def given():
        for i, chunk in enumerate(chunks(20)):
            taken.append(i)
            yield chunk

    for done, _ in enumerate(map_chunks(SHORT, given(), workers=2)):
        assert len(taken) <= done + 3


def test_patience_lasts_for_so_long_and_changes_nothing(monkeypatch):
    started = []
    start = workers_module._started
    monkeypatch.setattr(
        workers_module, "_started", lambda *a: started.append(len(done)) or start(*a)
    )
    clock = iter(range(100))
    monkeypatch.setattr(workers_module, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    done = []
    for each in map_chunks(SHORT, chunks(7), workers=2, patience=4):
        done += [each]
    assert started == [3]
    assert done == list(map_chunks(SHORT, chunks(7)))


def test_a_job_that_is_done_by_then_starts_no_workers(monkeypatch):
    monkeypatch.setattr(workers_module, "_started", None)
    alone = list(map_chunks(SHORT, chunks(7)))
    assert list(map_chunks(SHORT, chunks(7), workers=2, patience=60)) == alone


def test_what_cannot_be_sent_is_refused_also_by_the_patient():
    with pytest.raises((pickle.PicklingError, AttributeError)):
        list(map_chunks(lambda columns: columns, chunks(1), workers=2, patience=60))


@pytest.mark.parametrize("patience", [-1, float("nan")])
def test_a_wrong_patience_is_refused_at_once(patience):
    with pytest.raises(ValueError, match="map_chunks: patience must be seconds >= 0, got"):
        map_chunks(SHORT, [], workers=2, patience=patience)


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_comes_out_as_itself_behind_the_results_before_it(workers):
    results = map_chunks(refuses_three, chunks(6), workers=workers)
    assert [len(next(results)[0]["input_ids"].flat) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(FileNotFoundError, match=r"^there are 3$") as caught:
        next(results)
    assert workers == 1 or "refuses_three" in str(caught.value.__cause__)


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_of_the_chunks_waits_for_those_before_it(workers):
    def given():
        yield from chunks(3)
        raise ValueError("line 4 is damaged")

    results = map_chunks(SHORT, given(), workers=workers)
    assert [counts["truncate.samples"] for _, counts in islice(results, 3)] == [1, 1, 1]
    with pytest.raises(ValueError, match="line 4 is damaged"):
        next(results)


def test_what_cannot_be_sent_is_told():
    with pytest.raises(RuntimeError, match="UnsendableError: this and that"):
        list(map_chunks(raises_unsendable, chunks(1), workers=2))
    with pytest.raises(Exception, match="pickle"):
        list(map_chunks(gives_unsendable, chunks(1), workers=2))


@pytest.mark.parametrize(("function", "how"), [(dies, "SIGKILL"), (exits, "exit code 3")])
def test_a_worker_that_dies_is_an_error(function, how):
    for first in (0, 1):  # so that each of the two meets its chunk
        with pytest.raises(ChildProcessError, match=f"a worker ended .* \\({how}\\); if memory"):
            list(map_chunks(function, chunks(9)[first:], workers=2))
    assert multiprocessing.active_children() == []


def test_a_worker_killed_while_it_waits_is_an_error():
    results = map_chunks(SHORT, chunks(9), workers=2)
    next(results)
    for child in multiprocessing.active_children():
        os.kill(child.pid, signal.SIGKILL)
        child.join()
    with pytest.raises(ChildProcessError, match="SIGKILL"):
        list(results)


def test_closed_early_no_process_is_left():
    results = map_chunks(slow_first, chunks(9), workers=2)
    next(results)
    pids = [child.pid for child in multiprocessing.active_children()]
    assert len(pids) == 2
    results.close()
    assert multiprocessing.active_children() == []
    for pid in pids:
        with pytest.raises(ProcessLookupError):  # nor a zombie
            os.kill(pid, 0)


def test_workers_end_when_their_parent_is_killed():
    code = (
        "import os, signal, sys, multiprocessing as mp, mfunc.data as md\n"
        "from mfunc.data.building.workers import map_chunks\n"
        "if __name__ == '__main__':\n"
        "    rows = ({'text': ['a']} for _ in range(99))\n"
        "    done = map_chunks(md.take(1), rows, workers=2)\n"
        "    next(done)\n"
        "    print(*[child.pid for child in mp.active_children()], flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    Path("script.py").write_text(code)
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(
        [sys.executable, "script.py"], env=environment, capture_output=True, text=True, check=False
    )
    pids = [int(word) for word in done.stdout.split()]
    assert len(pids) == 2, done.stderr
    for _ in range(200):
        left = [pid for pid in pids if Path(f"/proc/{pid}").exists()]
        if not left:
            return
        time.sleep(0.05)
    pytest.fail(f"{left} are left")


@pytest.mark.parametrize("workers", [0, True, "2"])
def test_a_wrong_number_of_workers_is_refused_at_once(workers):
    with pytest.raises((ValueError, TypeError), match="map_chunks: workers must be an int"):
        map_chunks(SHORT, [], workers=workers)
