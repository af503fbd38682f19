"""The measurement of layouts, at a tiny size: what it leaves, not how fast it is."""

from __future__ import annotations

import json

import pytest
import sentencepiece

import padding
import school_maths

LAYOUTS = ("static", "both", "neat_pack")


@pytest.fixture(scope="module")
def left(tmp_path_factory):
    """What the script leaves of 40 rows."""
    folder = tmp_path_factory.mktemp("padding")
    rows = school_maths.rows(0, 40, school_maths.MIX)
    (folder / "rows.json").write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")
    texts = [text for row in rows for text in row.values()]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts), model_prefix=str(folder / "tokenizer"), vocab_size=500,
        model_type="bpe", byte_fallback=True, minloglevel=2, hard_vocab_limit=False,
    )  # fmt: skip
    words = [
        "--data", folder / "rows.json", "--tokenizer", folder / "tokenizer.model",
        "--output", folder / "out", "--seq-length", 512, "--tokens", 10, "--static-tokens", 10,
        "--hidden-size", 16, "--layers", 1, "--heads", 2, "--batch-size", 4,
        "--layouts", *LAYOUTS,
    ]  # fmt: skip
    return padding.main(list(map(str, words))), folder / "out"


def test_it_measures_what_it_was_asked_for(left):
    found, folder = left
    assert tuple(found) == LAYOUTS
    assert found == json.loads((folder / "padding.json").read_text())
    assert all(row["steps"] >= 2 and row["rate"] > 0 for row in found.values())
    assert found["neat_pack"]["padding"] < found["both"]["padding"] < found["static"]["padding"]


def test_the_first_loss_is_of_the_same_model(left):
    """Before the first update every layout has the same weights: about log(vocabulary)."""
    found, _ = left
    first = [row["losses"][0] for row in found.values()]
    assert max(first) - min(first) < 0.1


def test_it_leaves_a_table_and_a_picture(left):
    _, folder = left
    lines = (folder / "padding.md").read_text().splitlines()
    assert [line.split(" | ")[0].strip("| ") for line in lines[4:]] == list(LAYOUTS)
    assert (folder / "padding.png").read_bytes()[:4] == b"\x89PNG"


def test_both_names_the_lengths_that_come_often():
    options = padding.parse(["--data", "x", "--tokenizer", "y"])
    seconds = options.batch_size * padding.seconds_a_position(options)
    costs = {"seconds": seconds, "faster": padding.FASTER, "compile_seconds": 5.0}
    assert padding.mf.dynamic.static_sizes({17: 1, 129: 100_000}, **costs) == (129,)
