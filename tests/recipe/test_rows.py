from __future__ import annotations

import json

import pytest
from tests.recipe.tiny_run import ROWS, write_model, write_rows

import mfunc.data as md
from mfunc.recipe.rows import in_order, layout_of, read_rows, samples_of, template_of
from mfunc.recipe.settings import Data


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rows")
    write_model(folder / "model")
    write_rows(folder / "rows.json")
    return folder


@pytest.fixture(scope="module")
def tokenizer(folder):
    return md.load_tokenizer(folder / "model")


def data(folder, **settings):
    return Data(**{"train": (str(folder / "rows.json"),), "seq_length": 192, **settings})


def samples(data, tokenizer, lines=None):
    report = (lines if lines is not None else []).append
    return samples_of(data, tokenizer, template_of(data, ""), pad_id=3, report=report)


def ids(columns):
    return [row.tolist() for row in columns["input_ids"]]


def pairs(columns):
    labels = [row.tolist() for row in columns["labels"]]
    return list(zip(ids(columns), labels, strict=True))


def test_no_row_is_both_trained_and_held_out(folder, tokenizer):
    whole, nothing = samples(data(folder), tokenizer)
    train, held_out = samples(data(folder, held_out=5), tokenizer)
    assert len(ids(nothing)) == 0
    assert ids(whole) == ids(train) + ids(held_out)
    assert len(ids(held_out)) == 5


def test_files_of_their_own_for_evaluation(folder, tokenizer):
    train, held_out = samples(
        data(folder, evaluation=(str(folder / "rows.json"),), sample=3), tokenizer
    )
    assert (len(ids(train)), len(ids(held_out))) == (3, len(ROWS))


def test_tokens_are_trained_as_the_rows_that_they_were_made_of(folder, tokenizer):
    train, _ = samples(data(folder), tokenizer)
    prefix = str(folder / "tokens")
    md.indexed.write(prefix, md.pack(192)(train))
    again, held_out = samples(Data(tokens=prefix, seq_length=192, held_out=2), tokenizer)
    assert len(ids(held_out)) == 2
    assert sorted(pairs(again) + pairs(held_out)) == sorted(pairs(train))


def test_a_map_function_stands_in_place_of_style_and_template(folder, tokenizer):
    settings = {"map_function": "multi-instruct-dyn", "map_settings": {"user_prompt_role": "Q: "}}
    train, _ = samples(data(folder, **settings), tokenizer)
    first = train["input_ids"][0].tolist()
    assert tokenizer.decode(first) == "Q: Say yes 1 times. yes"
    assert first[-1] == tokenizer.eos_id


def test_what_is_lost_is_told(folder, tokenizer):
    rows = [*ROWS, {"instruction": "Nothing", "output": None}]
    (folder / "more.json").write_text(json.dumps(rows))
    lines = []
    settings = {"train": (str(folder / "more.json"),), "invalid": "drop", "overlong": "tail"}
    samples(data(folder, **{**settings, "seq_length": 120}), tokenizer, lines)
    assert lines[0].startswith(f"train: {len(ROWS)} samples, ")
    assert "1 dropped" in lines[0]
    assert " cut" in lines[0]


@pytest.mark.parametrize(("layout", "length"), [("packed", 192), ("static", 192), ("dynamic", 160)])
def test_layouts(folder, tokenizer, layout, length):
    settings = data(folder, layout=layout, divisor=32)
    train, _ = samples(settings, tokenizer)
    batches = list(in_order(train, settings, 3, 4))
    assert max(batch["input_ids"].shape[1] for batch in batches) == length
    real = sum(int((batch["segment_ids"] > 0).sum()) for batch in batches)
    assert real == train["input_ids"].lengths.sum()
    assert {"input_ids", "labels", "segment_ids", "position_ids"} <= set(batches[0])


@pytest.mark.parametrize(("layout", "blocks"), [("packed", 8), ("static", 8), ("dynamic", None)])
def test_long_rows_come_with_the_blocks_of_their_attention(folder, tokenizer, layout, blocks):
    settings = data(folder, layout=layout, seq_length=512)
    train, _ = samples(settings, tokenizer)
    batch = next(in_order(train, settings, 3, 1))
    if blocks is None:
        assert "attention_blocks" not in batch
    else:
        assert batch["attention_blocks"]["first"].shape == (blocks,)


def test_the_lengths_of_a_dynamic_layout():
    _, collate = layout_of(Data(layout="dynamic", divisor=2, remainder=1), 0)
    row = {"input_ids": md.Ragged.from_rows([[1, 2, 3, 4]])}
    assert collate(row)["input_ids"].shape == (1, 5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"train": ()}, r"data.train or data.tokens must name what to train on, and only one"),
        ({"tokens": "x"}, r"data.train or data.tokens must name what to train on, and only one"),
        ({"held_out": 24}, r"data.held_out=24 of 24 rows leaves none to train on; lower it"),
        ({"held_out": 1, "evaluation": ("a",)}, r"evaluation names files, and data.held_out rows"),
    ],
)
def test_what_is_refused(folder, settings, message):
    with pytest.raises(ValueError, match=message):
        read_rows(data(folder, **settings))
