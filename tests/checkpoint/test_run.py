from __future__ import annotations

import os
import subprocess
import sys

import mindspore as ms
import numpy as np
import pytest
from tests.conftest import ROOT

import mfunc.data as md
from mfunc import checkpoint
from mfunc.checkpoint import Checkpointer, save_state, steps
from mfunc.checkpoint.run import locked, to_host
from mfunc.nn import llama
from mfunc.transform import jit

STATE = {"w": np.float32([1, 2])}


def saved(run, losses):
    for i, loss in enumerate(losses, 1):
        save_state(run, STATE, {"step": i, "loss": loss})
    return steps(run)


def test_all_are_kept_unless_told_otherwise(tmp_path):
    run = Checkpointer(tmp_path / "a" / "run")
    assert steps(run) == ()
    assert saved(run, [1.0] * 4) == (1, 2, 3, 4)


@pytest.mark.parametrize(
    ("settings", "losses", "kept"),
    [
        ({"keep_last": 1}, [3, 2, 1], (3,)),
        ({"keep_last": 2}, [3, 2, 1], (2, 3)),
        ({"keep_last": 1, "keep_best": 1, "best": "loss"}, [3, 1, 2, 4], (2, 4)),
        ({"keep_last": 1, "keep_best": 2, "best": "loss", "mode": "max"}, [3, 1, 4, 2], (1, 3, 4)),
        ({"keep_last": 1, "keep_best": 1, "best": "loss"}, [float("nan"), 5, 6], (2, 3)),
        ({"keep_last": 1, "keep_best": 1, "best": "loss"}, ["text", None, 6, 7], (3, 4)),
        ({"keep_last": 1, "keep_best": 1, "best": "other"}, [1, 2], (2,)),
        ({"keep_last": 1, "keep_best": 1, "best": "loss"}, [2, 2, 2], (1, 3)),
        ({"keep_best": 1, "best": "loss"}, [3, 1, 2], (1, 2, 3)),
    ],
)
def test_which_are_kept(tmp_path, settings, losses, kept):
    assert saved(Checkpointer(tmp_path, **settings), losses) == kept


def test_a_damaged_one_is_neither_counted_nor_deleted(tmp_path):
    run = Checkpointer(tmp_path, keep_last=2)
    saved(run, [1, 1])
    (tmp_path / "step_00000001" / "checkpoint.json").write_text("{}")
    save_state(run, STATE, {"step": 3})
    save_state(run, STATE, {"step": 4})
    assert steps(run) == (1, 3, 4)


def test_what_killed_writers_left_is_swept_up(tmp_path):
    (tmp_path / ".step_00000007.x.part" / "step_00000007").mkdir(parents=True)
    run = Checkpointer(tmp_path)
    assert steps(run) == ()
    save_state(run, STATE, {"step": 1})
    assert sorted(p.name for p in tmp_path.iterdir()) == [".lock", "step_00000001"]


@pytest.mark.parametrize(
    ("metrics", "error", "message"),
    [
        ({}, TypeError, r'metrics\["step"\] must be an integer >= 0, got N'),
        (
            {"step": -1},
            ValueError,
            r'metrics\["step"\] must be an integer >= 0, got -1',
        ),
        (
            {"step": 1.5},
            TypeError,
            r'metrics\["step"\] must be an integer >= 0, got 1.5',
        ),
        ({"step": 1, "x": [1, 2]}, TypeError, r"the metric 'x' is \[1, 2\]; a number or a text is"),
    ],
)
def test_metrics_that_are_refused(tmp_path, metrics, error, message):
    with pytest.raises(error, match=message):
        save_state(Checkpointer(tmp_path), STATE, metrics)
    assert steps(Checkpointer(tmp_path)) == ()


def test_metrics_of_any_kind_of_number(tmp_path):
    run = Checkpointer(tmp_path)
    metrics = {"step": 3.0, "a": np.float32(0.5), "b": ms.Tensor(2.0), "c": "said", "d": True}
    save_state(run, STATE, metrics)
    restored = checkpoint.restore(run, STATE).metrics
    assert restored == {"step": 3, "a": 0.5, "b": 2.0, "c": "said", "d": True}
    assert type(restored["step"]) is int


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"a/b": np.zeros(1), "a": {"b": np.zeros(1)}}, r"two leaves have the path a/b"),
        ({"w": "text"}, r"state.safetensors: w has dtype <U4; known are bfloat16"),
    ],
)
def test_states_that_are_refused(tmp_path, state, message):
    with pytest.raises(ValueError, match=message):
        save_state(Checkpointer(tmp_path), state, {"step": 1})
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"keep_last": 0}, ValueError, r"Checkpointer: keep_last must be an integer >= 1, got 0"),
        ({"keep_best": -1}, ValueError, r"Checkpointer: keep_best must be an integer >= 0, got -1"),
        ({"keep_best": 1}, ValueError, r"keep_best=1 needs best=\.\.\., the metric to go by"),
        ({"mode": "low"}, ValueError, r"Checkpointer: mode must be one of 'min', 'max', got 'low'"),
        (
            {"config": [1]},
            TypeError,
            r"Checkpointer: config must be a mapping of settings, got \[",
        ),
        (
            {"config": {"f": len}},
            TypeError,
            r"Checkpointer: config.f: <built-in .* no stable iden",
        ),
    ],
)
def test_settings_that_are_refused(settings, error, message):
    with pytest.raises(error, match=message):
        Checkpointer("run", **settings)


def test_a_config_is_what_json_gives_back():
    model = llama.Config(
        vocab_size=8, hidden_size=4, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2
    )
    config = {"model": model, "pack": md.pack(8), "r": (1, 2)}
    told = Checkpointer("run", config=config).config
    assert told["r"] == [1, 2]
    assert told["pack"]["seq_length"] == 8
    assert told["model"]["hidden_size"] == 4


# --- who has the folder ---

OTHER = """
import sys
from mfunc import checkpoint
run = checkpoint.Checkpointer(sys.argv[1])
try:
    checkpoint.save_state(run, {"w": 1}, {"step": 1})
except RuntimeError as error:
    print(error)
"""


def test_two_processes_are_told_apart_by_name(tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    command = [sys.executable, "-c", OTHER, str(tmp_path)]
    with locked(tmp_path):
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert f"process {os.getpid()} keeps its checkpoints here; wait until it ends" in done.stdout
    assert steps(Checkpointer(tmp_path)) == ()


def test_the_folder_is_free_again_afterwards(tmp_path):
    with locked(tmp_path), pytest.raises(RuntimeError, match="keeps its checkpoints here"):
        save_state(Checkpointer(tmp_path), STATE, {"step": 1})
    save_state(Checkpointer(tmp_path), STATE, {"step": 1})


# --- copies ---


def test_what_goes_to_the_host_is_nobodys_memory():
    array, tensor = np.float32([1, 2]), ms.Tensor([3.0, 4.0])
    host = to_host({"a": array, "b": tensor})
    array[0] = 9
    tensor[0] = 9
    assert (host["a"].tolist(), host["b"].tolist()) == ([1, 2], [3, 4])


def add_one(state):
    return {"w": state["w"] + 1.0}


def test_a_donated_state_is_copied_before_it_dies():
    step = jit(add_one, donate_argnums=0)
    first = {"w": ms.Tensor([1.0, 2.0])}
    fresh = to_host(first)
    second = step(first)
    resident = to_host(second)
    step(second)
    assert (fresh["w"].tolist(), resident["w"].tolist()) == ([1, 2], [2, 3])
