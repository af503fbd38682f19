from __future__ import annotations

import json

import pytest

import mfunc.data as md

ROWS = {
    "instruction": ["Give three tips.", "Add."],
    "input": ["", "1, 2"],
    "output": ["1. Eat.", "3"],
    "_origin": ["a line 1", "a line 2"],
}
WITHOUT = (
    "Below is an instruction that describes a task. Write a response that appropriately completes "
    "the request.\n\n### Instruction:\nGive three tips.\n\n### Response:"
)
WITH = (
    "Below is an instruction that describes a task, paired with an input that provides further "
    "context. Write a response that appropriately completes the request.\n\n### Instruction:\nAdd."
    "\n\n### Input:\n1, 2\n\n### Response:"
)


def test_alpaca_converter():
    assert md.alpaca_conversations()(ROWS) == {
        "id": ["1", "2"],
        "conversations": [
            [{"from": "human", "value": WITHOUT}, {"from": "gpt", "value": "1. Eat."}],
            [{"from": "human", "value": WITH}, {"from": "gpt", "value": "3"}],
        ],
        "_origin": ROWS["_origin"],
    }


def test_the_prompt_of_the_map_function_ends_with_a_newline():
    ours = md.alpaca_conversations(response="### Response:\n")(ROWS)["conversations"]
    theirs = md.sft("alpaca")(ROWS)["pieces"]
    assert [talk[0]["value"] for talk in ours] == [pieces[1].text for pieces in theirs]


def test_belle_ids_in_both_forms_and_numbered_through_chunks():
    ask = {"instruction": ["题目：", "b"], "input": ["1+1？", None], "output": ["\n2", "c"]}
    made = md.belle_conversations(name="school_math-")(ask)
    assert made["id"] == ["school_math-1", "school_math-2"]
    assert made["conversations"][0] == [
        {"from": "human", "value": "题目：1+1？"},
        {"from": "assistant", "value": "\n2"},
    ]
    assert md.belle_conversations(name="bellemath", first=42)(ask)["id"][0] == "bellemath42"
    halves = [
        md.belle_conversations(first=1 + i)(part)
        for i, part in ((0, md.take(1)(ask)), (1, md.skip(1)(ask)))
    ]
    assert md.concat(halves) == md.belle_conversations()(ask)


def test_a_row_keeps_its_own_id():
    ask = {"instruction": ["a"] * 3, "output": ["b"] * 3, "id": ["x7", 8, None]}
    assert md.belle_conversations()(ask)["id"] == ["x7", "8", "belle-3"]
    with pytest.raises(ValueError, match="row 1: 'id' is True, but must be text or an integer"):
        md.belle_conversations()({**ask, "id": ["x", True, "y"]})


@pytest.mark.parametrize("convert", [md.alpaca_conversations, md.belle_conversations])
def test_bad_rows_and_settings(convert):
    with pytest.raises(ValueError, match=r"row 1 \(a line 2\): 'output' is 3 \(int\), but must be"):
        convert()({**ROWS, "output": ["x", 3]})
    with pytest.raises(ValueError, match="has no 'instruction'; did you mean 'instructions'"):
        convert()({"instructions": ["x"], "output": ["y"]})
    with pytest.raises(ValueError, match="first must be an integer >= 0, got -1"):
        convert(first=-1)


def test_texts_are_texts():
    with pytest.raises(TypeError, match="name must be text, got 3"):
        md.belle_conversations(name=3)
    with pytest.raises(TypeError, match="response must be text, got None"):
        md.alpaca_conversations(response=None)


def test_what_is_made_can_be_written_read_and_learned(shared, tmp_path):
    """Converted, saved as JSON, read again and through both chats, whatever the role's name."""
    rows = next(md.read(shared / "data/belle/school_math_900.jsonl", chunk_rows=50))
    for convert in (md.belle_conversations(name="bellemath"), md.alpaca_conversations()):
        made = convert(rows)
        listed = [dict(zip(made, row, strict=True)) for row in zip(*made.values(), strict=True)]
        for row in listed:
            del row["_origin"]
        path = tmp_path / "made.json"
        path.write_text(json.dumps(listed, ensure_ascii=False), encoding="utf-8")
        again = next(md.read(path))
        assert {name: again[name] for name in ("id", "conversations")} == {
            name: made[name] for name in ("id", "conversations")
        }
        for name in ("vicuna", "multi-round-chat", "multi-round-chat-dyn"):
            pieces = md.sft(name)(again)["pieces"]
            answers = ["".join(p.text for p in ps if p.trained and not p.special) for ps in pieces]
            assert answers == rows["output"]
