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
from mfunc.data.dialogue.messages import Message, check_turns
from mfunc.data.dialogue.tools import write_calls, write_tools

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


@attrs.frozen(kw_only=True, cache_hash=True)
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
    if train_on not in TRAIN_ON or thinking not in THINKING:  # asked for every row: no call
        choice("render", "train_on", train_on, TRAIN_ON)
        choice("render", "thinking", thinking, THINKING)
    messages = tuple(messages)
    check_turns(messages)
    system = _system(template, system, tools)
    answers = range(1, len(messages), 2)
    trained = range(len(messages)) if train_on == "all" else answers
    trained = answers[-1:] if train_on == "last" else trained
    pieces: list[Piece] = []
    for i in range(0, len(messages), 2):
        here = len(pieces)
        pieces += _question(template, messages[i], system, i // 2, i in trained)
        if template.efficient_eos and here < len(pieces) and i - 1 in trained and i not in trained:
            pieces[here] = pieces[here]._replace(label=template.eos)
        if i + 1 < len(messages):
            missing, answer = _answer(template, messages[i + 1], thinking, i + 1 in trained)
        else:
            missing, answer = bool(template.thought) and thinking == "strip", []
        if missing:
            pieces += _write(_no_thought(template, (i + (thinking == "train")) in trained), {})
        pieces += answer
    if template.efficient_eos and messages and messages[-1].role == "assistant":
        pieces.append(Piece(template.eos, trained=True, special=True))
    return tuple(pieces)


def _question(
    template: Template, message: Message, system: str, number: int, trained: bool
) -> list[Piece]:
    """Pieces up to where the assistant begins."""
    plan = _question_plan(template, message.role, not number, bool(system), trained)
    places = {"{content}": message.content, "{system}": system, "{idx}": str(number)}
    return _write(plan, places, trained)


def _answer(
    template: Template, message: Message, thinking: str, trained: bool
) -> tuple[bool, list[Piece]]:
    """Whether a thought is missing, and the pieces of an answer."""
    _, content, calls, thought = message
    if calls:
        if not template.call:
            raise ValueError("the template writes no calls of tools, but an answer has some")
        content += "\n" * bool(content) + write_calls(template.call, calls)
    missing = False
    if template.thought:
        thought, content = _thought(template, content, thought, thinking)
        missing = not thought and not any(
            word.strip() in content for word in template.thought.split(CONTENT)
        )
    elif thought and thinking != "strip":
        raise ValueError(
            "an answer has a thought (reasoning_content), which the template cannot write; "
            "leave thoughts out with thinking='strip'"
        )
    plan = _answer_plan(template, bool(calls), bool(template.thought and thought), trained)
    return missing, _write(plan, {"{content}": content, "{thought}": thought}, trained)


def _thought(template: Template, content: str, thought: str, thinking: str) -> tuple[str, str]:
    """The thought before an answer, given apart or spelled in it, and the rest."""
    opened, closed = template.thought.split(CONTENT)
    if thinking == "strip":
        content = re.sub(f"{re.escape(opened)}.*?{re.escape(closed)}", "", content, flags=re.S)
        return "", content.lstrip("\n")
    if not thought and content.startswith(opened) and closed in content:
        thought, _, content = content.removeprefix(opened).partition(closed)
    return thought, content


def _system(template: Template, system: str, tools: Sequence[Mapping[str, Any]]) -> str:
    """The system text, and the tools behind it."""
    system = system or template.default_system
    written = write_tools(template.tools, tools) if tools else ""
    return system + written if system else written.lstrip("\n")


# How a format is filled: pieces that are always the same, and texts with places to fill.
Plan = tuple["Piece | list[str]", ...]


def _write(plan: Plan, places: Mapping[str, str], trained: bool = False) -> list[Piece]:
    """The pieces of a plan; contents go in last and at once, so nothing in them is parsed."""
    pieces = []
    for part in plan:
        if not isinstance(part, list):
            pieces.append(part)
        elif len(part) == 3:  # one place, as almost always
            before, place, after = part
            if text := before + places.get(place, place) + after:
                pieces.append(Piece(text, trained))
        elif text := "".join([places.get(each, each) for each in part]):
            pieces.append(Piece(text, trained))
    return pieces


@functools.lru_cache(maxsize=1024)
def _question_plan(template: Template, role: str, first: bool, system: bool, trained: bool) -> Plan:
    form = template.user
    if role == "observation" and template.observation:
        form = template.observation
    if not first:
        forms = [template.separator, form.replace("{system}", "")]
    else:
        opening = template.system.replace(CONTENT, "{system}") if system else ""
        before = opening if "{system}" not in form else ""
        forms = [template.prefix, before, form.replace("{system}", opening)]
    return tuple(part for each in forms for part in _parse(template, each, trained))


@functools.lru_cache(maxsize=1024)
def _answer_plan(template: Template, calls: bool, thought: bool, trained: bool) -> Plan:
    form = template.assistant
    if calls and template.function:
        form = template.function
    if thought:
        form = form.replace(CONTENT, template.thought.replace(CONTENT, "{thought}") + CONTENT)
    return _parse(template, form, trained)


@functools.lru_cache(maxsize=1024)
def _no_thought(template: Template, trained: bool) -> Plan:
    return _parse(template, template.no_thought or template.thought.replace(CONTENT, ""), trained)


def _parse(template: Template, form: str, trained: bool) -> Plan:
    """Cut a format into special tokens and texts, these into what is written and places."""
    names = {"{bos}": "bos", "{eos}": template.eos, **{name: name for name in template.special}}
    longest_first = sorted(names, key=len, reverse=True)
    parts = re.split("(" + "|".join(map(re.escape, longest_first)) + ")", form)
    return tuple(
        Piece(names[part], trained, True)
        if part in names
        else PLACES.split(part)
        if PLACES.search(part)
        else Piece(part, trained)
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
