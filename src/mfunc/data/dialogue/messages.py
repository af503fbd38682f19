"""Conversations as plain data, and why a row is not one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

ROLES = ("user", "assistant", "observation")


class Call(NamedTuple):
    """A tool that an answer calls: its name, and its arguments as JSON text."""

    name: str
    arguments: str


class Message(NamedTuple):
    """One turn: who, and what.

    Args:
      role: `"user"`, `"assistant"`, or `"observation"` (what a called tool gave back).
      content: its text.
      calls: the tools that an answer calls, after its text.
      thought: what an answer's author thought before it (`reasoning_content`).
    """

    role: str
    content: str
    calls: tuple[Call, ...] = ()
    thought: str = ""


class Conversation(NamedTuple):
    """Messages in turn, the system text, and the tools that may be called."""

    messages: tuple[Message, ...]
    system: str = ""
    tools: tuple[Mapping[str, Any], ...] = ()


class RowError(ValueError):
    """A row that is no conversation: the reason, one of `REASONS`, and what was seen."""

    def __init__(self, reason: str, seen: str) -> None:
        """Both are kept, so that rows can be counted by reason."""
        super().__init__(seen)
        self.reason = reason


REASONS = (
    "not_text",  # a field or a message is missing, or is not text
    "empty_text",
    "empty_conversation",
    "missing_answer",
    "unknown_role",
    "roles_out_of_turn",
    "bad_function_call",
    "unknown_tools",
    "refused_by_template",  # the last three are told by chat templates only
    "changed_by_template",
    "no_prefix",
)


def check_turns(messages: tuple[Message, ...] | list[Message]) -> None:
    """User or observation, then assistant, in turn.

    Raises:
      RowError: naming the first message whose role is another.
    """
    for i, message in enumerate(messages):
        answers = message.role == "assistant"
        if message.role not in ROLES or answers != bool(i % 2):
            turn = "'assistant'" if i % 2 else "'user' or 'observation'"
            raise RowError(
                "roles_out_of_turn",
                f"message {i} is of role {message.role!r}, but must be of {turn}; "
                "roles take turns, user first",
            )
