"""Known data sets, as `read` gives their files, to the rows that `sft` and `tokenize` take."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from mfunc.data.check import choice
from mfunc.data.columns import Columns, num_rows, origin_of, row_name, text_at, value_at
from mfunc.data.compose import Apply, Counts, transform

FORMS = {
    "squad": (
        "Read the passage and answer the question below.\n\n"
        "### Instruction:\n{context}\n\n### Input:\n{question}\n\n### Response:"
    ),
    "cmrc2018": "阅读文章：{context}\n问：{question}\n答：",
}
KEEP = ("first", "all")


@transform
def squad(*, prompt: str = "squad", questions: str = "all", answers: str = "first") -> Apply:
    r"""Questions about passages to prompts and answers; one row of the input is one file.

        in   data [[{"paragraphs": [{"context": "It is 3.", "qas": [
                 {"question": "What?", "answers": [{"text": "3"}]}]}]}]]
        out  prompt ["Read the passage ... It is 3. ... What?\n\n### Response:"]  answer ["3"]

    Args:
      prompt: `"squad"` or `"cmrc2018"`, the words around passage and question.
      questions: `"all"`, or the `"first"` of each passage.
      answers: `"first"` of each question (the others are what further readers marked, mostly the
        same), or `"all"`, a row for each.

    Returns:
      A transform of `read("train-v1.1.json")` to the columns `prompt` and `answer`, which
      `sft("default")` takes. `counted` tells `questions, rows, unanswered` (questions without an
      answer, as in SQuAD 2.0: they are left out) and `skipped` (questions that are not the first).

    Raises:
      ValueError: when built, for an unknown setting; for a file of another structure, with the
        place in it.

    Laws:
      row by row, a row being a file; `questions + skipped` is the number of all questions.

    Example:
      >>> qas = [{"question": "What?", "answers": [{"text": "3"}]}]
      >>> file = {"data": [[{"paragraphs": [{"context": "It is 3.", "qas": qas}]}]]}
      >>> squad(prompt="cmrc2018")(file)
      {'prompt': ['阅读文章：It is 3.\n问：What?\n答：'], 'answer': ['3']}

    Source:
      MindFormers 1.3 `squad_reader`, `cmrc2018_reader`: `questions="first", answers="first"`.
    """
    choice("squad", "prompt", prompt, FORMS)
    choice("squad", "questions", questions, KEEP)
    choice("squad", "answers", answers, KEEP)
    before, between, after = re.split(r"\{(?:context|question)\}", FORMS[prompt])

    def apply(columns: Columns) -> tuple[Columns, Counts]:
        counts = dict.fromkeys(("questions", "rows", "unanswered", "skipped"), 0)
        prompts: list[str] = []
        texts: list[str] = []
        for context, asked in _passages(columns):
            taken = asked if questions == "all" else asked[:1]
            counts["questions"] += len(taken)
            counts["skipped"] += len(asked) - len(taken)
            for question, given in taken:
                counts["unanswered"] += not given
                kept = given if answers == "all" else given[:1]
                prompts += [f"{before}{context}{between}{question}{after}"] * len(kept)
                texts += kept
        return {"prompt": prompts, "answer": texts}, {**counts, "rows": len(texts)}

    return apply


@transform
def ag_news() -> Apply:
    """Lines of AG News to sentences and classes.

        in   text ['"3","Title","Some words."']
        out  sentence ["Title. Some words."]  label [2]

    Returns:
      A transform of the column `text`, the lines of a file, to the columns `sentence` and `label`
      (int32 [n], from 0), which `sft("ag-news")` takes.

    Raises:
      ValueError: naming the row, for a line that is not three fields of comma-separated values, or
        a class that is not 1..4.

    Laws:
      row by row.

    Example:
      >>> out = ag_news()({"text": ['"3","Title","Some ""good"" words."']})
      >>> out["sentence"], out["label"].tolist()
      (['Title. Some "good" words.'], [2])

    Source:
      MindFormers 1.3 `agnews_reader`, which leaves a quotation mark in a field doubled.
    """

    def apply(columns: Columns) -> Columns:
        sentences, labels = [], []
        for row in range(num_rows("ag_news", columns)):
            line = text_at("ag_news", columns, "text", row).strip()
            fields = _fields(line)
            if len(fields) != 3 or fields[0] not in ("1", "2", "3", "4"):
                raise ValueError(
                    f"ag_news: {row_name(columns, row)} is {line[:60]!r}, "
                    'but must be "class 1..4","title","description"'
                )
            sentences.append(f"{fields[1]}. {fields[2]}")
            labels.append(int(fields[0]) - 1)
        label = np.array(labels, np.int32)
        return {"sentence": sentences, "label": label, **origin_of(columns)}

    return apply


@transform
def wikitext(*, unit: str = "paragraph") -> Apply:
    r"""WikiText files to clean texts; one row of the input is one file.

        in   text [" = Title = \n \n It is 3 @.@ 5 m , or so . \n"]
        out  text ["It is 3.5 m, or so."]

    Headings (lines that begin with "=") are left out, as are the spaces and marks that WikiText
    puts around punctuation. Its "<unk>" is text like any other.

    Args:
      unit: `"paragraph"`: what blank lines separate; each becomes a row. `"file"`: all sections
        between headings, their lines joined by spaces, joined by newlines to one row.

    Returns:
      A transform of the column `text` to the column `text`; `tokenize` and
      `pack(S + 1, strategy="concat")` make rows of S + 1 tokens of it.

    Raises:
      ValueError: when built, for an unknown unit; naming the row, for what is not text.

    Laws:
      row by row, a row being a file.

    Example:
      >>> file = " = Title = \n \n It is 3 @.@ 5 m , or so . \n \n More ( a lot ) \n"
      >>> wikitext()({"text": [file]})
      {'text': ['It is 3.5 m, or so.', 'More (a lot)']}

    Source:
      MindFormers 1.3 `llama_preprocess.py --dataset_type wiki` for `"paragraph"`, `wikitext_reader`
      for `"file"`, which loses the last section. Their tokenizer makes one token of
      "<unk>".
    """
    choice("wikitext", "unit", unit, ("paragraph", "file"))

    def apply(columns: Columns) -> Columns:
        files = range(num_rows("wikitext", columns))
        texts = (text_at("wikitext", columns, "text", row) for row in files)
        texts = (text.replace("\r\n", "\n") for text in texts)
        if unit == "paragraph":
            return {"text": [part for text in texts for part in _paragraphs(text)]}
        return {"text": ["\n".join(_sections(text)) for text in texts]}

    return apply


def clean_wikitext(text: str, *, stops: bool = False) -> str:
    """The text without WikiText's spaces around punctuation and marks within numbers.

    Args:
      text: lines of a file.
      stops: also join a full stop to what is before it where no space follows, at a line's end.

    Example:
      >>> clean_wikitext('He said " yes " : 10 @,@ 000 @-@ fold ( or so ) .')
      'He said "yes": 10,000-fold (or so) .'
    """
    for old, new in _FIRST:
        text = text.replace(old, new)
        if stops and old == " . ":
            text = text.replace(" .", ".")
    for pair in ("()", "[]", "{}", '""', "''"):
        text = _tighten(text, *pair)
    for old, new in _LAST:
        text = text.replace(old, new)
    return text


_FIRST = (
    ("s '", "s'"),
    (" @-@ ", "-"),
    (" @,@ ", ","),
    (" @.@ ", "."),
    *((f" {mark} ", f"{mark} ") for mark in ":;.!?,"),
)
_LAST = (
    ("= = = =", "===="),
    ("= = =", "==="),
    ("= =", "=="),
    (" ° ", "°"),
    (" \n", "\n"),
    ("\n ", "\n"),
    (" N ", " 1 "),
    (" 's", "'s"),
)


def _fields(line: str) -> list[str]:
    """Comma-separated values of one line; none if it is not that."""
    # The limit of a field is one of the whole process, which other packages change.
    if "\n" in line or "\r" in line or len(line) > 131_072:
        return []
    try:
        return next(csv.reader([line], strict=True), [])
    except csv.Error:  # an open quotation mark
        return []


def _tighten(text: str, opening: str, closing: str) -> str:
    """No space inside of brackets. Behind the last closing one nothing is searched: linear time."""
    head, last, tail = text.rpartition(closing)
    inside = re.compile(rf"{re.escape(opening)}([^{re.escape(closing)}]*){re.escape(closing)}")
    return inside.sub(lambda m: opening + m[1].strip() + closing, head + last) + tail


def _paragraphs(text: str) -> Iterator[str]:
    """What blank lines separate, but headings."""
    stripped = (part.strip() for part in clean_wikitext(text).split("\n\n"))
    return (part for part in stripped if part and not part.startswith("="))


def _sections(text: str) -> Iterator[str]:
    """What headings separate, each on one line."""
    section: list[str] = []
    for line in (*map(str.strip, text.split("\n")), "=="):
        if line.startswith("=") and line.endswith("="):
            if section:
                yield " ".join(section).strip()
            section = []
        elif line:
            section.append(clean_wikitext(line, stops=True))


def _passages(columns: Columns) -> Iterator[tuple[str, list[tuple[str, list[str]]]]]:
    """(passage, [(question, answers), ...]) in the order of the files."""
    for row in range(num_rows("squad", columns)):
        articles = value_at("squad", columns, "data", row)
        for place, article in _items(f"{row_name(columns, row)}: data", articles):
            for spot, passage in _items(f"{place}.paragraphs", _of(place, article, "paragraphs")):
                asked = [
                    (
                        _text(where, qa, "question"),
                        [
                            _text(at, answer, "text")
                            for at, answer in _items(f"{where}.answers", _of(where, qa, "answers"))
                        ],
                    )
                    for where, qa in _items(f"{spot}.qas", _of(spot, passage, "qas"))
                ]
                yield _text(spot, passage, "context"), asked


def _items(place: str, value: Any) -> Iterator[tuple[str, Any]]:
    """The items of what must be a list, each with its place."""
    if not isinstance(value, list):
        raise ValueError(f"squad: {place} is {_short(value)}, but must be a list")
    return ((f"{place}[{i}]", item) for i, item in enumerate(value))


def _of(place: str, value: Any, key: str) -> Any:
    if not isinstance(value, Mapping) or key not in value:
        raise ValueError(f"squad: {place} is {_short(value)}, but must be an object with {key!r}")
    return value[key]


def _text(place: str, value: Any, key: str) -> str:
    text = _of(place, value, key)
    if not isinstance(text, str):
        raise ValueError(f"squad: {place}.{key} is {_short(text)}, but must be text")
    return text


def _short(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 60 else shown[:57] + "..."
