"""All layouts, each measured in a process of its own: a table and a figure."""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from mfunc import draw
from mfunc.checkpoint import write_whole
from mfunc.comparison.measure import measure
from mfunc.comparison.settings import Settings


def compare(
    settings: Settings, output: str | Path, report: Callable[[str], Any] = print
) -> dict[str, Any]:
    """Measure every layout, and write padding.md, padding.png and padding.json.

    Args:
      settings: of the comparison.
      output: folder, made when it is missing.
      report: gets lines of text.

    Returns:
      What `measure` returns, by layout.

    Raises:
      FileNotFoundError, ValueError: the rows or the tokenizer do not exist, or a sample is longer
        than `seq_length`.
      ImportError: the extra `plot` is missing.
    """
    draw.pyplot()  # before an hour of measuring, not after it
    root, found = Path(output), {}
    root.mkdir(parents=True, exist_ok=True)
    for name in settings.layouts:
        report(f"{name} ...")
        # A fresh process: its memory and its compiled graphs are its own.
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            found[name] = pool.submit(measure, name, settings).result()
        if "own_graphs" in found[name]:
            report(said_of_graphs(found[name]))
    write_whole(root / "padding.json", (json.dumps(found, indent=2) + "\n").encode())
    text = table(found, settings)
    write_whole(root / "padding.md", (text + "\n").encode())
    report(text)
    figure(root / "padding.png", found)
    return found


def said_of_graphs(row: Mapping[str, Any]) -> str:
    """Say which lengths got graphs of their own, and what these save.

    Example:
      >>> said_of_graphs({"own_graphs": (17, 33), "dynamic_over_static": 1.4})
      'a step in the graph for all lengths takes 1.40 x one in its own; own graphs: 17, 33'
    """
    lengths = ", ".join(map(str, row["own_graphs"])) or "none"
    return (
        f"a step in the graph for all lengths takes {row['dynamic_over_static']:.2f} x one in its "
        f"own; own graphs: {lengths}"
    )


def table(found: Mapping[str, Mapping[str, Any]], settings: Settings) -> str:
    """Return the results in Markdown; the rates beside that of the first layout."""
    first = next(iter(found))
    lines = [
        f"S = {settings.seq_length}, {settings.batch_size} samples a padded batch, "
        f"{settings.pack_rows} row(s) a packed one, {settings.layers} layers of "
        f"{settings.hidden_size}; measured on {settings.tokens:,} real tokens or more"
        + _fewer(settings),
        "",
        f"| layout | real tokens/s | x {first} | padding | graphs | compile s | peak MB | epoch |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    lines += [
        f"| {name} | {row['rate']:,.0f} | {row['rate'] / found[first]['rate']:.2f} | "
        f"{row['padding']:.1%} | {row['graphs']} | {row['compile_seconds']:.0f} | "
        f"{row['megabytes']:,.0f} | {row['epoch_seconds'] / 60:,.0f} min |"
        for name, row in found.items()
    ]
    return "\n".join(lines)


def _fewer(settings: Settings) -> str:
    """Say how the static layout was measured, if it is among them."""
    if "static" not in settings.layouts:
        return ""
    rows = settings.static_rows or settings.batch_size
    return f", static on {settings.static_tokens:,} in steps of {rows} rows"


def figure(path: Path, found: Mapping[str, Mapping[str, Any]]) -> None:
    """Draw the rates as bars, and the losses over the real tokens seen."""
    picture, (bars, curves) = draw.pyplot().subplots(1, 2, figsize=(11, 4), layout="constrained")
    bars.barh(list(found), [row["rate"] for row in found.values()], color="#4878a8")
    bars.invert_yaxis()
    bars.set_xlabel("real tokens a second, compilation counted in")
    for name, row in found.items():
        curves.plot(np.cumsum(row["tokens"]), row["losses"], marker=".", label=name)
    curves.set_xlabel("real tokens")
    curves.set_ylabel("loss, nats a token")
    curves.legend(frameon=False)
    picture.savefig(path, dpi=120)
