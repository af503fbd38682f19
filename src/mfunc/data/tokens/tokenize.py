"""Pieces of text to token ids and labels."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain, compress, count
from operator import not_
from typing import Any

import numpy as np

from mfunc.data.check import flag
from mfunc.data.columns import IGNORED_LABEL, Columns, kinds, num_rows, origin_of, row_name
from mfunc.data.compose import Apply, Counts, transform
from mfunc.data.dialogue.template import Piece
from mfunc.data.ragged import Ragged, offsets_of

PAIR = ("chosen_", "rejected_")  # the two sides of a row of preferences
BOS, EOS = Piece("bos", special=True), Piece("eos", trained=True, special=True)


@transform
def tokenize(tokenizer: Any, *, append_eos: bool | None = None, prepend_bos: bool = False) -> Apply:
    """Encode pieces (from `chat`) or plain `text` into ids and labels.

        in   pieces [('Add 1, 2.', untrained) ('3', trained) (eos, trained)]
        out  input_ids [  9   4    7   8   2]
             labels    [-100 -100 -100 8   2]      aligned with input_ids; the loss shifts, once

    Every piece is encoded on its own, `tokenizer.encode([piece])`, as MindSpeed-LLM and
    LLaMA-Factory do: no token spans a prompt and its answer, so the ids of a prompt alone, at
    generation, are those of training. A SentencePiece model with a dummy prefix adds it to every
    piece; see `sentencepiece(dummy_prefix=)`. The first token of a sample has nothing before it
    that could predict it, so its label is -100.

    Args:
      tokenizer: has `encode(list[str])`, a list of id sequences, as `sentencepiece(path)` and
        `hf_tokenizer(path)` have. For special tokens also `token_id(name)`. If it has
        `encode_ragged(list[str])`, a Ragged of the same ids, that is used.
      append_eos: end every sample with one (more) trained eos. By default rows of `text` get one,
        and `pieces` end as their template says.
      prepend_bos: begin every sample with one (more) bos, untrained.

    Returns:
      A transform to the columns `input_ids` and `labels` (Ragged int32), and `_origin`. Plain text
      is trained throughout. Pairs (`chosen_pieces`, `rejected_pieces`) give `chosen_input_ids` and
      so on. `counted` tells `samples, tokens, trained`.

    Raises:
      TypeError: when built, if the tokenizer has no `encode`.
      ValueError: naming the row, for text that is not a string or not Unicode (lone surrogates),
        an id outside the vocabulary; for a special token that the tokenizer lacks.

    Laws:
      row by row; a label is -100 or its token, or what `Piece.label` says; ids of a prompt are the
      first ids of the whole.

    Example:
      >>> class Characters:
      ...     vocab_size, eos_id = 128, 0
      ...     def encode(self, texts):
      ...         return [list(text.encode("ascii")) for text in texts]
      ...     def token_id(self, name):
      ...         return {"eos": 0}[name]
      >>> out = tokenize(Characters())({"text": ["ab"]})
      >>> out["input_ids"][0].tolist(), out["labels"][0].tolist()
      ([97, 98, 0], [-100, 98, 0])

    Source:
      MindSpeed-LLM v2.1.0 (labels are not shifted in files, every slot is encoded by itself).
    """
    if isinstance(tokenizer, str) or not callable(getattr(tokenizer, "encode", None)):
        raise TypeError(
            f"tokenize: needs a tokenizer with encode(list[str]), got {tokenizer!r}; "
            "load one with sentencepiece(path) or hf_tokenizer(path)"
        )
    if append_eos is not None:
        flag("tokenize", "append_eos", append_eos)
    flag("tokenize", "prepend_bos", prepend_bos)

    def apply(columns: Columns) -> tuple[Columns, Counts]:
        samples: Columns = {}
        counts: Counts = {"samples": 0, "tokens": 0, "trained": 0}
        for side, rows in _pieces(columns).items():
            eos = "text" in columns if append_eos is None else append_eos
            if eos or prepend_bos:
                head, tail = (BOS,) * prepend_bos, (EOS,) * eos
                rows = [(*head, *pieces, *tail) for pieces in rows]
            ids, labels = _encode(tokenizer, rows, columns)
            _refuse_foreign_ids(ids, getattr(tokenizer, "vocab_size", None), columns)
            samples[f"{side}input_ids"] = ids
            samples[f"{side}labels"] = Ragged(labels, ids.offsets)
            counts["samples"] += len(ids)
            counts["tokens"] += len(labels)
            counts["trained"] += int((labels != IGNORED_LABEL).sum())
        return {**samples, **origin_of(columns)}, counts

    return apply


def _pieces(columns: Columns) -> dict[str, Sequence[Sequence[Piece]]]:
    """The pieces of every row, or of both sides of pairs; a text is one trained piece."""
    num_rows("tokenize", columns)
    if all(f"{side}pieces" in columns for side in PAIR):
        return {side: columns[f"{side}pieces"] for side in PAIR}
    if ("pieces" in columns) == ("text" in columns):
        raise ValueError(
            f"tokenize: needs one column, 'pieces' (put chat(...) before it) or 'text', "
            f"got {kinds(columns)}"
        )
    if "pieces" in columns:
        return {"": columns["pieces"]}
    for row, text in enumerate(columns["text"]):
        if not isinstance(text, str):
            raise ValueError(
                f"tokenize: {row_name(columns, row)}: 'text' is {text!r} "
                f"({type(text).__name__}), but must be text"
            )
    return {"": [(Piece(text, trained=True),) for text in columns["text"]]}


def _encode(
    tokenizer: Any, rows: Sequence[Sequence[Piece]], columns: Columns
) -> tuple[Ragged, np.ndarray]:
    """Ids and labels of every row. A text that recurs is encoded once."""
    pieces = list(chain.from_iterable(rows))
    # By columns, in dicts that C fills: loops over pieces would take as long as the tokenizer.
    text, trained, special, label = zip(*pieces, strict=True) if pieces else ((),) * 4
    plain, named = list(compress(text, map(not_, special))), list(compress(text, special))
    texts = dict(zip(dict.fromkeys(plain), count()))
    names = dict(zip(dict.fromkeys(chain(named, filter(None, label))), count(len(texts))))
    _refuse_surrogates(texts, rows, columns)
    flat_form = getattr(tokenizer, "encode_ragged", None)  # the same without an array a text
    encoded = (flat_form or tokenizer.encode)(list(texts))
    if len(encoded) != len(texts):
        raise ValueError(f"tokenize: {tokenizer!r} gave another number of results than of texts")
    table = encoded if flat_form else Ragged.from_rows(encoded, np.int32)
    single = np.array([_token_id(tokenizer, name) for name in names], np.int32)
    places = np.arange(1, len(single) + 1) + len(table.flat)
    table = Ragged(np.concatenate([table.flat, single]), np.append(table.offsets, places))
    chosen, is_name = np.empty(len(pieces), np.int64), np.array(special, bool)
    chosen[~is_name] = list(map(texts.__getitem__, plain))
    chosen[is_name] = list(map(names.__getitem__, named))
    flat = table[chosen]
    ends = offsets_of([len(row) for row in rows])
    learned = np.repeat(np.array(trained, bool), flat.lengths)
    labels = np.where(learned, flat.values, np.int32(IGNORED_LABEL))
    for i in (i for i, name in enumerate(label) if name and len(flat[i])):
        labels[flat.offsets[i]] = table[names[label[i]]][0]
    ids = Ragged(flat.values, flat.offsets[ends])
    labels[ids.starts[ids.lengths > 0]] = IGNORED_LABEL
    return ids, labels


def _token_id(tokenizer: Any, name: str) -> int:
    """Id of a special token, or what the tokenizer would need."""
    find = getattr(tokenizer, "token_id", None)
    if find is None:
        raise ValueError(
            f"tokenize: {tokenizer!r} has no token_id(name), which the special token {name!r} needs"
        )
    return find(name)


def _refuse_surrogates(
    texts: Iterable[str], rows: Sequence[Sequence[Piece]], columns: Columns
) -> None:
    """Half of a UTF-16 pair is no character; JSON can spell one, no tokenizer can encode it."""
    try:
        "".join(texts).encode()
    except UnicodeEncodeError as error:
        half = error.object[error.start]
        row = next(i for i, row in enumerate(rows) if any(half in piece.text for piece in row))
        raise ValueError(
            f"tokenize: {row_name(columns, row)} holds the lone surrogate {half!a}, "
            "which is not a Unicode character"
        ) from None


def _refuse_foreign_ids(ids: Ragged, vocab_size: int | None, columns: Columns) -> None:
    """An id outside the vocabulary would read another row of the embedding, or crash."""
    if vocab_size is None or not len(ids.values):
        return
    wrong = (ids.values < 0) | (ids.values >= vocab_size)
    if wrong.any():
        place = int(wrong.argmax())
        row = int(np.searchsorted(ids.offsets, place, side="right")) - 1
        raise ValueError(
            f"tokenize: {row_name(columns, row)} has the id {ids.values[place]}, but the "
            f"tokenizer's vocabulary is 0..{vocab_size - 1}"
        )
