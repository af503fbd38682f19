"""MindSpeed-LLM around its files: its attention_mask, its two constraints, its training order."""

from __future__ import annotations

from typing import Any

import numpy as np

from mfunc.data.check import flag, integer


def attention_mask(segment_ids: Any, *, neat_pack: bool) -> np.ndarray:
    """The third file of a packed data set, beside `input_ids` and `labels`.

        row                       segment_ids         attention_mask
        --pack                    1 1 1 1 0           1 1 1 1 1      (`pack(..., isolate=False)`)
        --pack --neat-pack        1 1 2 2 0           1 1 2 2 0      (`pack(...)`)

    Args:
      segment_ids: integers [rows, S], as `pack` makes them.
      neat_pack: as the flag.

    Returns:
      int32 [rows, S].

    Example:
      >>> attention_mask([[1, 1, 2, 0]], neat_pack=True).tolist()
      [[1, 1, 2, 0]]

    Source:
      MindSpeed-LLM v2.1.0 `preprocess_data.py`.
    """
    segments = np.asarray(segment_ids)
    return segments.astype(np.int32) if neat_pack else np.ones(segments.shape, np.int32)


def check_neat_pack(
    *, neat_pack: bool, pack: bool | None = None, reset_position_ids: bool | None = None
) -> None:
    """Refuse what upstream's flags do not allow: nothing is returned.

    Args:
      neat_pack: `--neat-pack`, segments that do not see each other.
      pack: `--pack`, of preprocessing; None where it is not a matter.
      reset_position_ids: `--reset-position-ids`, of training; None where it is not a matter.

    Raises:
      ValueError: if `neat_pack` lacks what it needs.

    Example:
      >>> check_neat_pack(neat_pack=True, pack=False)
      Traceback (most recent call last):
      ValueError: --neat-pack tells the samples of a packed row apart: it needs --pack

    Source:
      MindSpeed-LLM v2.1.0 (its HEAD asks for `--reset-attention-mask` in training instead).
    """
    settings = {"neat_pack": neat_pack, "pack": pack, "reset_position_ids": reset_position_ids}
    for name, value in settings.items():
        if value is not None:
            flag("check_neat_pack", name, value)
    if neat_pack and pack is False:
        raise ValueError("--neat-pack tells the samples of a packed row apart: it needs --pack")
    if neat_pack and reset_position_ids is False:
        raise ValueError(
            "--neat-pack in training needs --reset-position-ids: without it, positions run "
            "through the row and every sample sees those before it"
        )


def training_order(
    rows: int,
    *,
    samples: int,
    seed: int = 1234,
    shuffle: bool = True,
    global_batch_size: int | None = None,
    start: int = 0,
) -> np.ndarray:
    """Which row of a set upstream's training takes when.

        5 rows, 8 samples: one epoch in the order of a random state, then another of the same state

    Args:
      rows: how many rows the split has.
      samples: how many are needed at least: iterations times `--global-batch-size`.
      seed: `--seed`.
      shuffle: false for `--no-shuffle`.
      global_batch_size: with `--padded-samples`, its flag: every epoch is filled up to a multiple
        with the first rows of the split. None without.
      start: the split's first row. Upstream fills up from row 0 of the whole set whatever the
        split is, so that validation sees rows of training; here it is the split's own.

    Returns:
      int64 [n]: whole epochs, n >= `samples`.

    Example:
      >>> training_order(3, samples=4, shuffle=False).tolist()
      [0, 1, 2, 0, 1, 2]

    Source:
      MindSpeed-LLM v2.1.0 `DecoderPackedMTFDataset`; equal where `start` is 0.
    """
    integer("training_order", "rows", rows, least=1)
    integer("training_order", "samples", samples, least=1)
    integer("training_order", "seed", seed, least=0, most=2**32 - 1)
    integer("training_order", "start", start, least=0)
    flag("training_order", "shuffle", shuffle)
    missing = 0
    if global_batch_size is not None:
        missing = -rows % integer("training_order", "global_batch_size", global_batch_size, least=1)
    epoch = start + np.arange(rows + missing) % rows
    state = np.random.RandomState(seed)  # the generator that upstream draws from
    order = [epoch.copy() for _ in range(-(-samples // len(epoch)))]
    for one in order if shuffle else ():
        state.shuffle(one)
    return np.concatenate(order)
