from __future__ import annotations

import pytest

from mfunc.data import Message
from mfunc.data.dialogue.messages import REASONS, RowError, check_turns

USER, ANSWER, SEEN = (Message(role, "x") for role in ("user", "assistant", "observation"))


@pytest.mark.parametrize(
    "messages", [[], [USER], [USER, ANSWER], [SEEN, ANSWER, USER, ANSWER], [USER, ANSWER, SEEN]]
)
def test_turns(messages):
    check_turns(messages)


@pytest.mark.parametrize(
    ("messages", "text"),
    [
        ([ANSWER], "message 0 is of role 'assistant', but must be of 'user' or 'observation'"),
        ([USER, USER], "message 1 is of role 'user', but must be of 'assistant'; roles take turns"),
        ([USER, ANSWER, Message("system", "x")], "message 2 is of role 'system'"),
    ],
)
def test_out_of_turn(messages, text):
    with pytest.raises(RowError, match=text) as caught:
        check_turns(messages)
    assert caught.value.reason == "roles_out_of_turn"
    assert caught.value.reason in REASONS
