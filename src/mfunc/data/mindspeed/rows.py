"""Rows of files to samples as MindSpeed-LLM's handlers make them: ids and labels.

Rows that upstream leaves out with a warning are left out and counted; rows that it changes, or
trains on as something else, are refused by number.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mfunc.data.check import nearest
from mfunc.data.columns import IGNORED_LABEL, ORIGIN, Columns, num_rows, row_name, take_rows
from mfunc.data.compose import Counts, Transform, counted
from mfunc.data.dialogue.conversation import invalid_rows
from mfunc.data.dialogue.instruct import chat
from mfunc.data.dialogue.styles import OPENAI_TAGS, SHAREGPT_TAGS
from mfunc.data.mindspeed.settings import Settings
from mfunc.data.mindspeed.tokenizer import affixes, slots
from mfunc.data.ragged import Ragged
from mfunc.data.sources.fields import map_keys
from mfunc.data.sources.json_rows import parse
from mfunc.data.sources.read import read
from mfunc.data.tokens.hf_tokenizers import HFTokenizer
from mfunc.data.tokens.tokenize import tokenize

# Reasons for which upstream leaves a row out, too.
LEFT_OUT = ("missing_answer", "roles_out_of_turn", "unknown_role", "empty_conversation")
THINKING = {None: "keep", "none": "keep", "true": "train", "false": "strip"}
USUAL = {
    "alpaca": {"instruction": "instruction", "input": "input", "output": "output"},
    "sharegpt": {"conversations": "conversations"},
    "openai": {"messages": "messages", "tools": "tools"},
}
PAIR = {"chosen": "chosen", "rejected": "rejected"}
OPTIONAL = ("input", "tools")
# Columns that upstream reads only if they are mapped.
UNREAD = {"alpaca": ("history", "system"), "sharegpt": ("system", "tools"), "openai": ("system",)}
ROLE_TAGS = ("observation_tag", "function_tag", "system_tag")
HEAD = (
    "\nBelow is an instruction that describes a task, paired with an input that provides further "
    "context. Write a response that appropriately completes the request. Please note that you "
    "need to think through your response logically and step by step.\n### Instruction:\n"
)
ANSWER = "### Response:"
ALPACA_TEXT = (
    "A chat between a curious user and an artificial intelligence assistant. The assistant gives "
    "helpful, detailed, and polite answers to the user's questions.USER: Below is an instruction "
    "that describes a task. Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n"
)


class Source(NamedTuple):
    """A set of rows: where, what they look like, our columns by theirs, the tags of messages."""

    path: str
    style: str
    fields: dict[str, str]
    named: tuple[str, ...] = ()  # fields that must be there
    tags: dict[str, str] | None = None


def sources(settings: Settings) -> list[Source]:
    """What is to be read.

    Raises:
      ValueError: for keys of `--map-keys` or entries of `dataset_info.json` that are unknown.
    """
    style = settings.handler.style
    if style == "dataset_info":
        return [_listed(settings, name.strip()) for name in settings.input.split(",")]
    if not style:
        return [Source(settings.input, "", {})]
    keys = settings.map_keys
    keys = {} if keys is None else parse(keys) if isinstance(keys, str) else keys
    pairwise = settings.handler.makes == "pairwise"
    return [source(settings.input, style, keys, usual=USUAL[style], pairwise=pairwise)]


def source(
    path: str, style: str, keys: Any, *, usual: Mapping[str, str], pairwise: bool = False
) -> Source:
    """The columns of a set: the usual ones, with those of `--map-keys` (None takes one away)."""
    none = [key for key, name in keys.items() if name is None] if isinstance(keys, dict) else []
    kept = {key: name for key, name in keys.items() if key not in none} if none else keys
    mapped = map_keys(kept, style="alpaca" if style == "alpaca" else "sharegpt")
    taken = map_keys(
        {key: "none" for key in none}, style="alpaca" if style == "alpaca" else "sharegpt"
    )
    given = mapped.fields
    if style == "openai" and "conversations" in given:
        given = {"messages": given["conversations"], **given}
        del given["conversations"]
    usual = {**usual, **(PAIR if pairwise else {})}
    if pairwise:
        usual = {ours: theirs for ours, theirs in usual.items() if ours != "output"}
    fields = {ours: t for ours, t in {**usual, **given}.items() if ours not in taken.fields}
    named = tuple(ours for ours in fields if ours in given or ours not in OPTIONAL)
    return Source(path, style, fields, named, _tags(style, mapped.tags))


def chunks(source: Source, most: int | None = None) -> Iterator[tuple[Columns, Counts]]:
    """Rows under our names, and how many hold what is not read.

    Raises:
      ValueError: if a column is in no row.
    """
    seen: set[str] = set()
    total = 0
    for columns in read(source.path):
        seen |= columns.keys() - {ORIGIN}
        columns = take_rows(columns, slice(None if most is None else most - total))
        size = num_rows("mindspeed", columns)
        total += size
        unread = [
            name
            for name in UNREAD.get(source.style, ())
            if name in columns and name not in source.fields.values()
        ]
        counts = {f"unread.{name}": sum(map(bool, columns[name])) for name in unread}
        if source.fields:
            none = [None] * size
            taken = {ours: columns.get(name, none) for ours, name in source.fields.items()}
            columns = {**taken, ORIGIN: columns[ORIGIN]}
        yield columns, counts
        if total == most:
            break
    for ours in source.named if total else ():
        if (name := source.fields[ours]) not in seen:
            raise ValueError(
                f"mindspeed: {source.path} has no column {name!r}{nearest(name, seen)}; columns "
                f"are {', '.join(sorted(seen))}; name another with --map-keys"
            )


def samples_of(
    settings: Settings, source: Source, tokenizer: HFTokenizer
) -> Callable[[Columns], tuple[Columns, Counts]]:
    """What makes samples of a chunk's rows, and counts those that are left out."""
    makes = settings.handler.makes
    if makes == "text":
        return lambda columns: _texts(settings, tokenizer, columns)
    if makes == "alpaca_text":
        return lambda columns: _texts(
            settings, tokenizer, {"text": [*map(_alpaca_text, *_fields(columns, True))]}
        )
    if makes == "general":
        return lambda columns: _general(settings, tokenizer, columns)
    form = slots(str(settings.prompt_type), bos=tokenizer.bos_id is not None)
    told: dict[str, Any] = {
        "style": "pairwise" if makes == "pairwise" else source.style,
        "tags": source.tags,
    }
    eod = settings.append_eod and makes == "instruction"  # upstream's pairs get none
    steps = chat(
        append_eos=eod,
        template=form,
        thinking=THINKING[settings.enable_thinking],
        invalid="drop",
        **told,
    )

    def make(columns: Columns) -> tuple[Columns, Counts]:
        if "instruction" in columns:  # upstream joins what is there, be it nothing
            columns = {**columns, "instruction": [t or "" for t in columns["instruction"]]}
        if source.style == "sharegpt":
            _refuse_unread_parts(columns, source.tags or {})
        pieces, counts = counted(steps, columns)
        _refuse_changed(steps, columns, counts, told)
        samples, more = counted(tokenize(tokenizer), pieces)
        for side in ("chosen_", "rejected_") if makes == "pairwise" else ("",):
            _label_first(samples, pieces, side)
        return samples, {**counts, **more}

    return make


def _listed(settings: Settings, name: str) -> Source:
    """A set of `dataset_info.json`."""
    folder = Path(str(settings.dataset_dir))
    info = parse((folder / "dataset_info.json").read_text(encoding="utf-8"))
    if name not in info:
        raise ValueError(
            f"mindspeed: {folder / 'dataset_info.json'} has no set {name!r}{nearest(name, info)}"
        )
    entry = dict(info[name])
    style = entry.pop("formatting", "alpaca")
    keys = {key: value for key, value in entry.pop("columns", {}).items()}
    path = entry.pop("file_name", None)
    tags = entry.pop("tags", None)
    known = style in USUAL and style != "openai" and not (tags and style == "alpaca")
    if entry or not path or not known:
        raise ValueError(
            f"mindspeed: the set {name!r} has {json.dumps(info[name])}; supported are file_name, "
            'formatting ("alpaca" or "sharegpt"), columns, tags'
        )
    usual = {} if keys else USUAL[style]  # a list of columns is the whole list
    if tags:
        keys["tags"] = tags
    return source(str(folder / path), style, keys, usual=usual)


def _tags(style: str, given: Mapping[str, str] | None) -> dict[str, str] | None:
    """All seven tags; what is not given is nobody's, where some are."""
    if style == "alpaca":
        return None
    if given is None:
        return dict(OPENAI_TAGS if style == "openai" else SHAREGPT_TAGS)
    for tag in SHAREGPT_TAGS:
        if tag not in given and tag not in ROLE_TAGS:
            raise ValueError(
                f"mindspeed: the tags of --map-keys lack {tag!r}; where some are given, upstream "
                "has no other"
            )
    return {**{tag: f"\0{tag}" for tag in ROLE_TAGS}, **given}


def _refuse_changed(
    steps: Transform, columns: Columns, counts: Counts, told: Mapping[str, Any]
) -> None:
    """A row that upstream does not leave out, but trains on as something else."""
    allowed = [r for r in LEFT_OUT if (told["style"], r) != ("openai", "roles_out_of_turn")]
    if not _others(counts, allowed):
        return
    for row in range(num_rows("mindspeed", columns)):
        one = take_rows(columns, slice(row, row + 1))
        if wrong := _others(counted(steps, one)[1], allowed):
            why = [reason for _, reason in invalid_rows(one, **told)] or wrong
            raise ValueError(
                f"mindspeed: {row_name(columns, row)}: {why[0]}; upstream writes something else "
                "in its place or fails: correct the row, or take it out"
            )


def _others(counts: Counts, allowed: list[str]) -> list[str]:
    """Reasons that are not among those."""
    reasons = [name.rpartition(".")[2] for name in counts if name.startswith("chat.dropped.")]
    return [reason for reason in reasons if reason not in allowed]


def _refuse_unread_parts(columns: Columns, tags: Mapping[str, str]) -> None:
    """Parts of messages that upstream's ShareGPT handlers pass over, and we would write."""
    role, content, function = (tags[f"{name}_tag"] for name in ("role", "content", "function"))
    for row, messages in enumerate(columns["conversations"]):
        for each in messages if isinstance(messages, list) else ():
            parts = each if isinstance(each, dict) else {}
            unread = [n for n in ("tool_calls", "reasoning_content") if parts.get(n) is not None]
            if parts.get(role) == function and str(parts.get(content)).lstrip()[:1] == "[":
                unread.append("a list of calls")
            if unread:
                raise ValueError(
                    f"mindspeed: {row_name(columns, row)}: a message has {unread[0]}, which "
                    "upstream's ShareGPT handlers do not read; take it out, or use "
                    "`mfunc data pack` without --compat"
                )


def _label_first(samples: Columns, pieces: Columns, side: str) -> None:
    """The label of a first token that is trained, which upstream writes though nothing predicts it.

    It is so where there is nothing before an answer.
    """
    ids, labels = samples[f"{side}input_ids"], samples[f"{side}labels"]
    rows = pieces[f"{side}pieces"]
    first = [i for i, row in enumerate(rows) if row and row[0].trained and len(ids[i])]
    values = labels.values.copy()
    values[labels.starts[first]] = ids.values[ids.starts[first]]
    samples[f"{side}labels"] = Ragged(values, labels.offsets)


def _general(
    settings: Settings, tokenizer: HFTokenizer, columns: Columns
) -> tuple[Columns, Counts]:
    """Whole texts; masked are as many tokens as the text up to the answer has by itself."""
    rows = zip(*_fields(columns, False), strict=True)
    full = [f"{HEAD}{a}\n{b}\n{ANSWER}\n{answer}\n" for a, b, answer in rows]
    asked = [f"{text.rpartition(ANSWER)[0]}{ANSWER}\n" for text in full]
    before, behind = affixes(tokenizer)
    eod = [tokenizer.token_id("eos")] * settings.append_eod
    ids = [[*before, *row, *behind, *eod] for row in tokenizer.encode(full)]
    masked = [len(row) + len(before) + len(behind) for row in tokenizer.encode(asked)]
    labels = [
        [IGNORED_LABEL] * min(n, len(row)) + row[n:] for n, row in zip(masked, ids, strict=True)
    ]
    return {"input_ids": Ragged.from_rows(ids), "labels": Ragged.from_rows(labels)}, {}


def _texts(settings: Settings, tokenizer: HFTokenizer, columns: Columns) -> tuple[Columns, Counts]:
    """Texts to be learned; empty ones are left out, of every column for itself."""
    before, behind = affixes(tokenizer)
    eod = [tokenizer.token_id("eos")] * settings.append_eod
    keys = settings.json_keys if settings.handler.makes == "text" else ("text",)
    made, counts = {}, {}
    for key in keys:
        texts = _column(columns, key)
        rows = [[*before, *row, *behind, *eod] for row in tokenizer.encode([t for t in texts if t])]
        made[key] = Ragged.from_rows(rows, np.int32)
        counts[f"{key}.empty"] = len(texts) - len(rows)
    return made, counts


def _alpaca_text(instruction: str, more: str, answer: str) -> str:
    return f"{ALPACA_TEXT}{instruction}\n\n### Input:\n{more}\n\n{ANSWER} ASSISTANT: {answer}"


def _fields(columns: Columns, whole: bool) -> list[list[str]]:
    """Instruction, input and output of Alpaca rows, which handlers with a text of their own read.

    With `whole`, an empty input is refused: upstream writes "###None" for it.
    """
    names = ("instruction", "input", "output")
    found = [_column(columns, name) for name in names]
    for row, more in enumerate(found[1]):
        if whole and not more:
            raise ValueError(
                f"mindspeed: {row_name(columns, row)}: 'input' is empty, for which upstream's "
                "AlpacaPretrainHandler writes '###None' into the text; give it one, or use "
                "AlpacaStyleInstructionHandler"
            )
    return found


def _column(columns: Columns, name: str) -> list[str]:
    """A column of texts."""
    have = [column for column in columns if column != ORIGIN]
    if name not in columns:
        raise ValueError(
            f"mindspeed: there is no column {name!r}{nearest(name, have)}; "
            f"columns are {', '.join(have)}"
        )
    for row, text in enumerate(columns[name]):
        if not isinstance(text, str):
            seen = "is missing" if text is None else f"is {text!r:.80}"
            raise ValueError(
                f"mindspeed: {row_name(columns, row)}: {name!r} {seen}, but must be text"
            )
    return columns[name]
