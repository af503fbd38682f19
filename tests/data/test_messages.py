from __future__ import annotations

import pytest

from mfunc.data import Message
from mfunc.data.messages import REASONS, Invalid, check_turns

U, A, O = (Message(role, "x") for role in ("user", "assistant", "observation"))


@pytest.mark.parametrize("messages", [[], [U], [U, A], [O, A, U, A], [U, A, O]])
def test_turns(messages):
    check_turns(messages)


@pytest.mark.parametrize(
    ("messages", "text"),
    [
        ([A], "message 0 is of role 'assistant', but must be of 'user' or 'observation'"),
        ([U, U], "message 1 is of role 'user', but must be of 'assistant'; roles take turns"),
        ([U, A, Message("system", "x")], "message 2 is of role 'system'"),
    ],
)
def test_out_of_turn(messages, text):
    with pytest.raises(Invalid, match=text) as caught:
        check_turns(messages)
    assert caught.value.reason == "roles_out_of_turn"
    assert caught.value.reason in REASONS
