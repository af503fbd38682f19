from __future__ import annotations

import pytest

from mfunc.data.dialogue import turns

CHAT = {
    "data_field": "conversations",
    "from_keyword": "from",
    "value_keyword": "value",
    "user_role_name": "human",
    "assistant_role_name": ("gpt", "assistant"),
}
SAID = [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]


def test_a_conversation_may_have_two_questions_in_a_row_unless_it_must_alternate():
    rows = {"conversations": [SAID[:1] + SAID]}
    told = [("user", "a"), ("user", "a"), ("assistant", "b")]
    assert turns.conversation(rows, 0, CHAT) == told
    with pytest.raises(ValueError, match="row 0 message 1 is from the user; turns must alternate"):
        turns.alternating(rows, 0, CHAT)
    assert (
        turns.alternating({"conversations": [SAID * 2]}, 0, CHAT)
        == [
            ("user", "a"),
            ("assistant", "b"),
        ]
        * 2
    )


def test_an_input_may_be_absent():
    keys = {"instruction_keyword": "i", "from_keyword": "x", "value_keyword": "o"}
    expected = [("user", "ask"), ("assistant", "answer")]
    rows = {"i": ["ask"], "o": ["answer"]}
    assert turns.instruct(rows, 0, keys) == expected
    assert turns.instruct({**rows, "x": [None]}, 0, keys) == expected
    assert turns.instruct({**rows, "x": [" it"]}, 0, keys)[0] == ("user", "ask it")


@pytest.mark.parametrize(("value", "first", "number"), [(3, 0, 3), (" 7 ", 0, 7), ("100", 100, 0)])
def test_class_numbers(value, first, number):
    assert turns.class_number({"label": [value]}, 0, "label", first) == number


@pytest.mark.parametrize("value", [-1, 1.0, "1.0", "-1", "", "٣", None, True, 2**31, "9" * 10])
def test_no_class_number(value):
    with pytest.raises(ValueError, match=r"row 0: 'label' is .* must be a class number"):
        turns.class_number({"label": [value]}, 0, "label")


def test_roles_are_one_name_or_several():
    assert (turns.names("gpt"), turns.names(("gpt", "bot"))) == (("gpt",), ("gpt", "bot"))
