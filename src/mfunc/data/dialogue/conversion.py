"""Rows of instruction data as conversations: `id`, and turns of `from` and `value`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mfunc.data.check import integer
from mfunc.data.columns import Columns, num_rows, origin_of, row_name, text_at
from mfunc.data.compose import Apply, transform

_TASK = "Below is an instruction that describes a task"
_INPUT = ", paired with an input that provides further context"
_DO = ". Write a response that appropriately completes the request.\n\n### Instruction:\n"


def alpaca_prompt(instruction: str, given: str, response: str) -> str:
    """Stanford Alpaca's prompt, which differs where there is an input.

    Args:
      instruction: the task.
      given: its input, or "".
      response: the header before the answer, `"### Response:"`; some end it with a newline.

    Example:
      >>> print(alpaca_prompt("Add.", "", "### Response:"))
      Below is an instruction that describes a task. Write a response that appropriately
      completes the request.
      <BLANKLINE>
      ### Instruction:
      Add.
      <BLANKLINE>
      ### Response:
    """
    middle = f"\n\n### Input:\n{given}" if given else ""
    return f"{_TASK}{_INPUT if given else ''}{_DO}{instruction}{middle}\n\n{response}"


@transform
def alpaca_conversations(*, response: str = "### Response:", first: int = 1) -> Apply:
    r"""Alpaca rows to conversations whose question is the whole Alpaca prompt.

        in   instruction ["Add."]  input ["1, 2"]  output ["3"]
        out  id ["1"]  conversations [[{"from": "human", "value": "Below is ... ### Response:"},
                                       {"from": "gpt", "value": "3"}]]

    Args:
      response: the prompt's last line; `"### Response:\n"` is that of the map function "alpaca".
      first: number of the first row: ids go on from it, so that chunks can be numbered through.

    Returns:
      A transform to the columns `id` and `conversations`, and `_origin`.

    Raises:
      ValueError: naming the row, for `instruction` or `output` missing or not text.

    Laws:
      row by row, but for the numbers.

    Example:
      >>> rows = {"instruction": ["Add."], "input": ["1, 2"], "output": ["3"]}
      >>> made = alpaca_conversations()(rows)
      >>> made["id"], made["conversations"][0][1]
      (['1'], {'from': 'gpt', 'value': '3'})

    Source:
      MindFormers 0.6-1.3 `alpaca_converter.py`, same ids and texts.
    """
    integer("alpaca_conversations", "first", first, least=0)
    if not isinstance(response, str):
        raise TypeError(f"alpaca_conversations: response must be text, got {response!r}")

    def question(columns: Columns, row: int) -> str:
        where = "alpaca_conversations"
        instruction = text_at(where, columns, "instruction", row)
        given = text_at(where, columns, "input", row, optional=True)
        return alpaca_prompt(instruction, given, response)

    return _converter(
        "alpaca_conversations", question, "gpt", lambda columns, row: str(first + row)
    )


@transform
def belle_conversations(*, name: str = "belle-", first: int = 1) -> Apply:
    r"""BELLE rows to conversations: a question is the instruction and, right after it, the input.

        in   instruction ["1 + 2 = ?"]  input [""]  output ["\n3"]
        out  id ["belle-1"]  conversations [[{"from": "human", "value": "1 + 2 = ?"},
                                             {"from": "assistant", "value": "\n3"}]]

    Args:
      name: what stands before a row's number in its id: `"school_math-"` in BELLE's own form,
        `"bellemath"` in that of the MindCon 2023 tutorial. A row with an `id` keeps it.
      first: number of the first row: ids go on from it, so that chunks can be numbered through.

    Returns:
      A transform to the columns `id` and `conversations`, and `_origin`.

    Raises:
      ValueError: naming the row, for `instruction` or `output` missing or not text, or an `id` that
        is neither text nor an integer.

    Laws:
      row by row, but for the numbers.

    Example:
      >>> rows = {"instruction": ["1 + 2 = ?"], "input": [""], "output": ["3"]}
      >>> belle_conversations(name="bellemath", first=42)(rows)["id"]
      ['bellemath42']

    Source:
      LianjiaTech/BELLE `convert_to_conv_data.py`, same ids and texts.
    """
    integer("belle_conversations", "first", first, least=0)
    if not isinstance(name, str):
        raise TypeError(f"belle_conversations: name must be text, got {name!r}")

    def question(columns: Columns, row: int) -> str:
        where = "belle_conversations"
        given = text_at(where, columns, "input", row, optional=True)
        return text_at(where, columns, "instruction", row) + given

    def identity(columns: Columns, row: int) -> str:
        own = columns["id"][row] if "id" in columns else None
        if own is None:
            return f"{name}{first + row}"
        if isinstance(own, bool) or not isinstance(own, (str, int)):
            raise ValueError(
                f"belle_conversations: {row_name(columns, row)}: 'id' is {own!r}, "
                "but must be text or an integer"
            )
        return str(own)

    return _converter("belle_conversations", question, "assistant", identity)


def _converter(
    where: str,
    question: Callable[[Columns, int], str],
    role: str,
    identity: Callable[[Columns, int], str],
) -> Apply:
    """Columns to conversations of one question and its answer, `output`."""

    def turns(columns: Columns, row: int) -> list[dict[str, str]]:
        answer = text_at(where, columns, "output", row)
        return [
            {"from": "human", "value": question(columns, row)},
            {"from": role, "value": answer},
        ]

    def apply(columns: Columns) -> Columns:
        count = range(num_rows(where, columns))
        made: dict[str, Any] = {
            "id": [identity(columns, row) for row in count],
            "conversations": [turns(columns, row) for row in count],
        }
        return {**made, **origin_of(columns)}

    return apply
