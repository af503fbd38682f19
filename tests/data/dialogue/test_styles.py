from __future__ import annotations

import pytest

from mfunc.data import Call, Message, conversations, invalid_rows

HUMAN, GPT = {"from": "human", "value": "Q"}, {"from": "gpt", "value": "A"}
QA = (Message("user", "Q"), Message("assistant", "A"))


def read(style, value, **settings):
    """Messages of one row of messages."""
    column = "messages" if style == "openai" else "conversations"
    return conversations(style=style, **settings)({column: [value]})["messages"][0]


def reason(rows, style, **settings):
    ((_, text),) = invalid_rows(rows, style=style, **settings)
    return text


@pytest.mark.parametrize("name", ["gpt", "assistant"])
@pytest.mark.parametrize("style", ["sharegpt", "belle"])
def test_both_names_of_the_assistant(style, name):
    assert read(style, [HUMAN, {"from": name, "value": "A"}]) == QA


def test_all_tags_can_be_renamed():
    tags = {
        "role_tag": "who", "content_tag": "what", "user_tag": "U", "assistant_tag": "A",
        "observation_tag": "O", "function_tag": "F", "system_tag": "S",
    }  # fmt: skip
    turns = [("S", "Be kind."), ("U", "Q"), ("F", '{"name": "f", "arguments": {"x": 1}}'),
             ("O", "{}"), ("A", "A")]  # fmt: skip
    rows = {"conversations": [[{"who": who, "what": what} for who, what in turns]]}
    out = conversations(style="sharegpt", tags=tags)(rows)
    assert out["system"] == ["Be kind."]
    assert out["messages"][0] == (
        Message("user", "Q"),
        Message("assistant", "", (Call("f", '{"x": 1}'),)),
        Message("observation", "{}"),
        Message("assistant", "A"),
    )
    only = {"assistant_tag": "bot"}
    assert reason({"conversations": [[HUMAN, GPT]]}, "sharegpt", tags=only) == (
        "unknown_role: message 1 has 'from' 'gpt'; known are 'human', 'bot', 'observation', "
        "'function_call', 'system'"
    )


def test_a_leading_system_message_goes_before_the_column():
    rows = {
        "conversations": [[{"from": "system", "value": "own"}, HUMAN, GPT]],
        "system": ["column"],
    }
    assert conversations(style="sharegpt")(rows)["system"] == ["own"]
    rows["conversations"] = [[HUMAN, GPT]]
    assert conversations(style="sharegpt")(rows)["system"] == ["column"]


def test_openai_messages():
    calls = [{"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}}]
    messages = [
        {"role": "system", "content": "S"},
        {"role": "user", "content": [{"type": "text", "text": "Q"}, {"type": "text", "text": "!"}]},
        {"role": "assistant", "content": None, "tool_calls": calls},
        {"role": "tool", "content": "1", "tool_call_id": "1"},
        {"role": "tool", "content": "2", "tool_call_id": "2"},
        {"role": "assistant", "content": "A", "reasoning_content": "hm"},
    ]
    out = conversations(style="openai")({"messages": [messages], "tools": [[{"name": "f"}]]})
    assert out["system"] == ["S"]
    assert out["tools"] == [({"name": "f"},)]
    assert out["messages"][0] == (
        Message("user", "Q!"),
        Message("assistant", "", (Call("f", '{"x": 1}'),)),
        Message("observation", "1"),
        Message("observation", "2"),
        Message("assistant", "A", (), "hm"),
    )


def test_belle_joins_by_nothing():
    rows = {"instruction": ["Add: "], "input": ["1, 2"], "output": ["3"]}
    assert conversations(style="belle")(rows)["messages"] == [
        (Message("user", "Add: 1, 2"), Message("assistant", "3"))
    ]


def test_pairs_of_both_forms():
    answer = {"from": "gpt", "value": "worse"}
    rows = {"conversations": [[HUMAN]], "chosen": [GPT], "rejected": [answer]}
    out = conversations(style="pairwise")(rows)
    assert out["chosen_messages"] == [QA]
    assert out["rejected_messages"] == [(QA[0], Message("assistant", "worse"))]
    alpaca = {"instruction": ["Q"], "chosen": ["A"], "rejected": ["worse"]}
    assert conversations(style="pairwise")(alpaca) == out
    assert reason({**rows, "chosen": [HUMAN]}, "pairwise").startswith(
        "roles_out_of_turn: message 1"
    )
    assert reason({**rows, "chosen": [None]}, "pairwise") == "missing_answer: 'chosen' is missing"
    assert reason({**alpaca, "chosen": [["A", "B"]]}, "pairwise").startswith(
        "not_text: 'chosen' is ["
    )


def test_prompts_have_no_last_answer():
    assert read("sharegpt", [HUMAN, GPT], prompt_only=True) == QA[:1]
    assert read("sharegpt", [HUMAN, GPT, HUMAN], prompt_only=True) == (*QA, QA[0])
    assert conversations(style="alpaca", prompt_only=True)({"instruction": ["Q"]})["messages"] == [
        QA[:1]
    ]


def test_text_is_carried_as_it_is():
    assert conversations(style="text")({"text": ["a\n"], "_origin": ["x"]}) == {
        "text": ["a\n"],
        "_origin": ["x"],
    }


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ([], "empty_conversation: 'conversations' has no messages"),
        (None, "empty_conversation: 'conversations' has no messages"),
        ([{"from": "system", "value": "S"}], "empty_conversation"),
        ("Hi", "not_text: 'conversations' is 'Hi' (str), but must be a list of messages"),
        (["Hi"], "not_text: message 0 is 'Hi', but must have 'from'"),
        ([HUMAN], "missing_answer: the last message is of role 'user'"),
        ([GPT, HUMAN], "roles_out_of_turn: message 0 is of role 'assistant'"),
        ([HUMAN, HUMAN], "roles_out_of_turn: message 1 is of role 'user'"),
        ([HUMAN, {"from": "system", "value": "S"}], "roles_out_of_turn: message 1"),
        ([{"from": "cat", "value": "Miau"}], "unknown_role: message 0 has 'from' 'cat'; known are"),
        ([{"from": ["human"], "value": "Q"}], "unknown_role: message 0 has 'from' ['human']"),
        ([{"value": "Q"}], "unknown_role: message 0 has 'from' None"),
        ([HUMAN, {"from": "gpt"}], "not_text: message 1: 'value' is None, not text"),
        ([HUMAN, {"from": "gpt", "value": [{"type": "image"}]}], "not_text: message 1: 'value' is"),
        (
            [HUMAN, {"from": "function_call", "value": "f()"}],
            "bad_function_call: the function call",
        ),
        ([HUMAN, {**GPT, "reasoning_content": 3}], "not_text: message 1: 'reasoning_content' is 3"),
    ],
)
def test_invalid_conversations(value, text):
    assert reason({"conversations": [value]}, "sharegpt").startswith(text)


def test_invalid_tools_and_history():
    rows = {"conversations": [[HUMAN, GPT]], "tools": ["{"]}
    assert reason(rows, "sharegpt").startswith("unknown_tools: tools '{' cannot be read as JSON")
    rows = {"instruction": ["Q"], "output": ["A"], "history": [[["Q", None]]]}
    assert reason(rows, "alpaca").startswith("not_text: 'history' holds ['Q', None]")
