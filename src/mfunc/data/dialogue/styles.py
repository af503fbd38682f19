"""What rows look like, and how one of them becomes a conversation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from mfunc.data.check import nearest
from mfunc.data.dialogue.messages import Conversation, Message, RowError, check_turns
from mfunc.data.dialogue.tools import read_calls, read_openai_calls, read_tools

# Which texts name the parts of a message and its roles; the keys are LLaMA-Factory's.
SHAREGPT_TAGS = {
    "role_tag": "from",
    "content_tag": "value",
    "user_tag": "human",
    "assistant_tag": "gpt",
    "observation_tag": "observation",
    "function_tag": "function_call",
    "system_tag": "system",
}
OPENAI_TAGS = {
    "role_tag": "role",
    "content_tag": "content",
    "user_tag": "user",
    "assistant_tag": "assistant",
    "observation_tag": "tool",
    "function_tag": "function_call",
    "system_tag": "system",
}
MEANINGS = ("user", "assistant", "observation", "function", "system")
# The names of MindSpeed's `--map-keys` for the columns of Alpaca rows.
ALIASES = {"prompt": "instruction", "query": "input", "response": "output"}


class Tags(NamedTuple):
    """How a message is read: its keys, and what each role's text means."""

    role: str
    content: str
    roles: Mapping[str, str]


class Row(NamedTuple):
    """A row: its values by field, and the columns that these come from."""

    values: Mapping[str, Any]
    names: Mapping[str, str]


class Style(NamedTuple):
    """Fields of the rows with their usual columns; which are needed; how a row is read."""

    fields: Mapping[str, str]
    prompt: tuple[str, ...]  # fields that even a prompt needs
    answer: tuple[str, ...]  # fields that a whole conversation needs besides
    read: Callable[[Row, Tags, bool], tuple[Conversation, ...]]
    tags: Mapping[str, str]


def tags_of(where: str, given: Mapping[str, str] | None, usual: Mapping[str, str]) -> Tags:
    """The tags of a style with those that were given.

    Raises:
      ValueError: for an unknown tag, one that is not text, or two roles of one text.
    """
    for name, text in (given or {}).items():
        if name not in usual:
            known = f"tags are {', '.join(usual)}" if usual else "this style has none"
            raise ValueError(f"{where}: unknown tag {name!r}{nearest(name, usual)}; {known}")
        if not isinstance(text, str):
            raise TypeError(f"{where}: tag {name!r} must be text, got {text!r}")
    tags = {**usual, **(given or {})}
    if not tags:
        return Tags("", "", {})
    roles: dict[str, str] = {}
    for meaning in MEANINGS:
        text = tags[f"{meaning}_tag"]
        if text in roles:
            raise ValueError(f"{where}: {text!r} cannot be both {roles[text]} and {meaning}")
        roles[text] = meaning
    if "assistant_tag" not in (given or {}):
        for text in ("gpt", "assistant"):
            roles.setdefault(text, "assistant")
    return Tags(tags["role_tag"], tags["content_tag"], roles)


def _text(row: Row, field: str, required: bool = False, reason: str = "not_text") -> str:
    value = row.values.get(field)
    if value is None and not required:
        return ""
    if not isinstance(value, str):
        missing = "is missing" if value is None else f"is {value!r} ({type(value).__name__})"
        reason = reason if value is None else "not_text"
        raise RowError(reason, f"{row.names[field]!r} {missing}, but must be text")
    return value


def _question(row: Row, joint: str) -> list[Message]:
    """Earlier turns, and the question."""
    parts = (_text(row, "instruction", True), _text(row, "input"))
    return [*_history(row), Message("user", joint.join(part for part in parts if part))]


def _history(row: Row) -> list[Message]:
    turns = row.values.get("history")
    messages = []
    listed: Any = turns if isinstance(turns, (list, tuple)) else [turns] * (turns is not None)
    for turn in listed:
        pair = list(turn) if isinstance(turn, (list, tuple)) else [turn]
        if len(pair) != 2 or not all(isinstance(text, str) for text in pair):
            raise RowError(
                "not_text",
                f"{row.names['history']!r} holds {turn!r}, "
                "but must be a list of [question, answer]",
            )
        messages += [Message("user", pair[0]), Message("assistant", pair[1])]
    return messages


def _alpaca(row: Row, tags: Tags, prompt_only: bool, joint: str = "\n") -> tuple[Conversation]:
    messages = _question(row, joint)
    if not prompt_only:
        messages.append(Message("assistant", _text(row, "output", True, "missing_answer")))
    return (Conversation(tuple(messages), _text(row, "system")),)


def _sharegpt(row: Row, tags: Tags, prompt_only: bool) -> tuple[Conversation]:
    system, messages = _messages(row, tags)
    check_turns(messages)
    return (_ended(row, messages, system, prompt_only),)


def _openai(row: Row, tags: Tags, prompt_only: bool) -> tuple[Conversation]:
    """Tools may answer several to a turn, so whose turn it is is left to who renders it."""
    system, messages = _messages(row, tags)
    return (_ended(row, messages, system, prompt_only),)


def _belle(row: Row, tags: Tags, prompt_only: bool) -> tuple[Conversation]:
    if "messages" in row.values:
        return _sharegpt(row, tags, prompt_only)
    return _alpaca(row, tags, prompt_only, joint="")


def _pairwise(row: Row, tags: Tags, prompt_only: bool) -> tuple[Conversation, Conversation]:
    """The chosen conversation and the rejected one: they differ in the last answer."""
    if "messages" in row.values:
        system, prompt = _messages(row, tags)
        answers = [_answer(row, field, tags) for field in ("chosen", "rejected")]
    else:
        system, prompt = _text(row, "system"), _question(row, "\n")
        answers = [
            Message("assistant", _text(row, field, True, "missing_answer"))
            for field in ("chosen", "rejected")
        ]
    for answer in answers:
        check_turns([*prompt, answer])
    tools = read_tools(row.values.get("tools"))
    chosen, rejected = (Conversation((*prompt, answer), system, tools) for answer in answers)
    return chosen, rejected


def _answer(row: Row, field: str, tags: Tags) -> Message:
    value = row.values.get(field)
    if value is None:
        raise RowError("missing_answer", f"{row.names[field]!r} is missing")
    return _message(value, tags, row.names[field])


def _ended(row: Row, messages: list[Message], system: str, prompt_only: bool) -> Conversation:
    """A conversation that ends with an answer, or without it."""
    answered = messages[-1].role == "assistant"
    if not answered and not prompt_only:
        raise RowError(
            "missing_answer",
            f"the last message is of role {messages[-1].role!r}, but must be the assistant's",
        )
    kept = messages[:-1] if answered and prompt_only else messages
    return Conversation(tuple(kept), system, read_tools(row.values.get("tools")))


def _messages(row: Row, tags: Tags) -> tuple[str, list[Message]]:
    """System text and messages; a leading system message goes before the system field."""
    field = row.names["messages"]
    listed = row.values.get("messages")
    if not isinstance(listed, (list, tuple)) and listed is not None:
        seen = f"{field!r} is {listed!r:.80} ({type(listed).__name__})"
        raise RowError("not_text", f"{seen}, but must be a list of messages")
    messages = [_message(each, tags, f"message {i}") for i, each in enumerate(listed or ())]
    system = _text(row, "system")
    if messages and messages[0].role == "system":
        system = messages.pop(0).content
    if not messages:
        raise RowError("empty_conversation", f"{field!r} has no messages")
    return system, messages


def _message(each: Any, tags: Tags, what: str) -> Message:
    """A message of a row as one of ours."""
    if not isinstance(each, Mapping):
        raise RowError("not_text", f"{what} is {each!r:.80}, but must have {tags.role!r}")
    named = each.get(tags.role)
    role = tags.roles.get(named) if isinstance(named, str) else None
    if role is None:
        seen = f"{what} has {tags.role!r} {named!r:.80}"
        raise RowError("unknown_role", f"{seen}; known are {', '.join(map(repr, tags.roles))}")
    content = each.get(tags.content)
    calls = read_openai_calls(each.get("tool_calls")) if role == "assistant" else ()
    if content is None and calls:
        content = ""
    if isinstance(content, (list, tuple)):
        content = _joined(content)
    if not isinstance(content, str):
        raise RowError("not_text", f"{what}: {tags.content!r} is {content!r:.80}, not text")
    if role == "function":
        return Message("assistant", "", read_calls(content))
    thought = each.get("reasoning_content")
    if not isinstance(thought, (str, type(None))):
        raise RowError("not_text", f"{what}: 'reasoning_content' is {thought!r:.80}, not text")
    return Message(role, content, calls, thought or "")


def _joined(parts: Any) -> Any:
    """OpenAI's content in parts, if all of them are text."""
    texts = [part["text"] for part in parts if isinstance(part, Mapping) and "text" in part]
    whole = len(texts) == len(parts) and all(isinstance(text, str) for text in texts)
    return "".join(texts) if whole else parts


def _document(row: Row, tags: Tags, prompt_only: bool) -> tuple[Conversation]:
    """Text to be learned as it is: no conversation, but carried as one."""
    text = _text(row, "text", True)
    if not text:
        raise RowError("empty_text", f"{row.names['text']!r} is empty")
    return (Conversation((Message("document", text),)),)


_ALPACA = {name: name for name in ("instruction", "input", "output", "system", "history")}
_SHAREGPT = {"messages": "conversations", "system": "system", "tools": "tools"}
_PAIR = {"chosen": "chosen", "rejected": "rejected"}

STYLES: Mapping[str, Style] = {
    "alpaca": Style(_ALPACA, ("instruction",), ("output",), _alpaca, {}),
    "sharegpt": Style(_SHAREGPT, ("messages",), (), _sharegpt, SHAREGPT_TAGS),
    "openai": Style({**_SHAREGPT, "messages": "messages"}, ("messages",), (), _openai, OPENAI_TAGS),
    "pairwise": Style(
        {**{n: c for n, c in _ALPACA.items() if n != "output"}, **_SHAREGPT, **_PAIR},
        ("instruction",),
        ("chosen", "rejected"),
        _pairwise,
        SHAREGPT_TAGS,
    ),
    "belle": Style({**_ALPACA, **_SHAREGPT}, ("instruction",), ("output",), _belle, SHAREGPT_TAGS),
    "text": Style({"text": "text"}, ("text",), (), _document, {}),
}
