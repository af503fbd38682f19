from __future__ import annotations

import pytest
from tests.recipe.tiny_run import ROWS, tiny_recipe

from mfunc import metrics
from mfunc.recipe.answers import answer, check_metrics, scores
from mfunc.recipe.parts import parts_of
from mfunc.recipe.settings import Evaluate


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    return parts_of(tiny_recipe(tmp_path_factory.mktemp("answers")), str)


def test_every_held_out_row_gets_an_answer(parts):
    rows = answer(parts, parts.trained)
    assert rows["reference"] == [row["output"] for row in ROWS[-4:]]
    for prompt, row in zip(rows["prompt"], ROWS[-4:], strict=True):
        assert row["instruction"] in prompt
        assert row["output"] not in prompt.split("Response")[1]
    assert len(rows["answer"]) == 4


def test_only_so_many_rows(parts):
    whole, few = answer(parts, parts.trained), answer(parts, parts.trained, 2)
    assert few == {name: column[:2] for name, column in whole.items()}


def test_scores_are_those_of_the_metrics():
    rows = {"answer": ["a b c", "d"], "reference": ["a b", "e"]}
    told = scores(Evaluate(metrics=["squad", "rouge"]), rows)
    squad, rouge = (fn(rows["answer"], rows["reference"]) for fn in (metrics.squad, metrics.rouge))
    wanted = {f"squad_{key}": value for key, value in squad.items()}
    assert told == wanted | {f"rouge_{key}": value for key, value in rouge.items()}
    assert scores(Evaluate(), rows) == {}


def test_an_unknown_metric_is_refused():
    with pytest.raises(ValueError, match=r"metrics: 'rogue' is unknown; known are rouge, bleu"):
        check_metrics(Evaluate(metrics=["rouge", "rogue"]))
