"""What a build did, in numbers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from mfunc.data.compose import Counts


@attrs.frozen
class BuildReport:
    """What became of the rows of some files; made by `build_dataset`.

    Args:
      counts: all that was counted, by step.
      rows_in: rows read.
      kept: samples made of them.
      cut: samples that were shortened.
      dropped: rows that became nothing, by step and reason, as `{"chat.missing_answer": 3}`.
      tokens: of all samples.
      trained: those of them that have a label.
      rows_out: rows written.
      slots: places of the rows; of rows that are not packed, `tokens`.
      segments: samples, or parts of them, in all rows.
      files: all that was written.
      invalid: the list of dropped rows, if there is one.
      seconds: from beginning to end.
      peak_bytes: most memory that this process (not its workers) has had, where the system tells.
    """

    counts: Counts = attrs.field(repr=False)
    rows_in: int
    kept: int
    cut: int
    dropped: dict[str, int]
    tokens: int
    trained: int
    rows_out: int
    slots: int
    segments: int
    files: tuple[Path, ...] = attrs.field(repr=False)
    invalid: Path | None
    seconds: float
    peak_bytes: int | None

    @property
    def fill(self) -> float:
        """Tokens over slots, 0..1; 1 for no rows."""
        return self.counts.get("pack.tokens", self.tokens) / self.slots if self.slots else 1.0

    @property
    def tokens_per_second(self) -> float:
        """Of wall time."""
        return self.tokens / self.seconds


def report_of(
    content: Mapping[str, Any],
    *,
    files: tuple[Path, ...],
    invalid: Path | None,
    seconds: float,
    peak_bytes: int | None,
) -> BuildReport:
    """The report of a set, from what its sidecar tells.

    Args:
      content: the sidecar.
      files: as in the report; so too the rest.
      invalid: see there.
      seconds: see there.
      peak_bytes: see there.
    """
    counts: dict[str, int] = dict(content["counts"])
    tokens = counts.get("build.tokens", 0)
    return BuildReport(
        counts=counts,
        rows_in=counts.get("build.rows", 0),
        kept=counts.get("build.samples", 0),
        cut=sum(n for name, n in counts.items() if name.endswith(".cut")),
        dropped=_dropped(counts),
        tokens=tokens,
        trained=counts.get("build.trained", 0),
        rows_out=content["rows"],
        slots=counts.get("pack.slots", tokens),
        segments=counts.get("pack.segments", content["rows"]),
        files=files,
        invalid=invalid,
        seconds=seconds,
        peak_bytes=peak_bytes,
    )


def _dropped(counts: Counts) -> dict[str, int]:
    """Why rows are missing; where a step tells no reasons, the step itself."""
    found = {}
    for name, count in counts.items():
        step, what, reason = (*name.split(".", 2), "")[:3]
        told = any(other.startswith(f"{step}.dropped.") for other in counts)
        if count and what == "dropped" and (reason or not told):
            found[f"{step}.{reason}" if reason else f"{step}.too_long"] = count
    if counts.get("pack.empty"):
        found["pack.empty"] = counts["pack.empty"]
    return found


def peak_memory() -> int | None:
    """The most bytes that this process has had, where the system tells (Linux)."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM:")), None)
