from __future__ import annotations

import pytest

import mfunc.data as md
from mfunc.data import TEMPLATES, Message, Template, chat, render

ROWS = {
    "instruction": ["Add.", "Say hi."],
    "input": ["1, 2", ""],
    "output": ["3", "hi"],
    "_origin": ["a.json item 1", "a.json item 2"],
}
ALPACA = chat(style="alpaca", template="alpaca")


def test_instruction_and_input_are_one_question():
    out = ALPACA(ROWS)
    expected = [
        render(TEMPLATES["alpaca"], [Message("user", q), Message("assistant", a)])
        for q, a in (("Add.\n1, 2", "3"), ("Say hi.", "hi"))
    ]
    assert out == {"pieces": expected, "_origin": ROWS["_origin"]}


def test_optional_columns_may_lack_or_be_none():
    rows = {"instruction": ["Add."], "output": ["3"]}
    assert ALPACA(rows) == ALPACA({**rows, "input": [None], "system": [None], "history": [None]})


def test_system_of_the_row_goes_before_the_given_before_the_template():
    rows = {"instruction": ["Q", "Q"], "output": ["A", "A"], "system": ["own", ""]}
    first, second = chat(style="alpaca", template="qwen", system="given")(rows)["pieces"]
    assert first[1].text == "system\nown"
    assert second[1].text == "system\ngiven"
    plain = chat(style="alpaca", template="qwen")(rows)["pieces"][1]
    assert plain[1].text == "system\nYou are a helpful assistant."


def test_history_is_earlier_turns():
    rows = {"instruction": ["Q2"], "output": ["A2"], "history": [[["Q1", "A1"]]]}
    texts = [p.text for p in chat(style="alpaca", template="llama2")(rows)["pieces"][0]]
    assert texts == [
        "bos",
        "[INST] Q1 [/INST]",
        "A1",
        "eos",
        "bos",
        "[INST] Q2 [/INST]",
        "A2",
        "eos",
    ]
    rows["history"] = [[["Q1"]]]
    with pytest.raises(ValueError, match=r"row 0: 'history' holds \['Q1'\], but must be a list of"):
        ALPACA(rows)
    rows["history"] = ["Q1"]
    with pytest.raises(ValueError, match="'history' holds 'Q', but must be a list of"):
        ALPACA(rows)


def test_prompt_only_needs_no_output():
    prompts = chat(style="alpaca", template="alpaca", prompt_only=True)
    out = prompts({"instruction": ["Add."]})["pieces"][0]
    assert out == render(TEMPLATES["alpaca"], [Message("user", "Add.")])


def test_fields_rename():
    renamed = chat(
        style="alpaca", template="alpaca", fields={"instruction": "question", "output": "answer"}
    )
    assert renamed({"question": ["Add."], "answer": ["3"]}) == ALPACA(
        {"instruction": ["Add."], "output": ["3"]}
    )


def test_own_template():
    mine = Template(user="{content}?", assistant="{content}!")
    texts = [p.text for p in chat(style="alpaca", template=mine)(ROWS)["pieces"][1]]
    assert texts == ["Say hi.?", "hi!"]


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        (
            "instruction",
            None,
            r"row 1 \(a.json item 2\): 'instruction' is missing, but must be text",
        ),
        ("output", None, r"row 1 \(a.json item 2\): 'output' is missing"),
        ("output", 7, r"row 1 \(a.json item 2\): 'output' is 7 \(int\), but must be text"),
        ("input", ["x"], r"row 1 \(a.json item 2\): 'input' is \['x'\] \(list\)"),
    ],
)
def test_bad_rows_are_named(field, value, message):
    with pytest.raises(ValueError, match=message):
        ALPACA({**ROWS, field: [ROWS[field][0], value]})


def test_missing_columns_are_named():
    with pytest.raises(
        ValueError, match=r"row 0 has no 'instruction'; columns are output; map another"
    ):
        ALPACA({"output": ["x"]})
    with pytest.raises(ValueError, match="has no 'instruction'; did you mean 'instructions'"):
        ALPACA({"instructions": ["x"], "output": ["x"]})
    with pytest.raises(ValueError, match="has no 'context'; did you mean 'contexts'"):
        chat(style="alpaca", template="alpaca", fields={"input": "context"})(
            {"instruction": ["x"], "output": ["x"], "contexts": ["x"]}
        )


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"style": "sharegpt"}, ValueError, "style must be one of 'alpaca', got 'sharegpt'"),
        ({"template": "qwne"}, ValueError, "template must be one of .*did you mean 'qwen'"),
        ({"template": 3}, TypeError, "template must be a name or a Template, got 3"),
        ({"train_on": "user"}, ValueError, "train_on must be one of 'assistant', 'all'"),
        ({"fields": {"imput": "x"}}, ValueError, "unknown field 'imput'; did you mean 'input'"),
        ({"system": 3}, TypeError, "system must be text, got 3"),
        ({"prompt_only": 1}, TypeError, "prompt_only must be True or False"),
    ],
)
def test_settings_are_checked_when_built(settings, error, message):
    with pytest.raises(error, match=message):
        chat(**{"style": "alpaca", "template": "alpaca", **settings})
    with pytest.raises(TypeError, match="missing a required argument: 'style'"):
        md.chat(template="alpaca")
