from __future__ import annotations

import pytest

import mfunc.data as md
from mfunc.data import Message, conversations, invalid_rows

DIALOGUE = [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]
ROWS = {
    "conversations": [DIALOGUE, [], DIALOGUE[:1], DIALOGUE[1:], DIALOGUE],
    "_origin": list("abcde"),
}


def test_columns():
    out = conversations(style="sharegpt")(
        {"conversations": [DIALOGUE], "system": ["Be kind."], "_origin": ["x"], "other": [1]}
    )
    assert out == {
        "messages": [(Message("user", "Hi"), Message("assistant", "Hello"))],
        "system": ["Be kind."],
        "tools": [()],
        "_origin": ["x"],
    }


def test_invalid_rows_are_errors_that_say_how_many():
    with pytest.raises(
        ValueError,
        match=r"conversations: row 1 \(b\): 'conversations' has no messages; 3 of 5 rows are "
        r"invalid: see invalid_rows\(...\), or leave them out with invalid='drop'",
    ):
        conversations(style="sharegpt")(ROWS)


def test_or_dropped_and_counted():
    out, counts = md.counted(conversations(style="sharegpt", invalid="drop"), ROWS)
    assert out["_origin"] == ["a", "e"]
    assert len(out["messages"]) == len(out["system"]) == len(out["tools"]) == 2
    assert counts == {
        "conversations.rows": 5,
        "conversations.dropped": 3,
        "conversations.dropped.empty_conversation": 1,
        "conversations.dropped.missing_answer": 1,
        "conversations.dropped.roles_out_of_turn": 1,
    }


def test_and_listed():
    assert invalid_rows(ROWS, style="sharegpt") == [
        ("row 1 (b)", "empty_conversation: 'conversations' has no messages"),
        (
            "row 2 (c)",
            "missing_answer: the last message is of role 'user', but must be the assistant's",
        ),
        (
            "row 3 (d)",
            "roles_out_of_turn: message 0 is of role 'assistant', but must be of 'user' or "
            "'observation'; roles take turns, user first",
        ),
    ]
    assert invalid_rows(md.take(1)(ROWS), style="sharegpt") == []
    with pytest.raises(ValueError, match=r"invalid_rows: row 0 \(x\) has no 'messages'"):
        invalid_rows(ROWS | {"_origin": ["x"] * 5}, style="openai")


def test_all_rows_dropped():
    rows = {"conversations": [[]], "_origin": ["x"]}
    out = conversations(style="sharegpt", invalid="drop")(rows)
    assert out == {"messages": [], "system": [], "tools": [], "_origin": []}


def test_two_forms_of_rows_at_once_are_refused():
    rows = {"conversations": [DIALOGUE], "instruction": ["Q"], "output": ["A"]}
    with pytest.raises(
        ValueError, match="there are both 'conversations' and 'instruction'; rename"
    ):
        conversations(style="belle")(rows)


def test_columns_that_a_pair_needs():
    with pytest.raises(ValueError, match="row 0 has no 'rejected'"):
        conversations(style="pairwise")({"conversations": [DIALOGUE[:1]], "chosen": [DIALOGUE[1]]})
    with pytest.raises(ValueError, match="row 0 has no 'instruction'"):
        conversations(style="pairwise")({"chosen": ["A"], "rejected": ["B"]})


def test_settings_are_named_by_the_function():
    with pytest.raises(ValueError, match="conversations: style must be one of 'alpaca'"):
        conversations(style="vicuna")
    with pytest.raises(ValueError, match="conversations: rows of style 'text' have no prompt_only"):
        conversations(style="text", prompt_only=True)
    with pytest.raises(ValueError, match="invalid_rows: unknown field 'imput'"):
        invalid_rows({}, style="alpaca", fields={"imput": "x"})
