"""How rows of the known data sets become turns of a user and an assistant, and their classes."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from mfunc.data.columns import ORIGIN, Columns, row_name, text_at, value_at
from mfunc.data.dialogue.conversion import alpaca_prompt

Settings = Mapping[str, Any]
Turn = tuple[str, str]  # "user" or "assistant", text
Turns = Callable[[Columns, int, Settings], list[Turn]]


def names(role: str | tuple[str, ...]) -> tuple[str, ...]:
    """What a role may be called: one name or several."""
    return (role,) if isinstance(role, str) else role


def conversation(columns: Columns, row: int, settings: Settings) -> list[Turn]:
    """Turns of a conversation, `[{"from": ..., "value": ...}, ...]`; the last is an answer."""
    sender, value = settings["from_keyword"], settings["value_keyword"]
    roles = dict.fromkeys(names(settings["user_role_name"]), "user")
    roles |= dict.fromkeys(names(settings["assistant_role_name"]), "assistant")
    messages = value_at("sft", columns, settings["data_field"], row)
    if not isinstance(messages, (list, tuple)) or not messages:
        raise ValueError(
            f"sft: {row_name(columns, row)}: {settings['data_field']!r} is {messages!r}, but must "
            f"be a list of messages with {sender!r} and {value!r}"
        )
    turns = []
    for i, message in enumerate(messages):
        where = f"sft: {row_name(columns, row)} message {i}"
        if not isinstance(message, Mapping) or not {sender, value} <= message.keys():
            raise ValueError(f"{where} is {message!r}, but must have {sender!r} and {value!r}")
        if not isinstance(message[sender], str) or message[sender] not in roles:
            raise ValueError(
                f"{where} is from {message[sender]!r}, but must be from one of "
                f"{', '.join(map(repr, roles))}; see user_role_name and assistant_role_name"
            )
        if not isinstance(message[value], str):
            raise ValueError(f"{where}: {value!r} is {message[value]!r}, but must be text")
        turns.append((roles[message[sender]], message[value]))
    if turns[-1][0] != "assistant":
        raise ValueError(
            f"sft: {row_name(columns, row)} ends with a question, which leaves nothing to learn "
            "but to end there; remove its last message or the row"
        )
    return turns


def alternating(columns: Columns, row: int, settings: Settings) -> list[Turn]:
    """Turns of a conversation that a user begins and where questions and answers alternate."""
    turns = conversation(columns, row, settings)
    for i, (role, _) in enumerate(turns):
        if role != ("user", "assistant")[i % 2]:
            raise ValueError(
                f"sft: {row_name(columns, row)} message {i} is from the {role}; "
                "turns must alternate, the user's first"
            )
    return turns


def instruct(columns: Columns, row: int, settings: Settings) -> list[Turn]:
    """Instruction and input without anything between them, and the output."""
    instruction = text_at("sft", columns, settings["instruction_keyword"], row)
    given = text_at("sft", columns, settings["from_keyword"], row, optional=True)
    answer = text_at("sft", columns, settings["value_keyword"], row)
    return [("user", instruction + given), ("assistant", answer)]


def alpaca(columns: Columns, row: int, settings: Settings) -> list[Turn]:
    """Stanford Alpaca's prompt, its header ended by a newline, and the output."""
    instruction = text_at("sft", columns, "instruction", row)
    given = text_at("sft", columns, "input", row, optional=True)
    prompt = alpaca_prompt(instruction, given, "### Response:\n")
    return [("user", prompt), ("assistant", text_at("sft", columns, "output", row))]


def advertisegen(columns: Columns, row: int, settings: Settings) -> list[Turn]:
    """What is to be advertised, and the advertisement."""
    content, summary = (text_at("sft", columns, name, row) for name in ("content", "summary"))
    return [("user", content), ("assistant", summary)]


def default(columns: Columns, row: int, settings: Settings) -> list[Turn]:
    """One column is a text to learn, two are a question and its answer."""
    have = [name for name in columns if name != ORIGIN]
    if len(have) not in (1, 2):
        raise ValueError(
            f"sft: 'default' takes one column (text) or two (prompt, answer), got "
            f"{', '.join(have) or 'none'}; choose by read(..., fields={{...}})"
        )
    texts = [text_at("sft", columns, name, row) for name in have]
    return [(("user", "assistant")[i - len(texts)], text) for i, text in enumerate(texts)]


def only(name: str) -> Turns:
    """One text, which is classified and not learned."""
    return lambda columns, row, settings: [("user", text_at("sft", columns, name, row))]


def cola(columns: Columns, row: int, settings: Settings) -> list[Turn]:
    """The sentence of a row of the file, which has no header: source, label, mark, sentence."""
    return [("user", text_at("sft", columns, _cola_columns(columns)[3], row))]


def cola_class(columns: Columns, row: int) -> int:
    """Whether the sentence is acceptable: 0 or 1."""
    return class_number(columns, row, _cola_columns(columns)[1])


def _cola_columns(columns: Columns) -> list[str]:
    have = [name for name in columns if name != ORIGIN]
    if len(have) != 4:
        raise ValueError(
            "sft: 'cola' takes the file's four columns (source, label, mark, sentence), "
            f"got {', '.join(have) or 'none'}"
        )
    return have


def class_number(columns: Columns, row: int, name: str, first: int = 0) -> int:
    """A class number, written as an integer or as its digits, counted from `first`."""
    value = value_at("sft", columns, name, row)
    digits = isinstance(value, str) and re.fullmatch(r"\s*\d{1,9}\s*", value, re.ASCII)
    whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    if not (digits or whole) or not first <= int(value) < 2**31:
        raise ValueError(
            f"sft: {row_name(columns, row)}: {name!r} is {value!r}, "
            f"but must be a class number, an integer >= {first}"
        )
    return int(value) - first


def sentiment(columns: Columns, row: int) -> int:
    """1 if positive, 0 if negative."""
    value = value_at("sft", columns, "sentiment", row)
    if value not in ("negative", "positive"):
        raise ValueError(
            f"sft: {row_name(columns, row)}: 'sentiment' is {value!r}, "
            "but must be 'negative' or 'positive'"
        )
    return int(value == "positive")
