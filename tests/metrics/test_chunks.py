from __future__ import annotations

import sys

import numpy as np
import pytest
from tests.metrics.golden import GOLDEN, columns

from mfunc.metrics import entities, tags


def scores(predictions: str, references: str) -> dict[str, float]:
    return entities([predictions.split()], [references.split()])


def test_the_numbers_of_seqeval():
    predictions, references = ([row.split() for row in rows] for rows in columns("entities"))
    found = entities(predictions, references)
    report = {
        k: v
        for k, v in GOLDEN["entities"]["scores"].items()
        if not k.endswith(("macro avg", "weighted avg"))
    }
    assert len(found) == 3 * len(report) == 15
    for name, shares in report.items():
        end = "" if name == "micro avg" else f"/{name}"
        for kind, key in (("precision",) * 2, ("recall",) * 2, ("f1", "f1-score")):
            assert found[kind + end] == pytest.approx(100 * shares[key]), (kind, name)


def test_an_entity_of_one_token_counts():
    """MindFormers never counts it, at the end or before another tag."""
    for row in ("B-PER", "O B-PER", "B-PER O", "B-PER B-PER", "B-PER S-LOC", "B-PER B-LOC I-LOC"):
        found = scores(row, row)
        assert set(found.values()) == {100.0}, row
    assert scores("O O", "B-PER O")["recall"] == 0.0
    assert scores("B-LOC O", "S-PER B-PER") == {
        "precision": 0.0, "precision/LOC": 0.0, "precision/PER": 0.0,
        "recall": 0.0, "recall/LOC": 0.0, "recall/PER": 0.0,
        "f1": 0.0, "f1/LOC": 0.0, "f1/PER": 0.0,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("predictions", "references", "f1"),
    [
        ("S-PER O", "B-PER O", 100),  # two ways to say the same
        ("I-PER I-PER", "B-PER I-PER", 100),  # nothing of that type is open: it begins
        ("B-PER I-LOC", "B-PER B-LOC", 100),  # MindFormers: one entity that ends before it begins
        ("B-PER I-PER", "B-PER B-PER", 0),
        ("S-PER I-PER", "S-PER S-PER", 100),  # nothing goes on after S
        ("B-PER E-PER", "B-PER I-PER", 100),
        ("B-a-b O", "B-a-c O", 0),  # the type is all that follows the first dash
        ("B-PER I-PER O", "B-PER I-PER I-PER", 0),  # both ends must be right
    ],
)
def test_chunks_by_hand(predictions, references, f1):
    assert scores(predictions, references)["f1"] == f1


def test_no_entity_goes_on_in_the_next_row():
    assert entities([["B-PER"], ["I-PER"]], [["B-PER"], ["B-PER"]])["f1"] == 100


def test_shares_are_over_entities_not_over_types_or_rows():
    found = entities(
        [["B-A", "B-A", "B-A"], ["O", "O", "B-B"]], [["B-A", "B-A", "B-A"], ["B-B", "O", "O"]]
    )
    assert (found["f1"], found["f1/A"], found["f1/B"]) == (75, 100, 0)


def test_a_type_that_is_only_predicted_is_there():
    """MindFormers leaves it out of its table."""
    assert scores("B-LOC B-PER", "O B-PER")["precision/LOC"] == 0


@pytest.mark.parametrize("tag", ["PER", "M-PER", "B-", "b-PER", "", "B", 3, None, ["B-PER"]])
def test_what_is_no_tag_is_refused_by_name(tag):
    with pytest.raises(ValueError, match=r"entities: tag .* in row 1 of predictions must be 'O'"):
        entities([["O"], [tag]], [["B-PER"], ["O"]])
    with pytest.raises(ValueError, match=r"in row 0 of references must be 'O', or 'B-'"):
        entities([["O"]], [[tag]])


def test_rows_that_do_not_match_are_refused():
    with pytest.raises(ValueError, match=r"entities: row 1 has 2 predicted tags but 1 references"):
        entities([["O"], ["O", "O"]], [["O"], ["B-A"]])
    with pytest.raises(ValueError, match=r"entities: 1 rows of predictions but 2 references"):
        entities([["O"]], [["O"], ["O"]])
    with pytest.raises(ValueError, match=r"entities: no predictions; nothing can be measured"):
        entities([], [])
    with pytest.raises(ValueError, match=r"the references hold no entity; nothing can be measured"):
        entities([["B-PER"]], [["O"]])
    with pytest.raises(TypeError, match=r"entities: predictions must be a list .*, got a str"):
        entities("O", [["O"]])
    with pytest.raises(TypeError, match=r"entities: row 0 of predictions must be a list"):
        entities(["O"], [["O"]])


def test_tags_of_scores():
    names = ["O", "B-PER", "I-PER"]
    labels = np.array([[-100, 1, 2, 0, -100], [-100, 0, 1, -100, -100]])
    scores = np.eye(3)[np.maximum(labels, 0)]
    wanted = [["B-PER", "I-PER", "O"], ["O", "B-PER"]]
    assert tags(scores, labels, names) == tags(labels, labels, names) == wanted
    scores[1, 2] = [1, 0, 0]
    assert tags(scores, labels, names) == [wanted[0], ["O", "O"]]
    assert entities(tags(scores, labels, names), wanted)["recall"] == 50


def test_a_class_without_a_name_is_refused():
    with pytest.raises(ValueError, match=r"tags: class 2 has no name; there are 2 names"):
        tags([[2]], [[0]], ["O", "B-PER"])
    with pytest.raises(ValueError, match=r"tags: labels must be \[rows, tokens\], got \(1,\)"):
        tags([1], [1], ["O", "B-PER"])


def test_without_the_package_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "seqeval.metrics.sequence_labeling", None)
    with pytest.raises(ImportError, match=r"entities needs the package seqeval: .*'mfunc\[metric"):
        entities([["B-A"]], [["B-A"]])
