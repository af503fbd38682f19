from __future__ import annotations

import mindspore as ms
import numpy as np
import pytest

from mfunc import optim, tree
from mfunc.checkpoint import Checkpointer, restore, save_state
from mfunc.spec import Spec
from mfunc.train import init_state

CONFIG = {"model": {"layers": 2, "rate": 0.1}, "data": "abc", "sizes": [1, 2]}


def state_of(step):
    return {
        "params": {"w": np.float32([step, 2])},
        "optimizer": ({}, {"count": np.int32(step)}, ()),
    }


@pytest.fixture
def run(tmp_path):
    run = Checkpointer(tmp_path, config=CONFIG, best="loss", keep_best=1)
    for step, loss in ((10, 3.0), (20, 1.0), (30, 2.0)):
        save_state(run, state_of(step), {"step": step, "loss": loss})
    return run


def flip(run, step, file="state.safetensors"):
    path = run.folder / f"step_{step:08d}" / file
    content = path.read_bytes()
    path.write_bytes(content[:-9] + bytes([content[-9] ^ 1]) + content[-8:])


@pytest.mark.parametrize(("which", "step"), [("latest", 30), ("best", 20), (10, 10)])
def test_which_is_taken(run, which, step):
    restored = restore(run, state_of(0), which)
    assert restored.step == step == restored.metrics["step"]
    assert restored.path.name == f"step_{step:08d}"
    assert restored.skipped == ()
    assert tree.flatten(restored.state)[1] == tree.flatten(state_of(0))[1]
    assert restored.state["params"]["w"].tolist() == [step, 2]


def test_nothing_there(run, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none: no checkpoint is there"):
        restore(Checkpointer(tmp_path / "none"), {})
    with pytest.raises(FileNotFoundError, match=r"no checkpoint 15; there are 'latest', 'best', 1"):
        restore(run, state_of(0), 15)
    with pytest.raises(FileNotFoundError, match=r"no checkpoint 'newest'; there are"):
        restore(run, state_of(0), "newest")
    other = Checkpointer(run.folder, config=CONFIG, best="f1")
    with pytest.raises(ValueError, match=r"no checkpoint has a number for the metric best='f1'"):
        restore(other, state_of(0), "best")


# --- damage ---


def test_a_broken_newest_is_an_error_that_names_the_next(run):
    flip(run, 30)
    wanted = r"step_00000030/state.safetensors: damaged, its blake2b .*; the next that is whole is "
    with pytest.raises(ValueError, match=wanted + r"step_00000020: take it by which=20, or by fal"):
        restore(run, state_of(0))
    flip(run, 20, "checkpoint.json")
    with pytest.raises(ValueError, match=wanted + r"step_00000010: take it by which=10"):
        restore(run, state_of(0))
    flip(run, 10)
    with pytest.raises(ValueError, match=r"step_00000030/.*damaged, .*; no other is whole"):
        restore(run, state_of(0))


def test_falling_back_is_asked_for_and_says_what_it_skipped(run):
    flip(run, 30)
    flip(run, 20, "checkpoint.json")
    restored = restore(run, state_of(0), fallback=True)
    assert restored.step == 10
    assert "step_00000030/state.safetensors: damaged" in restored.skipped[0]
    assert "step_00000020/checkpoint.json: damaged" in restored.skipped[1]
    flip(run, 10)
    with pytest.raises(ValueError, match=r"no checkpoint is whole: .*30.*damaged.*20.*10"):
        restore(run, state_of(0), fallback=True)


def test_the_best_may_be_broken_too(run):
    flip(run, 20)
    with pytest.raises(ValueError, match=r"step_00000020/.*damaged.*whole is step_00000030"):
        restore(run, state_of(0), "best")
    assert restore(run, state_of(0), "best", fallback=True).step == 30
    flip(run, 10, "checkpoint.json")
    with pytest.raises(ValueError, match=r"step_00000010/checkpoint.json: damaged"):
        restore(run, state_of(0), "best")
    assert len(restore(run, state_of(0), "best", fallback=True).skipped) == 2


def test_after_falling_back_the_run_goes_on_and_the_broken_one_is_kept_aside(run):
    flip(run, 30)
    assert restore(run, state_of(0), 20).step == 20
    save_state(run, state_of(25), {"step": 25})
    assert restore(run, state_of(0)).step == 25
    assert (run.folder / "step_00000030.aside").is_dir()


# --- another run's ---


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": {"layers": 2, "rate": 0.2}},
         r"step_00000030: of another run: config.model.rate is 0.1 in the checkpoint and 0.2 in t"),
        ({"data": "abd"}, r'config.data is "abc" in the checkpoint and "abd" in this run'),
        ({"sizes": [1, 3]}, r"config.sizes.1 is 2 in the checkpoint and 3 in this run"),
        ({"sizes": [1]}, r"config.sizes.1 is 2 in the checkpoint and absent in this run"),
        ({"new": None}, r"config.new is absent in the checkpoint and null in this run"),
        ({"data": 1, "sizes": 2}, r"config.data .*; config.sizes is absent .*; config.sizes.0 is"),
    ],
)  # fmt: skip
def test_another_config_is_refused_by_name(run, change, message):
    other = Checkpointer(run.folder, config={**CONFIG, **change})
    with pytest.raises(ValueError, match=message):
        restore(other, state_of(0), fallback=True)


def test_no_config_at_all_is_another_config(run):
    with pytest.raises(ValueError, match=r'run: config.data is "abc" in .* absent in this'):
        restore(Checkpointer(run.folder), state_of(0))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"more": np.zeros(1)}, r"step_00000030: missing more$"),
        ({"params": {}}, r"step_00000030: unexpected params/w$"),
        ({"params": {"w": np.zeros(3, np.float32)}},
         r"params/w is float32 \[2\] in the checkpoint and float32 \[3\] in this run"),
        ({"params": {"w": np.zeros(2, np.float16)}},
         r"params/w is float32 \[2\] in the checkpoint and float16 \[2\] in this run"),
        ({"params": {"w": ms.Tensor([1.0, 2.0], ms.bfloat16)}}, r"and bfloat16 \[2\] in this run"),
    ],
)  # fmt: skip
def test_other_leaves_are_refused_by_name(run, change, message):
    with pytest.raises(ValueError, match=message):
        restore(run, {**state_of(0), **change}, fallback=True)


# --- what leaves become ---


def test_each_leaf_becomes_what_it_is_in_like(tmp_path):
    run = Checkpointer(tmp_path)
    state = {
        "tensor": ms.Tensor([1, 2], ms.int32),
        "half": ms.Tensor([1.5, -2.0], ms.bfloat16),
        "array": np.uint32([3, 4]),
        "number": 5,
        "part": 0.1,
        "flag": True,
        "none": None,
        "empty": ({}, [], ()),
    }
    save_state(run, state, {"step": 0})
    like = {**state, "half": Spec((2,), axes=(None,), dtype="bfloat16")}
    seen = restore(run, like).state
    assert (seen["tensor"].dtype, seen["tensor"].asnumpy().tolist()) == (ms.int32, [1, 2])
    assert seen["half"].dtype == ms.bfloat16
    assert seen["half"].asnumpy().tobytes() == state["half"].asnumpy().tobytes()
    assert type(seen["array"]) is np.ndarray
    assert seen["array"].tolist() == [3, 4]
    kept = {name: seen[name] for name in ("number", "part", "flag", "none", "empty")}
    assert kept == {"number": 5, "part": 0.1, "flag": True, "none": None, "empty": ({}, [], ())}
    assert type(kept["flag"]) is bool


def test_a_state_of_training_comes_back_whole(tmp_path):
    optimizer = optim.chain(optim.clip_by_global_norm(1.0), optim.adamw(0.1))
    state = init_state({"w": ms.Tensor([1.0]), "frozen": None}, optimizer)
    run = Checkpointer(tmp_path)
    save_state(run, state, {"step": 1})
    seen = restore(run, state).state
    assert tree.flatten(seen)[1] == tree.flatten(state)[1]
    assert all(isinstance(leaf, ms.Tensor) for leaf in tree.leaves(seen))
