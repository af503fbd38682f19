"""A run that is stopped, or killed, and goes on: the same bits as one that is not."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests import resumable
from tests.conftest import ROOT

from mfunc import checkpoint, tree


def bits(state):
    paths, leaves = tree.paths(state), tree.leaves(state)
    arrays = [checkpoint.arrays.as_array(leaf) for leaf in leaves]
    return {p: (a.dtype.name, a.tobytes()) for p, a in zip(paths, arrays, strict=True)}


def child(folder, last, *options):
    """The run in a process of its own."""
    command = [sys.executable, str(ROOT / "tests" / "resumable.py"), str(folder), str(last)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    return subprocess.Popen([*command, *options], env=environment, stderr=subprocess.PIPE)


def losses_of(folder):
    """Every loss that was written of each step, by however many processes."""
    seen = {}
    for line in (folder / "losses.txt").read_text().splitlines(keepends=True):
        if line.endswith("\n"):
            number, value = line.split()
            seen.setdefault(int(number), set()).add(value)
    return seen


# --- stopped ---

LAST, EPOCH = 16, 6


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A LLaMA that is not stopped, and a checkpoint of its every step."""
    folder = tmp_path_factory.mktemp("whole")
    state, losses = resumable.train(folder, LAST, "llama", keep_last=LAST)
    return folder, bits(state), losses


def stopped_at(whole, step, folder):
    """As if the run had been stopped after a step."""
    folder.mkdir()
    shutil.copytree(whole[0] / f"step_{step:08d}", folder / f"step_{step:08d}")
    return folder


def test_the_run_is_one_worth_stopping(whole):
    """It goes over the end of an epoch twice, and no two of its steps are alike."""
    batches = list(resumable.md.epochs(resumable.rows(), epochs=1, **resumable.BATCHES))
    assert 2 * len(batches) == 2 * EPOCH < LAST
    assert len(set(whole[2].values())) == LAST


@pytest.mark.parametrize("step", range(1, LAST + 1))
def test_stopped_anywhere_it_goes_on_to_the_same_bits(whole, step, tmp_path):
    folder = stopped_at(whole, step, tmp_path / "run")
    state, losses = resumable.train(folder, LAST, "llama")
    assert bits(state) == whole[1]
    assert losses == {n: value for n, value in whole[2].items() if n > step}


@pytest.mark.slow
def test_the_same_in_a_new_process(whole, tmp_path):
    folder = stopped_at(whole, 9, tmp_path / "run")
    process = child(folder, LAST, "--model", "llama")
    assert process.wait() == 0, process.stderr.read().decode()
    process.stderr.close()
    run = resumable.checkpointer(folder, "llama")
    assert bits(checkpoint.restore(run, resumable.first_state("llama")).state) == whole[1]
    assert losses_of(folder) == {n: {value} for n, value in whole[2].items() if n > 9}


def test_the_same_without_donation(tmp_path):
    """Other kernels update then, so the last bits are others than with it, but these are alike."""
    settings = {"model": "bigram", "donate": False}
    (tmp_path / "whole").mkdir()
    state, losses = resumable.train(tmp_path / "whole", LAST, keep_last=LAST, **settings)
    folder = stopped_at((tmp_path / "whole",), 9, tmp_path / "run")
    again, rest = resumable.train(folder, LAST, **settings)
    assert bits(again) == bits(state)
    assert rest == {n: value for n, value in losses.items() if n > 9}


# --- killed ---


def kill_somewhere(folder: Path, random: random.Random, under_a_save: bool) -> bool:
    """Start the run, kill it while it trains; return whether it was just writing a checkpoint."""
    process = child(folder, 10**6)
    before = steps_in(folder)
    try:
        while steps_in(folder) == before:  # until it trains
            assert process.poll() is None, process.stderr.read().decode()
            time.sleep(0.01)
        time.sleep(random.random() * 0.3)
        while under_a_save and not list(folder.glob(".step_*.part")):
            assert process.poll() is None, process.stderr.read().decode()
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stderr.close()
    return bool(list(folder.glob(".step_*.part")))


def steps_in(folder):
    return sorted(path.name for path in folder.glob("step_*"))


def kill_often(folder, times):
    folder.mkdir()
    chance = random.Random(times)
    under_saves = [kill_somewhere(folder, chance, i % 3 == 2) for i in range(times)]
    assert any(under_saves)
    reached = max(losses_of(folder))
    state, _ = resumable.train(folder, reached + 3)
    assert not list(folder.glob(".step_*.part"))
    quiet, losses = resumable.train(folder.with_name("quiet"), reached + 3, save_every=10**6)
    assert bits(state) == bits(quiet)
    assert losses_of(folder) == {number: {value} for number, value in losses.items()}


def test_killed_three_times_it_ends_in_the_same_bits(tmp_path):
    (tmp_path / "quiet").mkdir()
    kill_often(tmp_path / "run", 3)


@pytest.mark.slow
def test_killed_thirty_times_it_ends_in_the_same_bits(tmp_path):
    (tmp_path / "quiet").mkdir()
    kill_often(tmp_path / "run", 30)
