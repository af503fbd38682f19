"""Rows of instruction data to conversations, and these to pieces of text by a template."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from mfunc.data.chat_template import ChatTemplate, render_chat_template
from mfunc.data.check import choice, flag, nearest
from mfunc.data.columns import ORIGIN, Columns, num_rows, origin_of, row_name, take_rows
from mfunc.data.compose import Apply, Counts, transform
from mfunc.data.messages import Conversation, RowError
from mfunc.data.styles import ALIASES, STYLES, Row, Style, Tags, tags_of
from mfunc.data.template import THINKING, TRAIN_ON, Piece, Template, parse_special_names, render
from mfunc.data.templates import TEMPLATES
from mfunc.data.tokenize import PAIR

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
    reader = _reader("conversations", style, fields, tags, prompt_only)

    def apply(columns: Columns) -> tuple[Columns, Counts]:
        read, out, counts = _kept(reader, columns, invalid, lambda conversations: conversations)
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
    reader = _reader("invalid_rows", style, fields, tags, prompt_only)
    results = _results(reader, columns, lambda conversations: conversations)
    return [
        (row_name(columns, row), f"{result.reason}: {result}")
        for row, result in enumerate(results)
        if isinstance(result, RowError)
    ]


@transform
def chat(
    *,
    style: str,
    template: str | Template | ChatTemplate,
    fields: Mapping[str, str] | None = None,
    tags: Mapping[str, str] | None = None,
    system: str | None = None,
    train_on: str | None = None,
    thinking: str = "keep",
    prompt_only: bool = False,
    append_eos: bool = False,
    parse_special: Sequence[str] = (),
    invalid: str = "error",
) -> Apply:
    r"""Turn raw rows into pieces of text, each trained or not, as a template writes them.

        in   instruction ["Add."]  input ["1, 2"]  output ["3"]
        out  pieces [('Below is ...\n\n', '### Instruction:\nAdd.\n1, 2\n\n### Response:\n',
                      '3' trained, eos trained)]

    It is `conversations` and then `render`. Columns that these do not read are not carried on, but
    for `_origin`.

    Args:
      style: what the rows look like, see `conversations`.
      template: a name in `TEMPLATES`, a `Template`, or a tokenizer's own by `hf_template(path)`.
      fields: where columns have other names, see `conversations`.
      tags: where messages do, see there.
      system: system text for rows without their own; by default the template's.
      train_on: `"assistant"` (every answer and what ends it), `"last"` (the last answer) or
        `"all"`. By default every answer, but the last of pairwise rows.
      thinking: `"keep"`, `"train"` or `"strip"`, see `render`.
      prompt_only: leave the last answer out, for generating one; rows need none then.
      append_eos: end every sample with one more eos, the template's (MindSpeed's `--append-eod`).
      parse_special: names of special tokens that messages may spell, as MindSpeed and LLaMA-Factory
        let them. Whoever writes a message can then end its turn: only for equality with those.
      invalid: what becomes of rows that are no conversation, or none that the template can write.

    Returns:
      A transform to the column `pieces`, a tuple of `Piece` for every row; for pairwise rows to
      `chosen_pieces` and `rejected_pieces`. `counted` tells `rows, dropped, dropped.<reason>`.

    Raises:
      ValueError: when built, for an unknown style, template, field or tag; for a missing column;
        naming the row, for an invalid one, and for tools that the template cannot write.

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
      MindSpeed-LLM v2.1.0, the handlers of Alpaca, ShareGPT and pairwise rows.
    """
    choice("chat", "invalid", invalid, INVALID)
    train_on = _train_on(train_on, style)
    form = _form(template, thinking)
    reader = _reader("chat", style, fields, tags, prompt_only)
    if style == "text":
        raise ValueError("chat: rows of text have no turns; use conversations(style='text')")
    if system is not None and not isinstance(system, str):
        raise TypeError(f"chat: system must be text, got {system!r}")
    if flag("chat", "append_eos", append_eos) and prompt_only:
        raise ValueError("chat: append_eos=True would end a prompt; leave it out")
    names = _special_names(parse_special)
    write: Any = render if isinstance(form, Template) else render_chat_template

    def one(conversation: Conversation) -> tuple[Piece, ...]:
        messages, own, tools = conversation
        text = own or system or ""
        pieces = write(
            form, messages, system=text, tools=tools, train_on=train_on, thinking=thinking
        )
        pieces = parse_special_names(pieces, names) if names else pieces
        return (*pieces, Piece(form.eos, True, True)) if append_eos else pieces

    def apply(columns: Columns) -> tuple[Columns, Counts]:
        read, out, counts = _kept(reader, columns, invalid, lambda both: tuple(map(one, both)))
        sides = PAIR if style == "pairwise" else ("",)
        made = {f"{side}pieces": [each[k] for each in read] for k, side in enumerate(sides)}
        return {**made, **out}, counts

    return apply


def _kept(
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
        )
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


def _reader(
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
    given = {}
    for name, column in (fields or {}).items():
        field = ALIASES.get(name, name)
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


def _train_on(train_on: str | None, style: str) -> str:
    if train_on is None:
        return "last" if style == "pairwise" else "assistant"
    return choice("chat", "train_on", train_on, TRAIN_ON)


def _form(template: Any, thinking: str) -> Template | ChatTemplate:
    """The template meant, checked against how its thoughts are to be written."""
    choice("chat", "thinking", thinking, THINKING)
    if isinstance(template, ChatTemplate):
        return template
    if not isinstance(template, (str, Template)):
        raise TypeError(f"chat: template must be a name or a Template, got {template!r}")
    if isinstance(template, str):
        template = TEMPLATES[choice("chat", "template", template, TEMPLATES)]
    if thinking == "train" and not template.thought:
        raise ValueError("chat: thinking='train', but the template writes no thoughts")
    return template


def _special_names(names: Any) -> tuple[str, ...]:
    if isinstance(names, str) or not all(isinstance(name, str) and name for name in names):
        raise TypeError(f"chat: parse_special must be names of special tokens, got {names!r}")
    return tuple(names)
