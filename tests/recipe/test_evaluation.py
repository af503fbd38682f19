from __future__ import annotations

import json
import math

import pytest
from tests.recipe.tiny_run import ROWS, tiny_recipe

from mfunc import recipe


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("evaluation")
    recipe.train(tiny_recipe(folder, {"checkpoint": {"steps": 3}, "evaluate": {"steps": 3}}), str)
    return folder


def measured(folder, which="best", **more):
    table = {"evaluate": {"metrics": ["rouge", "bleu"]}}
    return recipe.evaluate(tiny_recipe(folder, table), which, report=str, **more)


def test_the_best_checkpoint_is_better_than_the_model_before_it(folder):
    answers = folder / "answers.jsonl"
    told, before = measured(folder, answers=str(answers)), measured(folder, "none")
    assert told["loss"] < before["loss"]
    assert (told["step"], before["step"]) == (6, 0)
    assert told["perplexity"] == pytest.approx(math.exp(told["loss"]))
    assert 0 <= told["rouge_rougeL"] <= 100
    assert 0 <= told["bleu_bleu"] <= 100
    rows = [json.loads(line) for line in answers.read_text().splitlines()]
    assert [row["reference"] for row in rows] == [row["output"] for row in ROWS[-4:]]
    assert all(
        row["prompt"].count(r["instruction"]) for row, r in zip(rows, ROWS[-4:], strict=True)
    )


def test_what_training_measured_is_what_is_measured_again(folder):
    from mfunc.train import read_log

    rows = {row["step"]: row for row in read_log(folder / "runs" / "run" / "metrics.jsonl")}
    assert measured(folder, "3")["loss"] == pytest.approx(rows[3]["eval_loss"], rel=1e-6)


@pytest.mark.parametrize(
    ("table", "which", "message"),
    [
        (
            {"evaluate": {"metrics": ["rogue"]}},
            "best",
            r"metrics: 'rogue' is unknown; known are ro",
        ),
        ({"data": {"held_out": 0}}, "best", r"nothing to evaluate on: give data.evaluation or dat"),
    ],
)
def test_what_is_refused(folder, table, which, message):
    with pytest.raises(ValueError, match=message):
        recipe.evaluate(tiny_recipe(folder, table), which, report=str)


def test_no_such_checkpoint(folder):
    with pytest.raises(FileNotFoundError, match=r"no checkpoint 4"):
        recipe.evaluate(tiny_recipe(folder), "4", report=str)
