"""Rows of instruction data to conversations, rendered by a template into pieces."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from mfunc.data.check import choice, flag, nearest
from mfunc.data.columns import ORIGIN, Columns, num_rows, origin_of, row_name
from mfunc.data.compose import Apply, transform
from mfunc.data.template import TEMPLATES, Message, Template, render


class Style(NamedTuple):
    """What rows look like, and how one of them becomes (system text, messages)."""

    fields: tuple[str, ...]
    prompt: tuple[str, ...]  # fields that even a prompt needs
    answer: tuple[str, ...]  # fields that a whole conversation needs besides
    conversation: Callable[[Columns, int, Mapping[str, str], bool], tuple[str, list[Message]]]


def _alpaca(
    columns: Columns, row: int, names: Mapping[str, str], prompt_only: bool
) -> tuple[str, list[Message]]:
    """System text and messages of one row."""

    def text(field: str, required: bool = False) -> str:
        column = columns.get(names[field])
        value = None if column is None else column[row]
        if value is None and not required:
            return ""
        if not isinstance(value, str):
            seen = "is missing" if value is None else f"is {value!r} ({type(value).__name__})"
            raise ValueError(
                f"chat: {row_name(columns, row)}: {names[field]!r} {seen}, but must be text"
            )
        return value

    question = "\n".join(part for part in (text("instruction", True), text("input")) if part)
    messages = [*_history(columns, row, names["history"]), Message("user", question)]
    if not prompt_only:
        messages.append(Message("assistant", text("output", True)))
    return text("system"), messages


def _history(columns: Columns, row: int, name: str) -> list[Message]:
    """Earlier turns of one row."""
    turns = columns[name][row] if name in columns else None
    messages = []
    for turn in turns or []:
        pair = list(turn) if isinstance(turn, (list, tuple)) else [turn]
        if len(pair) != 2 or not all(isinstance(text, str) for text in pair):
            raise ValueError(
                f"chat: {row_name(columns, row)}: {name!r} holds {turn!r}, "
                "but must be a list of [question, answer]"
            )
        messages += [Message("user", pair[0]), Message("assistant", pair[1])]
    return messages


STYLES = {
    "alpaca": Style(
        fields=("instruction", "input", "output", "system", "history"),
        prompt=("instruction",),
        answer=("output",),
        conversation=_alpaca,
    ),
}


@transform
def chat(
    *,
    style: str,
    template: str | Template,
    fields: Mapping[str, str] | None = None,
    system: str | None = None,
    train_on: str = "assistant",
    prompt_only: bool = False,
) -> Apply:
    r"""Turn raw rows into pieces of text, each trained or not, as a template writes them.

        in   instruction ["Add."]  input ["1, 2"]  output ["3"]
        out  pieces [('Below is ...\n\n', '### Instruction:\nAdd.\n1, 2\n\n### Response:\n',
                      '3' trained, eos trained)]

    Style `"alpaca"`: columns `instruction`, `output`; and if there are any, `input` (joined to the
    instruction by a newline), `system` and `history` (earlier turns, `[[question, answer], ...]`).
    Other columns are not carried on, but for `_origin`.

    Args:
      style: what the rows look like; `"alpaca"`.
      template: a name in `TEMPLATES`, or a `Template`.
      fields: where the rows use other names: `{"instruction": "question", "output": "answer"}`.
      system: system text for rows without their own; by default the template's.
      train_on: `"assistant"` (every answer and what ends it) or `"all"`.
      prompt_only: leave the last answer out, for generating one; `output` is then not needed.

    Returns:
      A transform to the column `pieces`: a tuple of `Piece` for every row.

    Raises:
      ValueError: when built, for an unknown style, template or field; for a missing column; naming
        the row, for a missing or non-string value.

    Laws:
      row by row; the pieces with `prompt_only` are the first pieces without it.

    Example:
      >>> rows = {"instruction": ["Add."], "input": ["1, 2"], "output": ["3"]}
      >>> for piece in chat(style="alpaca", template="alpaca")(rows)["pieces"][0]:
      ...     print(piece.trained, repr(piece.text[-15:]))
      False ' the request.\n\n'
      False '\n### Response:\n'
      True '3'
      True 'eos'

    Source:
      Stanford Alpaca rows; rendered as by MindSpeed-LLM v2.1.0 `AlpacaStyleInstructionHandler`.
    """
    choice("chat", "style", style, STYLES)
    choice("chat", "train_on", train_on, ("assistant", "all"))
    flag("chat", "prompt_only", prompt_only)
    kind = STYLES[style]
    names = _field_names(fields, kind.fields)
    needed = kind.prompt if prompt_only else kind.prompt + kind.answer
    form = template if isinstance(template, Template) else TEMPLATES[_template_name(template)]
    if system is not None and not isinstance(system, str):
        raise TypeError(f"chat: system must be text, got {system!r}")

    def apply(columns: Columns) -> Columns:
        count = num_rows("chat", columns)
        if count:
            _require_columns(columns, names, {*needed, *(fields or {})})
        pieces = []
        for row in range(count):
            own, messages = kind.conversation(columns, row, names, prompt_only)
            pieces.append(render(form, messages, system=own or system or "", train_on=train_on))
        return {"pieces": pieces, **origin_of(columns)}

    return apply


def _field_names(fields: Mapping[str, str] | None, known: tuple[str, ...]) -> dict[str, str]:
    """Column name of every field of a style."""
    for name in fields or {}:
        if name not in known:
            raise ValueError(
                f"chat: unknown field {name!r}{nearest(name, known)}; fields are {', '.join(known)}"
            )
    return {name: (fields or {}).get(name, name) for name in known}


def _template_name(template: object) -> str:
    if not isinstance(template, str):
        raise TypeError(f"chat: template must be a name or a Template, got {template!r}")
    return choice("chat", "template", template, TEMPLATES)


def _require_columns(columns: Columns, names: Mapping[str, str], required: set[str]) -> None:
    """The columns that a style cannot do without, or that the caller named."""
    for field in (name for name in names if name in required):
        if names[field] not in columns:
            have = [name for name in columns if name != ORIGIN]
            raise ValueError(
                f"chat: {row_name(columns, 0)} has no {names[field]!r}"
                f"{nearest(names[field], have)}; columns are {', '.join(have)}; "
                f"map another with fields={{{field!r}: ...}}"
            )
