"""Rows of instruction data to conversations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from mfunc.data.check import choice, flag, nearest
from mfunc.data.columns import ORIGIN, Columns, num_rows, origin_of, row_name, take_rows
from mfunc.data.compose import Apply, Counts, transform
from mfunc.data.dialogue.messages import Conversation, RowError
from mfunc.data.dialogue.styles import ALIASES, STYLES, Row, Style, Tags, tags_of
from mfunc.data.tokens.tokenize import PAIR

INVALID = ("error", "drop")


class Reader(NamedTuple):
    """How rows are read: the checked settings that `conversations` and `chat` share."""

    where: str
    style: Style
    names: Mapping[str, str]
    tags: Tags
    prompt_only: bool
    named: tuple[str, ...]  # fields whose columns the caller named, so they must be there


@transform
def conversations(
    *,
    style: str,
    fields: Mapping[str, str] | None = None,
    tags: Mapping[str, str] | None = None,
    prompt_only: bool = False,
    invalid: str = "error",
) -> Apply:
    r"""Turn raw rows into conversations.

        in   instruction ["Add."]  input ["1, 2"]  output ["3"]
        out  messages [(Message("user", "Add.\n1, 2"), Message("assistant", "3"))]
             system [""]  tools [()]

    | style | columns (may lack) | what they hold |
    |---|---|---|
    | alpaca | instruction, output (input, system, history) | `input` is joined by a newline; \
      `history` is [[question, answer], ...] |
    | sharegpt | conversations (system, tools) | [{"from": "human", "value": ...}, ...] |
    | openai | messages (system, tools) | [{"role": "user", "content": ...}, ...], also with \
      `tool_calls` and `reasoning_content` |
    | pairwise | chosen, rejected, and alpaca's or sharegpt's | a question with two answers |
    | belle | alpaca's or sharegpt's | `input` is joined by nothing |
    | text | text | to be learned as it is: the column `text` comes out |

    Args:
      style: what the rows look like.
      fields: where columns have other names: `{"instruction": "question", "output": "answer"}`;
        the names prompt, query and response of MindSpeed's `--map-keys` are understood too.
      tags: where messages do: `role_tag, content_tag, user_tag, assistant_tag, observation_tag,
        function_tag, system_tag`. By default the assistant may be called "gpt" or "assistant".
      prompt_only: leave the last answer out; rows need none then.
      invalid: `"error"`, or `"drop"` rows that are no conversation: roles out of turn, no
        messages, no answer, no text, an unknown role, calls or tools that cannot be read.
        `invalid_rows` lists them.

    Returns:
      A transform to the columns `messages` (tuples of `Message`), `system`, `tools` (tuples of
      dicts) and `_origin`; for pairwise rows `chosen_messages` and `rejected_messages`.
      `counted` tells `rows, dropped, dropped.<reason>`.

    Raises:
      ValueError: when built, for an unknown style, field or tag; for a missing column; naming row,
        origin and reason, for an invalid row.

    Laws:
      row by row; the messages with `prompt_only` are the first messages without it.

    Example:
      >>> rows = {"conversations": [[{"from": "human", "value": "Hi"},
      ...                            {"from": "gpt", "value": "Hello"}]]}
      >>> [(m.role, m.content) for m in conversations(style="sharegpt")(rows)["messages"][0]]
      [('user', 'Hi'), ('assistant', 'Hello')]

    Source:
      MindSpeed-LLM v2.1.0 and LLaMA-Factory, but for rows that those replace or lose silently.
    """
    choice("conversations", "invalid", invalid, INVALID)
    reader = reader_of("conversations", style, fields, tags, prompt_only)

    def apply(columns: Columns) -> tuple[Columns, Counts]:
        read, out, counts = valid(reader, columns, invalid, lambda conversations: conversations)
        if style == "text":
            return {"text": [each[0].messages[0].content for each in read], **out}, counts
        sides = PAIR if style == "pairwise" else ("",)
        made: Columns = {
            f"{side}messages": [each[k].messages for each in read] for k, side in enumerate(sides)
        }
        made["system"] = [each[0].system for each in read]
        made["tools"] = [each[0].tools for each in read]
        return {**made, **out}, counts

    return apply


def invalid_rows(
    columns: Columns,
    *,
    style: str,
    fields: Mapping[str, str] | None = None,
    tags: Mapping[str, str] | None = None,
    prompt_only: bool = False,
) -> list[tuple[str, str]]:
    """Which rows are no conversations, and why: [(row, reason), ...].

    Args:
      columns: raw rows.
      style: what the rows look like, as in `conversations`.
      fields: as there.
      tags: as there.
      prompt_only: as there.

    Example:
      >>> rows = {"instruction": ["Add.", "Say hi."], "output": ["3", None]}
      >>> invalid_rows(rows, style="alpaca")
      [('row 1', "missing_answer: 'output' is missing, but must be text")]
    """
    reader = reader_of("invalid_rows", style, fields, tags, prompt_only)
    results = _results(reader, columns, lambda conversations: conversations)
    return [
        (row_name(columns, row), f"{result.reason}: {result}")
        for row, result in enumerate(results)
        if isinstance(result, RowError)
    ]


def valid(
    reader: Reader,
    columns: Columns,
    invalid: str,
    then: Callable[[tuple[Conversation, ...]], Any],
) -> tuple[list[Any], Columns, Counts]:
    """What becomes of the valid rows, their origins, and how many rows were dropped, and why."""
    results = _results(reader, columns, then)
    wrong = [row for row, result in enumerate(results) if isinstance(result, RowError)]
    if wrong and invalid == "error":
        row = wrong[0]
        raise ValueError(
            f"{reader.where}: {row_name(columns, row)}: {results[row]}; "
            f"{len(wrong)} of {len(results)} rows are invalid: see invalid_rows(...), "
            "or leave them out with invalid='drop'"
        ) from results[row]
    counts = {"rows": len(results), "dropped": len(wrong)}
    counts.update(Counter(f"dropped.{results[row].reason}" for row in wrong))
    origins = origin_of(columns)
    if wrong:
        origins = take_rows(origins, np.delete(np.arange(len(results)), wrong))
        results = [result for result in results if not isinstance(result, RowError)]
    return results, origins, counts


def _results(
    reader: Reader, columns: Columns, then: Callable[[tuple[Conversation, ...]], Any]
) -> list[Any]:
    """Of every row what `then` makes of its conversations, or why it has none."""
    count = num_rows(reader.where, columns)
    if count:
        _require_columns(reader, columns)
    present = {f: columns[name] for f, name in reader.names.items() if name in columns}
    results: list[Any] = []
    for i in range(count):
        row = Row({field: column[i] for field, column in present.items()}, reader.names)
        try:
            results.append(then(reader.style.read(row, reader.tags, reader.prompt_only)))
        except RowError as error:
            results.append(error)
        except ValueError as error:
            raise ValueError(f"{reader.where}: {row_name(columns, i)}: {error}") from None
    return results


def reader_of(
    where: str,
    style: str,
    fields: Mapping[str, str] | None,
    tags: Mapping[str, str] | None,
    prompt_only: bool,
) -> Reader:
    """The settings of reading, checked."""
    kind = STYLES[choice(where, "style", style, STYLES)]
    flag(where, "prompt_only", prompt_only)
    if prompt_only and style in ("pairwise", "text"):
        raise ValueError(f"{where}: rows of style {style!r} have no prompt_only")
    usual = {column: field for field, column in kind.fields.items()}
    given = {}
    for name, column in (fields or {}).items():
        field = ALIASES.get(name, usual.get(name, name))
        if field not in kind.fields or field in given:
            hint = nearest(name, kind.fields)
            what = "field twice:" if field in given else "unknown field"
            raise ValueError(f"{where}: {what} {name!r}{hint}; fields are {', '.join(kind.fields)}")
        given[field] = column
    names = {**kind.fields, **given}
    return Reader(where, kind, names, tags_of(where, tags, kind.tags), prompt_only, tuple(given))


def _require_columns(reader: Reader, columns: Columns) -> None:
    """The columns that a style cannot do without, or that the caller named."""
    where, kind, names, _, prompt_only, named = reader
    needed = kind.prompt if prompt_only else kind.prompt + kind.answer
    if "instruction" in names and names.get("messages") in columns:
        if names["instruction"] in columns:
            raise ValueError(
                f"{where}: there are both {names['messages']!r} and {names['instruction']!r}; "
                "rename the one that is not meant with fields={...}"
            )
        needed = tuple(field for field in needed if field not in ("instruction", "output"))
    for field in (name for name in names if name in needed or name in named):
        if names[field] not in columns:
            have = [name for name in columns if name != ORIGIN]
            raise ValueError(
                f"{where}: {row_name(columns, 0)} has no {names[field]!r}"
                f"{nearest(names[field], have)}; columns are {', '.join(have)}; "
                f"map another with fields={{{field!r}: ...}}"
            )
