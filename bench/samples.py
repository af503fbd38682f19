"""Samples to measure with: drawn as Alpaca's are, or read from a file."""

from __future__ import annotations

from typing import Any

import numpy as np

import mfunc.data as md


def drawn_lengths(count: int, seq_length: int) -> np.ndarray:
    """As Alpaca's, with a mean of about 120."""
    drawn = np.random.default_rng(0).lognormal(4.65, 0.5, count)
    return np.clip(drawn, 30, seq_length).astype(np.int64)


def drawn_samples(count: int, seq_length: int) -> dict[str, md.Ragged]:
    """Random ids, the first half of each sample untrained."""
    lengths = drawn_lengths(count, seq_length)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    ids = np.random.default_rng(1).integers(3, 32_000, offsets[-1], np.int32)
    place = np.arange(len(ids)) - np.repeat(offsets[:-1], lengths)
    labels = np.where(place < np.repeat(lengths // 2, lengths), -100, ids).astype(np.int32)
    return {"input_ids": md.Ragged(ids, offsets), "labels": md.Ragged(labels, offsets)}


def read_samples(data: str, tokenizer: str, seq_length: int) -> dict[str, Any]:
    """A file of alpaca rows through the whole pipeline."""
    prepare = md.compose(
        md.truncate(seq_length, policy="source_first"),
        md.tokenize(md.sentencepiece(tokenizer)),
        md.chat(style="alpaca", template="alpaca"),
    )
    return prepare(md.concat(list(md.read(data))))
