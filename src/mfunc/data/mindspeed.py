"""Plain and neat pack in MindSpeed-LLM's words: its attention_mask, its two constraints."""

from __future__ import annotations

from typing import Any

import numpy as np

from mfunc.data.check import flag


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
