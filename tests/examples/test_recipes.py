"""The recipes of `examples/recipes`, each run at a tiny size by what it says itself."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.recipe.tiny_run import write_model, write_rows

from mfunc import recipe
from mfunc.train import read_log

RECIPES = sorted((Path(__file__).parents[2] / "examples" / "recipes").glob("*.toml"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recipes")
    write_model(folder / "model")
    write_rows(folder / "rows.json")
    return folder


def test_there_are_the_four_of_the_tutorials():
    names = [path.stem for path in RECIPES]
    assert names == ["alpaca_full", "alpaca_lora_dynamic", "alpaca_lora_packed", "belle_lora"]


# What these two do is run by the tests of `recipe`, too.
SLOW = ("alpaca_lora_dynamic", "alpaca_lora_packed")


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, marks=pytest.mark.slow if path.stem in SLOW else (), id=path.stem)
        for path in RECIPES
    ],
)
def test_a_recipe_runs(folder, path):
    changes = [
        f"output={folder}", f"model.path={folder / 'model'}",
        f'data.train=["{folder / "rows.json"}"]',
        "data.held_out=2", "data.seq_length=257", "train.batch_size=2", "train.accumulate=1",
        "train.steps=2", "evaluate.steps=0", "log.plot=false", "log.progress=false",
    ]  # fmt: skip
    if "lora" in path.stem:
        changes += ["adapter.rank=2"]
    root = recipe.train(recipe.read(path, changes), str)
    rows = read_log(root / "metrics.jsonl")
    assert [row["step"] for row in rows] == [1, 2]
    assert rows[-1]["eval_loss"] > 0
    assert (root / ("model" if path.stem == "alpaca_full" else "adapter")).is_dir()
