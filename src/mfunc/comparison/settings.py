"""What is compared."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs

# Name -> what becomes of the rows.
LAYOUTS = {
    "static": "every sample padded to the longest length there may be",
    "dynamic": "every batch padded to its longest sample, one graph for all lengths",
    "rounded": "lengths rounded up coarsely, a graph for each",
    "both": "one graph for all lengths, and graphs of their own for those that come often",
    "buckets": "dynamic, and samples of like length share batches",
    "plain_pack": "rows filled with samples that see each other",
    "neat_pack": "rows filled with samples that do not: attention by blocks",
}


def _known(instance: Any, attribute: Any, value: tuple[str, ...]) -> None:
    for name in value:
        if name not in LAYOUTS:
            raise ValueError(f"layouts: {name!r} is unknown; known are {', '.join(LAYOUTS)}")
    if not value:
        raise ValueError(f"layouts: none is named; known are {', '.join(LAYOUTS)}")


def _positive(instance: Any, attribute: Any, value: int | None) -> None:
    if value is not None and value < 1:
        raise ValueError(f"{attribute.name}={value}; it must be at least 1")


@attrs.frozen(kw_only=True)
class Settings:
    """A comparison: rows, model, and how much of each layout is measured.

    Attributes:
      data: alpaca rows.
      tokenizer: a SentencePiece model.
      seq_length: longest sample, and the length of static and packed rows.
      batch_size: samples of a padded batch.
      static_rows: rows of a static step, if fewer fit into memory.
      pack_rows: rows of a packed batch.
      tokens: real tokens to measure each layout on, at least two batches.
      static_tokens: the same for the static one, the slowest.
      layouts: names of `LAYOUTS`.
      hidden_size: of the model.
      layers: of the model.
      heads: of the model.
      recompute: compute layers again for the gradient.

    Raises:
      ValueError: a number is not positive, a layout is unknown.
    """

    data: Path = attrs.field(converter=Path)
    tokenizer: Path = attrs.field(converter=Path)
    seq_length: int = attrs.field(default=2048, validator=_positive)
    batch_size: int = attrs.field(default=8, validator=_positive)
    static_rows: int | None = attrs.field(default=None, validator=_positive)
    pack_rows: int = attrs.field(default=1, validator=_positive)
    tokens: int = attrs.field(default=16_000, validator=_positive)
    static_tokens: int = attrs.field(default=3_000, validator=_positive)
    layouts: tuple[str, ...] = attrs.field(
        default=tuple(LAYOUTS), converter=tuple, validator=_known
    )
    hidden_size: int = attrs.field(default=256, validator=_positive)
    layers: int = attrs.field(default=4, validator=_positive)
    heads: int = attrs.field(default=4, validator=_positive)
    recompute: bool = False
