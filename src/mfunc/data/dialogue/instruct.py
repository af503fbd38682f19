"""Rows of instruction data to pieces of text: conversations, written by a template."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mfunc.data.check import choice, flag
from mfunc.data.columns import Columns
from mfunc.data.compose import Apply, Counts, transform
from mfunc.data.dialogue.chat_template import ChatTemplate, render_chat_template
from mfunc.data.dialogue.conversation import INVALID, reader_of, valid
from mfunc.data.dialogue.messages import Conversation
from mfunc.data.dialogue.template import (
    THINKING,
    TRAIN_ON,
    Piece,
    Template,
    parse_special_names,
    render,
)
from mfunc.data.dialogue.templates import TEMPLATES
from mfunc.data.tokens.tokenize import PAIR


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
    reader = reader_of("chat", style, fields, tags, prompt_only)
    if style == "text":
        raise ValueError("chat: rows of text have no turns; use conversations(style='text')")
    if system is not None and not isinstance(system, str):
        raise TypeError(f"chat: system must be text, got {system!r}")
    if flag("chat", "append_eos", append_eos) and prompt_only:
        raise ValueError("chat: append_eos=True would end a prompt; leave it out")
    one = _writer(form, system or "", train_on, thinking, append_eos, _names(parse_special))

    def apply(columns: Columns) -> tuple[Columns, Counts]:
        read, out, counts = valid(reader, columns, invalid, lambda both: tuple(map(one, both)))
        sides = PAIR if style == "pairwise" else ("",)
        made = {f"{side}pieces": [each[k] for each in read] for k, side in enumerate(sides)}
        return {**made, **out}, counts

    return apply


def _writer(
    form: Template | ChatTemplate,
    system: str,
    train_on: str,
    thinking: str,
    append_eos: bool,
    names: tuple[str, ...],
) -> Callable[[Conversation], tuple[Piece, ...]]:
    """What turns a conversation into pieces."""
    write: Any = render if isinstance(form, Template) else render_chat_template
    end = (Piece(form.eos, trained=True, special=True),) * append_eos

    def one(conversation: Conversation) -> tuple[Piece, ...]:
        messages, own, tools = conversation
        pieces = write(
            form, messages, system=own or system, tools=tools, train_on=train_on, thinking=thinking
        )
        return (parse_special_names(pieces, names) if names else pieces) + end

    return one


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


def _names(names: Any) -> tuple[str, ...]:
    if isinstance(names, str) or not all(isinstance(name, str) and name for name in names):
        raise TypeError(f"chat: parse_special must be names of special tokens, got {names!r}")
    return tuple(names)
