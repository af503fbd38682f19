r"""MindFormers' map functions for supervised fine-tuning, as data, and the one function for them.

A map function is how a row becomes turns (`turns.py`), and formats of a turn with settings by
name: `"{bos_token}{user_prompt}{value}"`. Which settings one takes is data too, so none is ever
accepted and ignored.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from mfunc.data.check import choice
from mfunc.data.columns import Columns, num_rows, origin_of
from mfunc.data.compose import Apply, transform
from mfunc.data.dialogue import turns
from mfunc.data.dialogue.template import Piece

SPECIAL = ("<s>", "</s>", "<|im_start|>", "<|im_end|>")
VALUE = "{value}"
Slot = tuple[tuple[str, ...], bool]  # text around values, or the name of a special token, True
Forms = tuple[str, ...]  # each is encoded on its own


class MapFunction(NamedTuple):
    """What a row says, and how it is written."""

    turns: turns.Turns
    settings: Mapping[str, Any]  # all that it takes, with defaults
    begin: Forms = ()  # before the first turn
    user: Forms = (VALUE,)
    assistant: Forms = (VALUE,)
    end: Forms = ("{eos_token}",)  # after the last turn
    later: Forms | None = None  # user turns but the first, where they differ
    label: Callable[[Columns, int], int] | None = None  # class of a row, if rows have one


def _plain(rows: turns.Turns, label: Callable[[Columns, int], int] | None = None) -> MapFunction:
    """The text of a row and nothing but the tokenizer's bos and eos around it."""
    ends = {"bos_token": "{bos}", "eos_token": "{eos}"}
    return MapFunction(rows, ends, begin=("{bos_token}",), label=label)


def _class(name: str, first: int = 0) -> Callable[[Columns, int], int]:
    return lambda columns, row: turns.class_number(columns, row, name, first)


_CHAT = {
    "data_field": "conversations",
    "from_keyword": "from",
    "value_keyword": "value",
    "user_role_name": "human",
    "assistant_role_name": ("gpt", "assistant"),
    "user_prompt": "",
    "eos_token": "{eos}",
}
_DYN = {
    **_CHAT,
    "user_prompt_role": "",
    "assistant_prompt": "",
    "assistant_prompt_role": "",
    "bos_token": "<s>",
    "sep_token": "",
}

MAP_FUNCTIONS: Mapping[str, MapFunction] = MappingProxyType(
    {
        "default": _plain(turns.default),
        "alpaca": _plain(turns.alpaca),
        "advertisegen": _plain(turns.advertisegen),
        "cola": _plain(turns.cola, turns.cola_class),
        "imdb": _plain(turns.only("review"), turns.sentiment),
        "sst-2": _plain(turns.only("sentence"), _class("label")),
        "ag-news": _plain(turns.only("sentence"), _class("label")),
        "tnews": _plain(turns.only("sentence"), _class("label", first=100)),
        "multi-round-chat": MapFunction(
            turns.conversation,
            {**_CHAT, "assistant_prompt": ""},
            user=("{user_prompt}{value}",),
            assistant=("{assistant_prompt}{value}",),
        ),
        "multi-round-chat-dyn": MapFunction(
            turns.conversation,
            _DYN,
            user=(
                "{bos_token}{user_prompt}{user_prompt_role}{value}",
                "{assistant_prompt}{assistant_prompt_role}",
            ),
            assistant=("{sep_token}{value}",),
        ),
        "multi-round-chat-dyn-alpaca": MapFunction(
            turns.conversation,
            {**_DYN, "bos_token": "<|im_start|>", "sep_token": "<|im_end|>\n<|im_start|>"},
            user=(
                "{bos_token}{user_prompt}{sep_token}{user_prompt_role}{value}{sep_token}",
                "{assistant_prompt}{assistant_prompt_role}",
            ),
            assistant=("{value}<|im_end|>\n",),
        ),
        "multi-instruct-dyn": MapFunction(
            turns.instruct,
            {
                "instruction_keyword": "instruction",
                "from_keyword": "input",
                "value_keyword": "output",
                "user_prompt": "",
                "user_prompt_role": "",
                "assistant_prompt_role": "",
                "bos_token": "",
                "sep_token": "",
                "eos_token": "{eos}",
            },
            user=("{bos_token}{user_prompt}{user_prompt_role}{value}{assistant_prompt_role}",),
            assistant=("{sep_token}{value}",),
        ),
        "vicuna": MapFunction(
            turns.alternating,
            {
                **_CHAT,
                "user_prompt": (
                    "A chat between a curious user and an artificial intelligence assistant. "
                    "The assistant gives helpful, detailed, and polite answers to the user's "
                    "questions. "
                ),
                "user_prompt_role": "USER: ",
                "assistant_prompt_role": " ASSISTANT:",
                "bos_token": "{bos}",
                "sep_token": "",
            },
            begin=("{bos_token}",),
            user=("{user_prompt}{user_prompt_role}{value}{assistant_prompt_role}",),
            later=("{user_prompt_role}{value}{assistant_prompt_role}",),
            assistant=("{sep_token}{value}{eos_token}",),
            end=(),
        ),
    }
)


@transform
def sft(
    name: str,
    *,
    user_prompt: str | None = None,
    user_prompt_role: str | None = None,
    assistant_prompt: str | None = None,
    assistant_prompt_role: str | None = None,
    bos_token: str | None = None,
    sep_token: str | None = None,
    eos_token: str | None = None,
    data_field: str | None = None,
    instruction_keyword: str | None = None,
    from_keyword: str | None = None,
    value_keyword: str | None = None,
    user_role_name: str | Sequence[str] | None = None,
    assistant_role_name: str | Sequence[str] | None = None,
    special: Sequence[str] = SPECIAL,
    train_on: str = "assistant",
) -> Apply:
    r"""Turn rows into pieces as MindFormers' map function of that name does.

    Pieces, each encoded on its own, `|` between them; answers and the last eos are trained:

        "multi-instruct-dyn"    bos_token | user_prompt user_prompt_role instruction input
                                assistant_prompt_role | sep_token output | eos
        "multi-round-chat"      user_prompt h | assistant_prompt g | ... | eos
        "multi-round-chat-dyn"  bos_token | user_prompt user_prompt_role h
                                | assistant_prompt assistant_prompt_role | sep_token g | ... | eos
        "multi-round-chat-dyn-alpaca"
                                bos_token user_prompt sep_token user_prompt_role h sep_token
                                | assistant_prompt assistant_prompt_role | g <|im_end|> \n
                                | ... | eos
        "vicuna"                bos | user_prompt user_prompt_role h assistant_prompt_role
                                | sep_token g | eos | user_prompt_role h ... | g | eos
        "alpaca" (instruction, input, output), "advertisegen" (content, summary),
        "default" (two columns)             bos | prompt | answer | eos
        "default" (one column)              bos | text, trained | eos
        "cola" (four columns), "imdb" (review, sentiment), "sst-2", "ag-news", "tnews" (sentence,
        label)                              bos | text | eos, and the class in the column `label`

    where h and g are what a human and the assistant say in `conversations`. What stands in
    `special` becomes one token in settings, never in rows: no user can write a bos or eos.

    Args:
      name: the map function; `"vicuna"` is what `llama_preprocess.py --dataset_type qa` does.
      user_prompt: system text. As all settings: by default the map function's own, mostly "".
      user_prompt_role: what stands before a question, `"USER: "`.
      assistant_prompt: before the answer; in `"multi-round-chat"` trained, as upstream has it.
      assistant_prompt_role: what ends a question, `"ASSISTANT:"`.
      bos_token: a special token, `"<s>"` for the chats; `"{bos}"` is the tokenizer's, "" none.
      sep_token: what stands before an answer: "" for tokenizers that put a space before every
        piece (LLaMA's), `" "` for those that do not (LLaMA 3's).
      eos_token: `"{eos}"`, the tokenizer's; or the name of another; or "" for none.
      data_field: column of conversations.
      instruction_keyword: column of instructions, for `"multi-instruct-dyn"`.
      from_keyword: key of a message's sender; for `"multi-instruct-dyn"` the column of inputs.
      value_keyword: key of a message's text; for `"multi-instruct-dyn"` the column of outputs.
      user_role_name: the human's name or names, `"human"`.
      assistant_role_name: the assistant's, `("gpt", "assistant")`.
      special: what is one token wherever a setting holds it.
      train_on: `"assistant"`, or `"all"` for every token, as upstream has it where there are no
        labels (`default`, `alpaca`, `advertisegen`).

    Returns:
      A transform to the columns `pieces` and `_origin`; for classes also `label` int32 [n], which
      `carry(["label"], tokenize(...))` takes past the tokenizer. Nothing of a text that is
      classified is trained. The rest of a map function is `truncate(max_length, policy="tail")`,
      and pad_token_id and ignore_token_id are `pad_id` and `ignore_id` of `pad_to_divisor`.

    Raises:
      ValueError: when built, for an unknown name or a setting that the map function does not take;
        naming the row, for a missing or wrong value, an unknown role, or no answer at the end.

    Laws:
      row by row; the text of a row is in its pieces unchanged.

    Example:
      >>> rows = {"instruction": ["Add "], "input": ["1, 2"], "output": ["3"]}
      >>> to_pieces = sft("multi-instruct-dyn", user_prompt_role="Q: ", assistant_prompt_role=" A:")
      >>> [piece.text for piece in to_pieces(rows)["pieces"][0]]
      ['Q: Add 1, 2 A:', '3', 'eos']
      >>> sft("multi-insruct-dyn")  # doctest: +ELLIPSIS
      Traceback (most recent call last):
      ValueError: sft: name must be one of ... did you mean 'multi-instruct-dyn'?

    Source:
      MindFormers 1.2-1.3 `sft_map_functions.py`, `llama_preprocess.py`: the same ids and labels
      with LLaMA's tokenizer, also of `"vicuna"` although that encodes a round at once (BELLE: 900
      of 900 rows; Alpaca: 19,989 of 20,000, the others have an empty answer, after which it writes
      no eos and learns nothing). Where it is wrong we differ. It ignores user_prompt, bos_token and
      sep_token in multi-instruct-dyn: for its ids leave them out; here they do what they do in
      multi-round-chat-dyn. It takes an unknown name for "default", drops columns that "default" has
      no use for, trains questions in multi-round-chat-dyn-alpaca, cuts off the eos of long rows,
      reads "</s>" in users' text as eos, masks a sample whole when "vicuna" miscounts its tokens,
      skips an answer that begins a conversation there, and with LLaMA's tokenizer writes a bos
      before the answer of "alpaca", "advertisegen" and "default", and no eos.
    """
    given = {key: value for key, value in locals().items() if value is not None}
    for key in ("name", "special", "train_on"):
        del given[key]
    choice("sft", "name", name, MAP_FUNCTIONS)
    choice("sft", "train_on", train_on, ("assistant", "all"))
    if isinstance(special, str) or not all(isinstance(each, str) and each for each in special):
        raise TypeError(f"sft: special must be a list of names of tokens, got {special!r}")
    function = MAP_FUNCTIONS[name]
    settings = _settings(name, function.settings, given)
    tokens = {settings.get(key, "") for key in ("bos_token", "eos_token")} | {*special}
    write = _writer(function, settings, tokens - {""}, train_on == "all")

    def apply(columns: Columns) -> Columns:
        rows = range(num_rows("sft", columns))
        pieces = [tuple(write(function.turns(columns, row, settings))) for row in rows]
        out = {"pieces": pieces, **origin_of(columns)}
        if function.label is None:
            return out
        return {**out, "label": np.array([function.label(columns, row) for row in rows], np.int32)}

    return apply


def _settings(name: str, own: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """What holds for a map function; a setting that it would not read is refused."""
    for key, value in given.items():
        if key not in own:
            raise ValueError(f"sft: {name!r} has no use for {key}; it takes {', '.join(own)}")
        several = isinstance(value, tuple) and key.endswith("_role_name")
        if not all(isinstance(text, str) for text in (value if several else [value])):
            raise TypeError(f"sft: {key} must be text, got {value!r}")
    settings = {**own, **given}
    both = {*turns.names(settings.get("user_role_name", ()))} & {
        *turns.names(settings.get("assistant_role_name", ()))
    }
    if both:
        raise ValueError(f"sft: user and assistant both have the role name {min(both)!r}")
    return settings


def _writer(
    function: MapFunction, settings: Mapping[str, Any], special: set[str], everything: bool
) -> Callable[[Sequence[turns.Turn]], Iterator[Piece]]:
    """The function from turns to pieces."""
    begin, user, assistant, end, later = (
        _slots(forms, settings, special)
        for forms in (
            function.begin,
            function.user,
            function.assistant,
            function.end,
            function.user if function.later is None else function.later,
        )
    )

    def write(said: Sequence[turns.Turn]) -> Iterator[Piece]:
        yield from _fill(begin, "", everything)
        questions = user
        for role, text in said:
            if role == "assistant":
                yield from _fill(assistant, text, True)
            else:
                yield from _fill(questions, text, everything)
                questions = later
        yield from _fill(end, "", everything or said[-1][0] == "assistant")

    return write


def _slots(forms: Forms, settings: Mapping[str, Any], special: set[str]) -> tuple[Slot, ...]:
    """Formats with their settings filled in, cut into special tokens and text around values."""
    names = {"{bos}": "bos", "{eos}": "eos"}
    longest_first = sorted({*names, *special}, key=len, reverse=True)
    tokens = re.compile("(" + "|".join(map(re.escape, longest_first)) + ")")
    slots: list[Slot] = []
    for form in forms:
        run = [""]  # text that values stand between
        for i, literal in enumerate(form.split(VALUE)):
            run += [""] * bool(i)
            filled = re.sub(r"\{(\w+)\}", lambda match: settings[match[1]], literal)
            for j, part in enumerate(tokens.split(filled)):
                if j % 2:
                    slots += [(tuple(run), False), ((names.get(part, part),), True)]
                    run = [""]
                else:
                    run[-1] += part
        slots.append((tuple(run), False))
    return tuple(slot for slot in slots if slot != (("",), False))


def _fill(slots: Sequence[Slot], value: str, trained: bool) -> Iterator[Piece]:
    """The pieces of a turn. The value goes in last, so nothing in it is parsed."""
    for texts, special in slots:
        if text := texts[0] if special else value.join(texts):
            yield Piece(text, trained, special)
