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


def test_long_packed_rows_train_by_blocks_as_without(folder, monkeypatch):
    """The same losses, to rounding."""
    table = {"data": {"seq_length": 512}, "train": {"batch_size": 1, "steps": 3}}
    blocks = losses(run(tiny_recipe(folder, table, name="blocks")))
    monkeypatch.setattr(recipe.rows.md, "pays_by_blocks", lambda length: False)
    dense = losses(run(tiny_recipe(folder, table, name="dense")))
    assert blocks != dense, "they were computed in two ways"
    assert blocks == pytest.approx(dense, rel=1e-5)


def test_all_parameters_of_half_precision_would_be_scaled(folder):
    table = {
        "adapter": {"name": "none"},
        "data": {"layout": "static"},
        "train": {"loss_scale": True},
    }
    root = run(tiny_recipe(folder, table, name="all"))
    assert mf.from_pretrained(root / "model").tokenizer is not None
    assert losses(root)[-1] < losses(root)[0]


def test_answers_are_measured_while_training_and_the_best_is_kept_by_them(folder):
    settings = {
        "steps": 2, "metrics": ["squad"], "answers": 3, "best": "eval_squad_f1", "mode": "max",
    }  # fmt: skip
    table = {"evaluate": settings, "checkpoint": {"steps": 2, "keep_last": 1, "keep_best": 1}}
    lines = []
    root = run(tiny_recipe(folder, table, name="answers"), lines)
    rows = read_log(root / "metrics.jsonl")
    measured = {row["step"]: row for row in rows if "eval_loss" in row}
    assert list(measured) == [2, 4, 6]
    for row in measured.values():
        assert {"eval_squad_f1", "eval_squad_exact_match", "eval_accuracy"} <= set(row)
        assert 0 <= row["eval_accuracy"] <= 1
    best = max(measured, key=lambda step: (measured[step]["eval_squad_f1"], -step))
    kept = sorted(int(p.name[5:]) for p in (root / "checkpoints").glob("step_*"))
    assert kept == sorted({best, 6})
    assert any("eval_squad_f1" in line for line in lines)


def test_patience_goes_by_the_metric_that_is_named(folder):
    """An accuracy that does not rise ends the run; the falling loss would not."""
    settings = {"steps": 1, "best": "eval_accuracy", "mode": "max", "patience": 1}
    table = {"evaluate": settings, "optimizer": {"name": "adamw", "learning_rate": 1e-7}}
    root = run(tiny_recipe(folder, table, name="patience"))
    rows = read_log(root / "metrics.jsonl")
    assert rows[-1]["step"] == 2
    assert rows[-1]["stop"].startswith("eval_accuracy has not been better than")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"best": "eval_bleu_bleu"}, r"best='eval_bleu_bleu' is not measured; there are eval_loss"),
        ({"best": "eval_bleu_bleu", "metrics": ["bleu"]}, r"is not measured.*evaluate.answers"),
        ({"answers": 3}, r"evaluate.answers=3, but evaluate.metrics names none"),
        ({"metrics": ["rogue"]}, r"'rogue' is unknown"),
    ],
)
def test_a_metric_that_is_never_measured_is_refused(folder, settings, message):
    with pytest.raises(ValueError, match=message):
        run(tiny_recipe(folder, {"evaluate": settings}, name="refused"))
