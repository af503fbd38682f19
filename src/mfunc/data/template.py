"""Prompt templates as data, and the one function that reads them.

A template says how a conversation becomes text. It is plain data; five lines make one:

    Template(
        user="<|user|>{content}<|end|><|assistant|>",
        assistant="{content}<|end|>",
        special=("<|user|>", "<|assistant|>", "<|end|>"),
    )

`{content}` stands for the message, `{bos}` and `{eos}` for special tokens, and the names in
`special` for single vocabulary entries. They mean this in the template only: the same characters
in a message are text, so no user can write a token that ends a turn.

`render` gives pieces: text to be encoded on its own, or one special token, each trained or not.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import attrs

from mfunc.data.check import choice
from mfunc.data.messages import Message, check_turns
from mfunc.data.tools import write_calls, write_tools

CONTENT = "{content}"
PLACES = re.compile(r"(\{content\}|\{system\}|\{thought\}|\{idx\})")
TRAIN_ON = ("assistant", "last", "all")
THINKING = ("keep", "train", "strip")


class Piece(NamedTuple):
    """A stretch of a sample: text, or the name of one special token; trained or not.

    Args:
      text: the text, or the token's name (`"bos"` and `"eos"` are the tokenizer's own).
      trained: whether its tokens are labels.
      special: whether `text` is a name.
      label: the special token that its first token is labelled with, though it is another.
    """

    text: str
    trained: bool = False
    special: bool = False
    label: str = ""


@attrs.frozen(kw_only=True)
class Template:
    """How messages become text. The formats of turns hold `{content}` once.

    Args:
      user: format of a user turn, up to where the assistant begins. It may hold `{system}`, where
        the first turn has the formatted system text (Llama 2), and `{idx}`, the turn's number.
      assistant: format of an answer, with what ends it.
      system: format of the system text and the tools.
      observation: format of what a tool gave back; by default as `user`.
      function: format of an answer that calls tools; by default as `assistant`.
      call: how a call is written, with `{name}` and `{arguments}`, or `{call}` for both as JSON;
        "" refuses calls.
      tools: how tool definitions are written behind the system text: `"default"`, `"qwen"`.
        Another name refuses rows with tools.
      prefix: what a conversation begins with.
      separator: what stands before every user turn but the first.
      default_system: the system text of a conversation that has none.
      thought: format of what is thought before an answer, such as `"<think>{content}</think>"`.
      no_thought: what stands for no thought; by default `thought` of nothing.
      eos: what `{eos}` names: `"eos"`, the tokenizer's own, or a token such as `"<|im_end|>"`.
      efficient_eos: no token ends an answer, but the first token of the next turn is labelled eos
        in place of one, and the last answer gets one.
      special: substrings of the formats that are single entries of the vocabulary.

    Raises:
      ValueError: for a format that does not hold its content once.
    """

    user: str
    assistant: str
    system: str = CONTENT
    observation: str = ""
    function: str = ""
    call: str = "Action: {name}\nAction Input: {arguments}"
    tools: str = "default"
    prefix: str = ""
    separator: str = ""
    default_system: str = ""
    thought: str = ""
    no_thought: str = ""
    eos: str = "eos"
    efficient_eos: bool = False
    special: tuple[str, ...] = ()

    def __attrs_post_init__(self) -> None:
        for name in ("user", "assistant", "system", "observation", "function", "thought"):
            form = getattr(self, name)
            count = form.count(CONTENT)
            if count != 1 and (form or name in ("user", "assistant", "system")):
                raise ValueError(
                    f"Template: {name} holds {CONTENT!r} {count} times, but must once: {form!r}"
                )
        both = "{name}" in self.call and "{arguments}" in self.call
        if self.call and not both and "{call}" not in self.call:
            raise ValueError(
                "Template: call must hold '{name}' and '{arguments}', or '{call}', "
                f"got {self.call!r}"
            )


def render(
    template: Template,
    messages: Sequence[Message],
    *,
    system: str = "",
    tools: Sequence[Mapping[str, Any]] = (),
    train_on: str = "assistant",
    thinking: str = "keep",
) -> tuple[Piece, ...]:
    r"""Turn a conversation into pieces.

        user "Hi", assistant "Hello"     with the template "alpaca" gives
        untrained  'Below is ... request.\n\n'  '### Instruction:\nHi\n\n### Response:\n'
        trained    'Hello'  eos

    Args:
      template: the formats.
      messages: user (or observation) and assistant in turn, user first. If the last is not the
        assistant's, the pieces are a prompt: they end where the assistant begins.
      system: system text; if empty, the template's default.
      tools: definitions of tools, written behind the system text.
      train_on: `"assistant"` trains on every answer and what ends it, `"last"` on the last answer
        only, `"all"` on everything.
      thinking: for templates with a thought: `"keep"` what answers have, and put an empty thought
        into the prompt of those without; `"train"` the same, but the empty thought is trained;
        `"strip"` every thought, so all prompts have the empty one.

    Returns:
      The pieces, in order. Each is encoded on its own, so no token crosses from a prompt to its
      answer.

    Raises:
      ValueError: if the roles are not in turn; if the template cannot write tools, calls or
        thoughts that there are.

    Laws:
      the pieces of a prompt are the first pieces of the whole (but for the empty thought that
      `thinking="keep"` finds missing in an answer); no message changes which pieces are special.

    Example:
      >>> short = Template(user="Q {content} A", assistant="{content}{eos}")
      >>> for piece in render(short, [Message("user", "1+1?"), Message("assistant", "2")]):
      ...     print(piece.trained, piece.special, piece.text)
      False False Q 1+1? A
      True False 2
      True True eos

    Source:
      MindSpeed-LLM v2.1.0 `Template.encode_multiturn`; `ReasoningTemplate` of its later versions.
    """
    choice("render", "train_on", train_on, TRAIN_ON)
    choice("render", "thinking", thinking, THINKING)
    messages = tuple(messages)
    check_turns(messages)
    system = _system(template, system, tools)
    answers = range(1, len(messages), 2)
    trained = {"assistant": answers, "last": answers[-1:], "all": range(len(messages))}[train_on]
    pieces: list[Piece] = []
    for i in range(0, len(messages), 2):
        source, target = _turn(template, messages[i : i + 2], system, i // 2, thinking)
        if template.efficient_eos and source and i - 1 in trained and i not in trained:
            source[0] = source[0]._replace(label=template.eos)
        pieces += _train(source) if i in trained else source
        pieces += _train(target) if i + 1 in trained else target
    if template.efficient_eos and answers and len(messages) == answers[-1] + 1:
        pieces.append(Piece(template.eos, trained=True, special=True))
    return tuple(pieces)


def _turn(
    template: Template, turn: tuple[Message, ...], system: str, number: int, thinking: str
) -> tuple[list[Piece], list[Piece]]:
    """Pieces up to where the assistant begins, and pieces of the answer, if there is one."""
    question, *answer = turn
    form = template.user
    if question.role == "observation" and template.observation:
        form = template.observation
    places = {"{content}": question.content, "{system}": system, "{idx}": str(number)}
    source = []
    if number:
        source += _fill(template, template.separator, places)
        form = form.replace("{system}", "")
    else:
        source += _fill(template, template.prefix, places)
        opening = template.system.replace(CONTENT, "{system}") if system else ""
        if "{system}" not in form:
            source += _fill(template, opening, places)
        form = form.replace("{system}", opening)
    source += _fill(template, form, places)
    missing, target = bool(template.thought) and thinking == "strip", list[Piece]()
    if answer:
        missing, target = _answer(template, answer[0], thinking)
    nothing = template.no_thought or template.thought.replace(CONTENT, "")
    empty = _fill(template, nothing, {}) if missing else []
    return (source, empty + target) if thinking == "train" else (source + empty, target)


def _answer(template: Template, message: Message, thinking: str) -> tuple[bool, list[Piece]]:
    """Whether a thought is missing, and the pieces of an answer."""
    form = template.assistant
    content = message.content
    if message.calls:
        if not template.call:
            raise ValueError("the template writes no calls of tools, but an answer has some")
        form = template.function or template.assistant
        content += "\n" * bool(content) + write_calls(template.call, message.calls)
    thought = message.thought if thinking != "strip" else ""
    if not template.thought:
        if thought:
            raise ValueError(
                "an answer has a thought (reasoning_content), which the template cannot write; "
                "leave thoughts out with thinking='strip'"
            )
        return False, _fill(template, form, {"{content}": content})
    opened, closed = template.thought.split(CONTENT)
    if thinking == "strip":
        content = re.sub(f"{re.escape(opened)}.*?{re.escape(closed)}", "", content, flags=re.S)
        content = content.lstrip("\n")
    elif not thought and content.startswith(opened) and closed in content:
        thought, _, content = content.removeprefix(opened).partition(closed)
    if thought:
        form = form.replace(CONTENT, template.thought.replace(CONTENT, "{thought}") + CONTENT)
    missing = not thought and not any(word.strip() in content for word in (opened, closed))
    return missing, _fill(template, form, {"{content}": content, "{thought}": thought})


def _system(template: Template, system: str, tools: Sequence[Mapping[str, Any]]) -> str:
    """The system text, and the tools behind it."""
    system = system or template.default_system
    written = write_tools(template.tools, tools)
    return system + written if system else written.lstrip("\n")


def _train(pieces: list[Piece]) -> list[Piece]:
    return [piece._replace(trained=True) for piece in pieces]


def _fill(template: Template, form: str, places: Mapping[str, str]) -> list[Piece]:
    """The pieces of one format; contents go in last and at once, so nothing in them is parsed."""
    pieces = []
    for parts, special in _parse(form, template.special, template.eos):
        text = parts[0] if special else "".join([places.get(part, part) for part in parts])
        if text:
            pieces.append(Piece(text, False, special))
    return pieces


@functools.lru_cache(maxsize=1024)
def _parse(
    form: str, special: tuple[str, ...], eos: str
) -> tuple[tuple[tuple[str, ...], bool], ...]:
    """Cut a format into special tokens and texts, these into what is written and places."""
    names = {"{bos}": "bos", "{eos}": eos, **{name: name for name in special}}
    longest_first = sorted(names, key=len, reverse=True)
    parts = re.split("(" + "|".join(map(re.escape, longest_first)) + ")", form)
    return tuple(
        ((names[part],), True) if part in names else (tuple(PLACES.split(part)), False)
        for part in parts
        if part
    )


def parse_special_names(pieces: Sequence[Piece], names: Sequence[str]) -> tuple[Piece, ...]:
    """Cut the texts of pieces where they spell special tokens, which become pieces of their own."""
    pattern = re.compile("(" + "|".join(map(re.escape, sorted(names, key=len, reverse=True))) + ")")
    out: list[Piece] = []
    for piece in pieces:
        parts = [piece.text] if piece.special else pattern.split(piece.text)
        cut = [
            piece._replace(text=part, special=piece.special or bool(i % 2), label="")
            for i, part in enumerate(parts)
            if part
        ]
        cut[0] = cut[0]._replace(label=piece.label)
        out += cut
    return tuple(out)
