from __future__ import annotations

import shutil

import pytest
from tests.recipe.tiny_run import tiny_recipe

import mfunc as mf
from mfunc import recipe
from mfunc.train import read_log


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("recipes")


def run(recipe_, lines=None):
    return recipe.train(recipe_, (lines if lines is not None else []).append)


def weights(root):
    files = [f for f in sorted(root.rglob("*.safetensors")) if "checkpoints" not in f.parts]
    return {
        (f.name, name): array.tobytes()
        for f in files
        for name, array in mf.checkpoint.read_arrays(f).items()
    }


def losses(root):
    return [row["loss"] for row in read_log(root / "metrics.jsonl")]


def test_a_run_leaves_what_it_did_and_says_so(folder):
    lines = []
    root = run(
        tiny_recipe(folder, {"log": {"plot": True, "tensorboard": True}}, name="whole"), lines
    )
    rows = read_log(root / "metrics.jsonl")
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6]
    assert rows[-1]["loss"] < rows[0]["loss"]
    assert rows[-1]["eval_loss"] > 0
    assert (root / "loss.png").read_bytes()[:4] == b"\x89PNG"
    assert list((root / "tensorboard").iterdir())
    assert recipe.read(root / "recipe.toml").name == "whole"
    text = "\n".join(lines)
    assert "train: 20 samples" in text
    assert "evaluation: 4 samples" in text
    assert "trained: 512 numbers" in text


def test_a_run_that_is_called_again_is_done(folder):
    one = tiny_recipe(folder, name="twice")
    root, lines = run(one), []
    before = weights(root)
    run(one, lines)
    assert weights(root) == before
    assert any("goes on from step 6 of 6" in line for line in lines)


STOPPED = {
    "packed, dropout, accumulated": {
        "adapter": {"dropout": 0.1},
        "train": {"accumulate": 2, "steps": 3},
    },
    "dynamic": {"data": {"layout": "dynamic", "divisor": 16}},
}


@pytest.mark.parametrize("name", STOPPED)
def test_a_run_that_was_stopped_ends_with_the_same_bits(folder, name):
    table = {**STOPPED[name], "checkpoint": {"steps": 1, "keep_last": 6}}
    whole = run(tiny_recipe(folder, table, name=f"{name}, whole"))
    stopped = tiny_recipe(folder, table, name=f"{name}, stopped")
    shutil.copytree(whole, whole.with_name(stopped.name))
    for path in sorted((whole.with_name(stopped.name) / "checkpoints").glob("step_*"))[3:]:
        shutil.rmtree(path)
    shutil.rmtree(whole.with_name(stopped.name) / "adapter")
    root = run(stopped)
    assert weights(root) == weights(whole)
    assert losses(root) == losses(whole)


def test_all_parameters_of_half_precision_would_be_scaled(folder):
    table = {
        "adapter": {"name": "none"},
        "data": {"layout": "static"},
        "train": {"loss_scale": True},
    }
    root = run(tiny_recipe(folder, table, name="all"))
    assert mf.from_pretrained(root / "model").tokenizer is not None
    assert losses(root)[-1] < losses(root)[0]
