"""Prompt templates as data, and the one function that reads them.

A template says how a conversation becomes text. It is plain data; five lines make one:

    Template(
        user="<|user|>{content}<|end|><|assistant|>",
        assistant="{content}<|end|>",
        special=("<|user|>", "<|assistant|>", "<|end|>"),
    )

`{content}` stands for the message, `{bos}` and `{eos}` for the tokenizer's own tokens, and the
names in `special` for single vocabulary entries. They mean this in the template only: the same
characters in a message are text, so no user can write a token that ends a turn.

`render` gives pieces: text to be encoded on its own, or one special token, each trained or not.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from types import MappingProxyType
from typing import NamedTuple

import attrs

CONTENT = "{content}"
ROLES = ("user", "assistant")


class Message(NamedTuple):
    """One turn: who, and what."""

    role: str
    content: str


class Piece(NamedTuple):
    """A stretch of a sample: text, or the name of one special token; trained or not."""

    text: str
    trained: bool = False
    special: bool = False


@attrs.frozen(kw_only=True)
class Template:
    """How messages become text. Every format but `prefix` and `separator` holds `{content}` once.

    Args:
      user: format of a user turn, up to where the assistant begins.
      assistant: format of an answer, with what ends it.
      system: format of the system text.
      prefix: what a conversation begins with.
      separator: what stands before every user turn but the first.
      default_system: the system text of a conversation that has none.
      system_in_user: put the formatted system text inside the first user turn (Llama 2).
      special: substrings of the formats that are single entries of the vocabulary.
    """

    user: str
    assistant: str
    system: str = CONTENT
    prefix: str = ""
    separator: str = ""
    default_system: str = ""
    system_in_user: bool = False
    special: tuple[str, ...] = ()

    def __attrs_post_init__(self) -> None:
        for name in ("user", "assistant", "system"):
            count = getattr(self, name).count(CONTENT)
            if count != 1:
                raise ValueError(
                    f"Template: {name} holds {CONTENT!r} {count} times, but must once: "
                    f"{getattr(self, name)!r}"
                )


_CHATML = Template(
    system="<|im_start|>system\n{content}<|im_end|>\n",
    user="<|im_start|>user\n{content}<|im_end|>\n<|im_start|>assistant\n",
    assistant="{content}<|im_end|>",
    separator="\n",
    special=("<|im_start|>", "<|im_end|>"),
)

TEMPLATES = MappingProxyType(
    {
        "alpaca": Template(
            user="### Instruction:\n{content}\n\n### Response:\n",
            assistant="{content}{eos}",
            separator="\n\n",
            default_system=(
                "Below is an instruction that describes a task. "
                "Write a response that appropriately completes the request.\n\n"
            ),
        ),
        "chatml": _CHATML,
        "llama2": Template(
            user="{bos}[INST] {content} [/INST]",
            assistant="{content}{eos}",
            system="<<SYS>>\n{content}\n<</SYS>>\n\n",
            system_in_user=True,
        ),
        "llama3": Template(
            prefix="{bos}",
            system="<|start_header_id|>system<|end_header_id|>\n\n{content}<|eot_id|>",
            user=(
                "<|start_header_id|>user<|end_header_id|>\n\n{content}<|eot_id|>"
                "<|start_header_id|>assistant<|end_header_id|>\n\n"
            ),
            assistant="{content}<|eot_id|>",
            special=("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
        ),
        "qwen": attrs.evolve(_CHATML, default_system="You are a helpful assistant."),
    }
)


def render(
    template: Template,
    messages: Sequence[Message],
    *,
    system: str = "",
    train_on: str = "assistant",
) -> tuple[Piece, ...]:
    r"""Turn a conversation into pieces.

        user "Hi", assistant "Hello"     with the template "alpaca" gives
        untrained  'Below is ... request.\n\n'  '### Instruction:\nHi\n\n### Response:\n'
        trained    'Hello'  eos

    Args:
      template: the formats.
      messages: (role, content), user and assistant in turn, user first. If the last is the user's,
        the pieces are a prompt: they end where the assistant begins.
      system: system text; if empty, the template's default.
      train_on: `"assistant"` trains on every answer and what ends it, `"all"` on everything.

    Returns:
      The pieces, in order. Each is encoded on its own, so no token crosses from a prompt to its
      answer, and the pieces of a prompt are the first pieces of the whole.

    Raises:
      ValueError: if the roles are not in turn.

    Example:
      >>> short = Template(user="Q {content} A", assistant="{content}{eos}")
      >>> for piece in render(short, [Message("user", "1+1?"), Message("assistant", "2")]):
      ...     print(piece)
      Piece(text='Q 1+1? A', trained=False, special=False)
      Piece(text='2', trained=True, special=False)
      Piece(text='eos', trained=True, special=True)

    Source:
      MindSpeed-LLM v2.1.0 `Template.encode_multiturn`; its table `templates.json`.
    """
    pieces: list[Piece] = []
    system = system or template.default_system
    for i, (role, content) in enumerate(messages):
        if role != ROLES[i % 2]:
            raise ValueError(
                f"render: message {i} is of role {role!r}, but must be of {ROLES[i % 2]!r}; "
                "roles take turns, user first"
            )
        formats = [(template.assistant, content)]
        if role == "user":
            formats = [(template.separator, ""), (template.user, content)]
            if not i:
                formats = _opening(template, system, content)
        trained = train_on == "all" or role == "assistant"
        for each, value in formats:
            pieces.extend(_fill(each, value, template.special, trained))
    return tuple(pieces)


def _opening(template: Template, system: str, content: str) -> list[tuple[str, str]]:
    """The formats of the first user turn with their contents."""
    if not system:
        return [(template.prefix, ""), (template.user, content)]
    if template.system_in_user:
        inside = template.system.replace(CONTENT, system) + content
        return [(template.prefix, ""), (template.user, inside)]
    return [(template.prefix, ""), (template.system, system), (template.user, content)]


def _fill(form: str, content: str, special: tuple[str, ...], trained: bool) -> list[Piece]:
    """The pieces of one format; the content goes in last, so that nothing in it is parsed."""
    return [
        Piece(text if is_special else text.replace(CONTENT, content), trained, is_special)
        for text, is_special in _parse(form, special)
        if text != CONTENT or content
    ]


@functools.lru_cache(maxsize=256)
def _parse(form: str, special: tuple[str, ...]) -> tuple[tuple[str, bool], ...]:
    """Cut a format into text and special tokens: ((text, is special), ...)."""
    names = {"{bos}": "bos", "{eos}": "eos", **{name: name for name in special}}
    longest_first = sorted(names, key=len, reverse=True)
    parts = re.split("(" + "|".join(map(re.escape, longest_first)) + ")", form)
    return tuple((names.get(part, part), part in names) for part in parts if part)
