from __future__ import annotations

import pytest

import mfunc.data as md
from mfunc.data import TEMPLATES, Message, Piece, Template, chat, conversations, render

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
    with pytest.raises(ValueError, match="'history' holds 'Q1', but must be a list of"):
        ALPACA(rows)


DIALOGUE = [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]


def test_conversations_and_render_are_chat():
    rows = {"conversations": [DIALOGUE], "system": ["Be kind."], "_origin": ["x"]}
    read = conversations(style="sharegpt")(rows)
    assert read == {
        "messages": [(Message("user", "Hi"), Message("assistant", "Hello"))],
        "system": ["Be kind."],
        "tools": [()],
        "_origin": ["x"],
    }
    pieces = render(TEMPLATES["qwen"], read["messages"][0], system="Be kind.")
    assert chat(style="sharegpt", template="qwen")(rows) == {"pieces": [pieces], "_origin": ["x"]}


def test_tools_that_the_template_cannot_write_are_no_fault_of_the_row():
    """So it is an error even where invalid rows are dropped; MindSpeed loses the tools silently."""
    rows = {"conversations": [DIALOGUE], "tools": ['[{"name": "f"}]']}
    with pytest.raises(
        ValueError, match="chat: row 0: the template's tool format 'glm4' is not known; known are"
    ):
        chat(style="sharegpt", template="glm4", invalid="drop")(rows)


def test_turns_that_only_the_template_refuses_are_invalid_too():
    turn = {"role": "user", "content": "Q"}
    rows = {"messages": [[turn, turn, {"role": "assistant", "content": "A"}]]}
    assert len(conversations(style="openai")(rows)["messages"][0]) == 3
    with pytest.raises(ValueError, match="row 0: message 1 is of role 'user', but must be of 'ass"):
        chat(style="openai", template="qwen")(rows)
    out, counts = md.counted(chat(style="openai", template="qwen", invalid="drop"), rows)
    assert out["pieces"] == []
    assert counts["chat.dropped.roles_out_of_turn"] == 1


def test_append_eos_is_the_templates():
    rows = {"instruction": ["Q"], "output": ["A"]}
    plain = chat(style="alpaca", template="qwen")(rows)["pieces"][0]
    ended = chat(style="alpaca", template="qwen", append_eos=True)(rows)["pieces"][0]
    assert ended == (*plain, Piece("<|im_end|>", trained=True, special=True))


def test_pairs_train_the_last_answer_unless_told_otherwise():
    rows = {
        "instruction": ["Q2"],
        "chosen": ["good"],
        "rejected": ["bad"],
        "history": [[["Q1", "A1"]]],
        "_origin": ["x"],
    }
    out = chat(style="pairwise", template="alpaca")(rows)
    assert list(out) == ["chosen_pieces", "rejected_pieces", "_origin"]
    trained = [[p.text for p in out[name][0] if p.trained] for name in list(out)[:2]]
    assert trained == [["good", "eos"], ["bad", "eos"]]
    both = chat(style="pairwise", template="alpaca", train_on="assistant")(rows)
    assert [p.text for p in both["chosen_pieces"][0] if p.trained] == ["A1", "eos", "good", "eos"]


def test_the_names_of_map_keys_are_understood():
    rows = {"q": ["Add."], "x": ["1, 2"], "a": ["3"]}
    named = chat(
        style="alpaca", template="alpaca", fields={"prompt": "q", "query": "x", "response": "a"}
    )
    assert named(rows)["pieces"] == ALPACA(ROWS)["pieces"][:1]


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
        (
            {"style": "sharegtp"},
            ValueError,
            "style must be one of 'alpaca'.*did you mean 'sharegpt'",
        ),
        ({"template": "qwne"}, ValueError, "template must be one of .*did you mean 'qwen'"),
        ({"template": 3}, TypeError, "template must be a name or a Template, got 3"),
        ({"train_on": "user"}, ValueError, "train_on must be one of 'assistant', 'last', 'all'"),
        ({"fields": {"imput": "x"}}, ValueError, "unknown field 'imput'; did you mean 'input'"),
        ({"system": 3}, TypeError, "system must be text, got 3"),
        ({"prompt_only": 1}, TypeError, "prompt_only must be True or False"),
        (
            {"prompt_only": True, "append_eos": True},
            ValueError,
            "append_eos=True would end a prompt",
        ),
        ({"thinking": "no"}, ValueError, "thinking must be one of 'keep', 'train', 'strip'"),
        (
            {"thinking": "train"},
            ValueError,
            "thinking='train', but the template writes no thoughts",
        ),
        ({"invalid": "skip"}, ValueError, "invalid must be one of 'error', 'drop', got 'skip'"),
        ({"tags": {"user_tag": "x"}}, ValueError, "unknown tag 'user_tag'; this style has none"),
        ({"parse_special": "<s>"}, TypeError, "parse_special must be names of special tokens"),
        ({"parse_special": [""]}, TypeError, "parse_special must be names of special tokens"),
        ({"style": "text"}, ValueError, r"no turns; use conversations\(style='text'\)"),
        ({"style": "pairwise", "prompt_only": True}, ValueError, "'pairwise' have no prompt_only"),
        (
            {"style": "sharegpt", "tags": {"user": "x"}},
            ValueError,
            "unknown tag 'user'; did you mean 'user_tag'",
        ),
        (
            {"style": "sharegpt", "tags": {"user_tag": 3}},
            TypeError,
            "tag 'user_tag' must be text, got 3",
        ),
        (
            {"style": "sharegpt", "tags": {"user_tag": "gpt"}},
            ValueError,
            "'gpt' cannot be both user and assistant",
        ),
        (
            {"fields": {"prompt": "a", "instruction": "b"}},
            ValueError,
            "field twice: 'instruction'",
        ),
    ],
)
def test_settings_are_checked_when_built(settings, error, message):
    with pytest.raises(error, match=message):
        chat(**{"style": "alpaca", "template": "alpaca", **settings})
    with pytest.raises(TypeError, match="missing a required argument: 'style'"):
        md.chat(template="alpaca")
