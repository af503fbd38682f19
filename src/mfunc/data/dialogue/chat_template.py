"""A tokenizer's own chat template (Jinja, as Hugging Face's `transformers` renders it), to pieces.

A rendered template is one text, in which a special token that the template wrote and the same
characters in a message look alike. So the messages are rendered with a mark inside whatever could
be read as a special token: U+FDD0, which is no character and stands in no text. Then the text is
cut at special tokens, and the marks are taken out. Without them it must be the text that the
messages as they are give, to the character; else the template changes messages, and is refused.
"""

from __future__ import annotations

import datetime
import functools
import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import attrs

from mfunc.data.check import choice, nearest
from mfunc.data.dialogue.jinja import CLOSE, OPEN, compiled, jinja_tags, render_jinja
from mfunc.data.dialogue.messages import Message, RowError
from mfunc.data.dialogue.template import THINKING, TRAIN_ON, Piece
from mfunc.data.tokens.hf_tokenizers import HFTokenizer
from mfunc.data.tokens.tokenizer_files import json_of, token_text

MARK = "\ufdd0"
ROLE_TOKENS = ("bos_token", "eos_token", "unk_token", "pad_token", "sep_token", "cls_token")
Span = tuple[int, int]


class SpecialToken(NamedTuple):
    """Text that is one token, and whether it takes the spaces before and behind it."""

    text: str
    lstrip: bool = False
    rstrip: bool = False


@attrs.frozen(repr=False)
class ChatTemplate:
    """A Jinja chat template and what it needs; made by `hf_template(folder)`."""

    path: str = attrs.field(eq=False)
    source: str
    special: tuple[SpecialToken, ...]
    variables: str  # as JSON: what the template sees besides messages and tools
    now: datetime.datetime
    eos: str

    def __repr__(self) -> str:
        return f"hf_template({self.path!r})"


def hf_template(
    folder: str | os.PathLike[str] | HFTokenizer,
    *,
    name: str = "default",
    variables: Mapping[str, Any] | None = None,
    now: datetime.datetime | None = None,
) -> ChatTemplate:
    """Read the chat template of a tokenizer's folder, for `chat(template=...)`; needs extra `hf`.

    It is `chat_template.jinja`, or `chat_template` of `tokenizer_config.json` (a text, or a list of
    named ones). Which texts are special tokens is read from the folder's JSON files.

    Args:
      folder: as Hugging Face writes it; or a tokenizer that came with its template.
      name: which template, where there are several.
      variables: more for the template to see, such as `{"date_string": "26 Jul 2024"}`.
      now: what `strftime_now` tells; by default the time of this call, for all rows.

    Returns:
      A frozen template. Trained are its `{% generation %}` blocks, or, where it has none, what an
      answer adds to the text that asks for it.

    Raises:
      ImportError: without the extra.
      FileNotFoundError: if there is no folder, or no template in it.
      ValueError: if it is no Jinja template, or there is none of that name.

    Source:
      Hugging Face transformers 4.5x, `render_jinja_template`.
    """
    if isinstance(folder, HFTokenizer):
        folder, config, tokens, listed = _of_tokenizer(folder)
    else:
        folder = Path(folder)
        if not folder.is_dir():
            raise FileNotFoundError(f"hf_template: there is no folder {folder}")
        config = json_of(folder / "tokenizer_config.json")
        tokens = {**json_of(folder / "special_tokens_map.json"), **config}
        listed = json_of(folder / "tokenizer.json").get("added_tokens", [])
    source = _source(folder, config, name)
    compiled(source)
    roles = {role: text for role in ROLE_TOKENS if (text := token_text(tokens.get(role)))}
    return ChatTemplate(
        path=str(folder),
        source=source,
        special=_special(listed, tokens, roles),
        variables=json.dumps({**roles, **(variables or {})}),
        now=now or datetime.datetime.now(),
        eos=roles.get("eos_token", "eos"),
    )


def _of_tokenizer(made: HFTokenizer) -> tuple[Path, dict[str, Any], dict[str, Any], list[Any]]:
    """Where it came from, and what a folder would say: configuration, tokens, added tokens."""
    said = {} if made.chat_template is None else {"chat_template": made.chat_template}
    tokens = {f"{role}_token": text for role, text in made.roles.items()}
    return Path(made.path), said, tokens, json.loads(made.content).get("added_tokens", [])


def render_chat_template(
    form: ChatTemplate,
    messages: Sequence[Message],
    *,
    system: str = "",
    tools: Sequence[Mapping[str, Any]] = (),
    train_on: str = "assistant",
    thinking: str = "keep",
) -> tuple[Piece, ...]:
    """Turn a conversation into pieces, as `render` does with a `Template`.

    Args:
      form: the template.
      messages: in any turn that the template takes. If the last is not the assistant's, the
        pieces are a prompt: the template adds its generation prompt.
      system: text of a system message, if any.
      tools: definitions of tools.
      train_on: see `render`.
      thinking: `"keep"`; `"train"` sets the template's `enable_thinking`; `"strip"` unsets it and
        leaves `Message.thought` out.

    Raises:
      ValueError: if the template refuses the conversation, or changes messages that spell special
        tokens; if an answer is written otherwise in the whole than at the end, so that what is
        trained on is not what is generated (`train_on="last"` then asks for the last only).
    """
    choice("render", "train_on", train_on, TRAIN_ON)
    choice("render", "thinking", thinking, THINKING)
    turns = _as_dicts(messages, system, thinking)
    text = _renderer(form, turns, tools, thinking)
    ask = not messages or messages[-1].role != "assistant"
    whole, spans = _generated(text(len(turns), ask))
    if train_on == "all":
        spans = [(0, len(whole))]
    elif "generation" not in jinja_tags(form.source):
        spans = _answers(whole, turns, text, train_on == "last")
    elif train_on == "last":
        spans = spans[-1:]
    return _cut(whole, spans, form.special)


def _renderer(
    form: ChatTemplate, turns: list[Any], tools: Sequence[Mapping[str, Any]], thinking: str
) -> Callable[[int, bool], str]:
    """(how many turns, whether an answer is asked for) -> their text, with marks."""
    listed = [{"type": "function", "function": dict(tool)} for tool in tools] or None
    guard = _guard(tuple(token.text for token in form.special))
    safe, safe_tools = _over_text(guard, turns), _over_text(guard, listed)
    chosen = {} if thinking == "keep" else {"enable_thinking": thinking == "train"}
    given = {**json.loads(form.variables), **chosen, "strftime_now": form.now.strftime}

    def write(messages: Any, tools: Any, ask: bool) -> str:
        return render_jinja(
            form.source, given, messages=messages, tools=tools, add_generation_prompt=ask
        )

    def text(count: int, ask: bool) -> str:
        marked = write(safe[:count], safe_tools, ask)
        suspect = count == len(turns) and (safe, safe_tools) != (turns, listed)
        if suspect and marked.replace(MARK, "") != write(turns, listed, ask):
            raise RowError(
                "changed_by_template",
                "a message spells a special token, and the chat template changes that message, "
                "so the two cannot be told apart",
            )
        return marked

    return text


def _answers(
    whole: str, turns: Sequence[Mapping[str, Any]], text: Callable[[int, bool], str], last: bool
) -> list[Span]:
    """Where answers stand: behind the text that asks for one, up to the text that ends with it."""
    found = [i for i, turn in enumerate(turns) if turn["role"] == "assistant"]
    spans = []
    for i in found[-1:] if last else found:
        before = text(i, True)
        after = whole if i + 1 == len(turns) else text(i + 1, False)
        if not (whole.startswith(after) and after.startswith(before)):
            raise RowError(
                "no_prefix",
                f"the chat template writes answer {found.index(i)} otherwise in the whole "
                "conversation than where it ends; train on the last with train_on='last', or "
                "mark what is trained by {% generation %} in the template",
            )
        spans.append((len(before), len(after)))
    return spans


def _cut(whole: str, spans: Sequence[Span], special: Sequence[SpecialToken]) -> tuple[Piece, ...]:
    """The text cut at special tokens, and at the edges of what is trained."""
    tokens = [
        (*match.span(), match[match.lastindex or 0]) for match in _pattern(tuple(special))(whole)
    ]
    edges = {0, len(whole), *(edge for span in spans for edge in span)}
    edges = {e for e in edges if not any(a < e < b for a, b, _ in tokens)}
    starts = {a: text for a, _, text in tokens}
    ordered = sorted(edges | {edge for a, b, _ in tokens for edge in (a, b)})
    pieces = []
    for a, b in pairwise(ordered):
        trained = any(begin <= a < end for begin, end in spans)
        text = starts.get(a, whole[a:b].replace(MARK, ""))
        if text:
            pieces.append(Piece(text, trained, a in starts))
    return tuple(pieces)


def _generated(whole: str) -> tuple[str, list[Span]]:
    """The text without the marks of `{% generation %}`, and where these blocks stand."""
    text, spans, begin = "", [], 0
    for part in re.split(f"([{OPEN}{CLOSE}])", whole):
        if part == OPEN:
            begin = len(text)
        elif part == CLOSE:
            spans.append((begin, len(text)))
        else:
            text += part
    return text, spans


def _as_dicts(messages: Sequence[Message], system: str, thinking: str) -> list[dict[str, Any]]:
    """Messages as templates expect them."""
    turns: list[dict[str, Any]] = [{"role": "system", "content": system}] if system else []
    for role, content, calls, thought in messages:
        turn: dict[str, Any] = {"role": role, "content": content}
        if role == "observation":
            turn["role"] = "tool"
        if thought and thinking != "strip":
            turn["reasoning_content"] = thought
        if calls:
            turn["tool_calls"] = [
                {"type": "function", "function": {"name": n, "arguments": json.loads(a)}}
                for n, a in calls
            ]
        turns.append(turn)
    return turns


def _over_text(change: Callable[[str], str], value: Any) -> Any:
    """A JSON value with its texts changed, but for roles."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        return {k: v if k == "role" else _over_text(change, v) for k, v in value.items()}
    return [_over_text(change, v) for v in value] if isinstance(value, (list, tuple)) else value


@functools.lru_cache(maxsize=64)
def _guard(names: tuple[str, ...]) -> Callable[[str], str]:
    """Marks a text so that no special token can be read in it, nor where it meets the template.

    The mark goes behind the first character of every special token, and to the ends where one
    could begin or be finished; within the white space at the ends, which templates strip.
    """
    spelled = re.compile(f"(?=(?:{'|'.join(map(re.escape, names)) or '(?!)'}))(.)", re.S)
    begins = tuple({name[:k] for name in names for k in range(1, len(name))})
    ends = tuple({name[k:] for name in names for k in range(1, len(name))})
    longest = max(map(len, names), default=0)

    def change(text: str) -> str:
        if MARK in text or OPEN in text or CLOSE in text:
            raise RowError("not_text", "a message holds U+FDD0..U+FDD2, which are no characters")
        core = text.strip()
        safe = spelled.sub(lambda match: match[1] + MARK, core)
        if core.endswith(begins) or (len(core) < longest and any(core in n for n in names)):
            safe += MARK
        if core.startswith(ends):
            safe = MARK + safe
        return text.replace(core, safe, 1) if core else text

    return change


@functools.lru_cache(maxsize=64)
def _pattern(special: tuple[SpecialToken, ...]) -> Callable[[str], Any]:
    longest_first = sorted(special, key=lambda token: len(token.text), reverse=True)
    space = r"\s*"
    forms = [
        f"{space * left}({re.escape(text)}){space * right}" for text, left, right in longest_first
    ]
    return re.compile("|".join(forms) or "(?!)").finditer


def _source(folder: Path, config: Mapping[str, Any], name: str) -> str:
    """The template's text."""
    alone = folder / "chat_template.jinja"
    if name != "default":
        alone = folder / "additional_chat_templates" / f"{name}.jinja"
    if alone.is_file():
        return alone.read_text(encoding="utf-8")
    found = config.get("chat_template")
    if isinstance(found, str):
        found = [{"name": "default", "template": found}]
    named = {each["name"]: each["template"] for each in found or ()}
    if not named:
        raise FileNotFoundError(
            f"hf_template: {folder} has no chat template: no chat_template.jinja, and no "
            "chat_template in tokenizer_config.json"
        )
    if name not in named:
        raise ValueError(
            f"hf_template: {folder} has no template {name!r}{nearest(name, named)}; "
            f"there are {', '.join(map(repr, named))}"
        )
    return named[name]


def _special(
    added: Sequence[Any], tokens: Mapping[str, Any], roles: Mapping[str, str]
) -> tuple[SpecialToken, ...]:
    """The texts that are special tokens, from all the files that may tell."""
    listed = [*added, *tokens.get("added_tokens_decoder", {}).values()]
    more = tokens.get("additional_special_tokens") or []
    found = {text: SpecialToken(text) for text in (*roles.values(), *map(token_text, more)) if text}
    for each in listed:
        if each.get("special"):
            stripped = bool(each.get("lstrip")), bool(each.get("rstrip"))
            found[each["content"]] = SpecialToken(each["content"], *stripped)
    for text in found:
        if len(text) < 2:
            raise ValueError(f"hf_template: the special token {text!r} is a single character")
    return tuple(found.values())
