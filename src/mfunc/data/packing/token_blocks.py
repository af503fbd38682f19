"""A stream of tokens cut into blocks of one length, as pretraining takes them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from mfunc.data.check import integer
from mfunc.data.columns import Columns, token_columns
from mfunc.data.compose import Counts, counted_chunks


def blocks(chunks: Iterable[Any], length: int) -> Iterator[tuple[Columns, Counts]]:
    """Lay all samples end to end, over the ends of chunks, and cut at every `length` tokens.

        in   input_ids [1 7 8 2] [1 9 2]        length 3
        out  input_ids [1 7 8] [2 1 9]          2 is left over

    What is left at the end is no block: it is dropped and counted. `pack(strategy="concat")` pads
    it instead, and numbers the samples of a row, but needs all samples at once.

    Args:
      chunks: columns with Ragged `input_ids`, or pairs (columns, counts) as `counted` gives them.
        One chunk and less than a block are in memory at a time.
      length: tokens in a block; S + 1 for models that feed the first S and predict the last S.

    Returns:
      An iterator of pairs: columns [blocks, length] of the names of the Ragged ones; and the
      chunk's counts with `blocks.rows`, `blocks.tokens` and, in the last pair, `blocks.lost`.

    Raises:
      ValueError: for a chunk without Ragged `input_ids`, or with other columns than the first.

    Laws:
      independent of how the samples are cut into chunks; the blocks joined are the samples joined,
      but for `blocks.lost < length` tokens.

    Example:
      >>> from mfunc.data import Ragged
      >>> made = list(blocks([{"input_ids": Ragged.from_rows([[1, 7, 8, 2], [1, 9, 2]])}], 3))
      >>> made[0][0]["input_ids"].tolist(), made[-1][1]
      ([[1, 7, 8], [2, 1, 9]], {'blocks.lost': 1})

    Source:
      MindFormers `llama_preprocess.py --dataset_type wiki`: the same rows.
    """
    integer("blocks", "length", length, least=1)
    return _blocks(chunks, length)


def _blocks(chunks: Iterable[Any], length: int) -> Iterator[tuple[Columns, Counts]]:
    rest: dict[str, np.ndarray] | None = None
    for chunk, counts in counted_chunks(chunks):
        tokens = {name: c.flat for name, c in token_columns("blocks", chunk).items()}
        if rest is not None and rest.keys() != tokens.keys():
            raise ValueError(f"blocks: a chunk has {list(tokens)}, the first has {list(rest)}")
        joined = tokens if rest is None else {n: _join(rest[n], tokens[n]) for n in tokens}
        size = len(joined["input_ids"]) // length * length
        out = {name: values[:size].reshape(-1, length) for name, values in joined.items()}
        rest = {name: values[size:].copy() for name, values in joined.items()}
        yield out, {**counts, "blocks.rows": size // length, "blocks.tokens": size}
    if rest is not None:
        none = {name: values[:0].reshape(0, length) for name, values in rest.items()}
        yield none, {"blocks.lost": len(rest["input_ids"])}


def _join(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.concatenate([a, b])
