"""Pictures of what is better seen than read: loss curves, packs and masks. Extra `plot`."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mfunc.data.packing.mask import segment_mask


def pyplot() -> Any:
    """Import matplotlib without a screen.

    Raises:
      ImportError: the extra `plot` is not installed.
    """
    try:
        import matplotlib as mpl
    except ImportError as error:
        raise ImportError("mfunc.draw needs the extra `plot`: pip install 'mfunc[plot]'") from error
    mpl.use("Agg")
    from matplotlib import pyplot as module

    return module


def losses(
    path: str | os.PathLike[str],
    curves: Mapping[str, Sequence[float]],
    title: str = "training loss",
) -> Path:
    """Draw loss curves side by side, each step as a dot and a running mean as a line.

    Args:
      path: the PNG to write; its folder is made when it is missing.
      curves: name -> loss of every step, nats a token.
      title: what stands above.

    Returns:
      The path.

    Raises:
      ImportError: the extra `plot` is not installed.
      ValueError: there is no curve, or one has no step.

    Example:
      >>> import tempfile
      >>> losses(Path(tempfile.mkdtemp()) / "loss.png", {"pretrain": [3.0, 2.0, 1.5]}).name
      'loss.png'
    """
    if not curves or not all(len(values) for values in curves.values()):
        raise ValueError("draw.losses: every curve needs at least one step")
    figure, axes = pyplot().subplots(
        1, len(curves), figsize=(5 * len(curves), 3.4), squeeze=False, layout="constrained"
    )
    for axis, (name, values) in zip(axes[0], curves.items(), strict=True):
        steps = np.arange(1, len(values) + 1)
        axis.plot(steps, values, ".", color="#9db8d2", markersize=3)
        axis.plot(steps, _running_mean(values), color="#1f4e79", linewidth=1.8)
        axis.set(title=name, xlabel="step", ylim=(0, None))
        axis.spines[["top", "right"]].set_visible(False)
    axes[0][0].set_ylabel("nats a token")
    figure.suptitle(title)
    return _save(figure, path)


def training(path: str | os.PathLike[str], rows: Sequence[Mapping[str, Any]]) -> Path:
    """Draw the log of a run: the loss of each step, its running mean, and what was evaluated.

    Args:
      path: the PNG to write; its folder is made when it is missing.
      rows: metrics with `step` and `loss`, as `mf.train.read_log` reads them; others whose names
        end in `_loss` are drawn where they are there. `None` and NaN are left out.

    Returns:
      The path.

    Raises:
      ImportError: the extra `plot` is not installed.
      ValueError: no row has a loss.

    Example:
      >>> import tempfile
      >>> rows = [{"step": 1, "loss": 3.0}, {"step": 2, "loss": 2.0, "eval_loss": 2.5}]
      >>> training(Path(tempfile.mkdtemp()) / "loss.png", rows).name
      'loss.png'
    """
    steps, losses = _column(rows, "loss")
    if not steps:
        raise ValueError("draw.training: no row has a loss")
    figure, axis = pyplot().subplots(figsize=(7, 4), layout="constrained")
    axis.set_prop_cycle(color=["#c8553d", "#588157", "#8d6a9f", "#b08968"])
    axis.plot(steps, losses, ".", color="#9db8d2", markersize=3)
    axis.plot(steps, _running_mean(losses), color="#1f4e79", linewidth=1.8, label="loss")
    measured = sorted({key for row in rows for key in row if key.endswith("_loss")})
    for name in measured:
        if name != "running_loss":
            axis.plot(*_column(rows, name), "o-", markersize=4, linewidth=1.2, label=name)
    axis.set(title="training loss", xlabel="step", ylabel="nats a token", ylim=(0, None))
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False)
    return _save(figure, path)


def _column(rows: Sequence[Mapping[str, Any]], name: str) -> tuple[list[int], list[float]]:
    """Return the steps at which a metric is a number, and its values."""
    pairs = [(row["step"], row[name]) for row in rows if row.get(name) is not None]
    finite = [(step, value) for step, value in pairs if np.isfinite(value)]
    return [step for step, _ in finite], [value for _, value in finite]


def _running_mean(values: Sequence[float], share: float = 0.95) -> list[float]:
    """Return the mean of about the last 20 values, at every step."""
    means, weight, total = [], 0.0, 0.0
    for value in values:
        weight, total = share * weight + 1, share * total + value
        means.append(total / weight)
    return means


def lengths(
    path: str | os.PathLike[str],
    lengths: np.ndarray,
    trained: np.ndarray | None = None,
    seq_length: int | None = None,
) -> Path:
    """Draw how long samples are.

    Some samples are often ten times longer than all others. If so, they are counted at the right
    edge and not drawn.

    Args:
      path: the PNG to write; its folder is made when it is missing.
      lengths: int [samples], tokens of each.
      trained: int [samples], those that are trained: an outline in front.
      seq_length: S, a line; or where it is beyond the edge, words.

    Returns:
      The path.

    Raises:
      ImportError: the extra `plot` is not installed.
      ValueError: there is no sample.

    Example:
      >>> import tempfile
      >>> lengths(Path(tempfile.mkdtemp()) / "lengths.png", np.array([3, 5, 5, 9])).name
      'lengths.png'
    """
    if not len(lengths):
        raise ValueError("draw.lengths: there is no sample")
    figure, axis = pyplot().subplots(figsize=(9, 4.2), layout="constrained")
    edge, bins = _range(lengths)
    axis.hist(lengths[lengths <= edge], bins, color="#9db8d2", label="tokens")
    if trained is not None:
        axis.hist(
            trained[trained <= edge], bins, histtype="step", color="#c8553d", linewidth=1.8,
            label="trained tokens",
        )  # fmt: skip
    for percent in (50, 90, 99):
        at = int(np.percentile(lengths, percent, method="inverted_cdf"))
        axis.axvline(at, color="#555555", linewidth=0.8, linestyle=":")
        _words(axis, f"{percent} %\n{at:,}", at, 1, offset=3)
    if beyond := int((lengths > edge).sum()):
        _words(axis, f"{beyond:,} longer,\nup to {lengths.max():,} →", edge, 0.2, offset=-3)
    note = "" if seq_length is None else f", S = {seq_length:,}"
    if seq_length is not None and seq_length <= edge:
        axis.axvline(seq_length, color="#1f4e79", linewidth=1.8, label=note[2:])
    axis.set(
        title=f"{len(lengths):,} samples, {int(lengths.sum()):,} tokens{note}",
        xlabel="tokens of a sample",
        ylabel="samples",
        xlim=(0, bins[-1]),
    )
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False, loc="center right")
    return _save(figure, path)


def _range(lengths: np.ndarray) -> tuple[int, np.ndarray]:
    """The longest length that is drawn, and the edges of the bars."""
    longest, usual = int(lengths.max()), int(np.percentile(lengths, 99.5))
    edge = longest if longest <= 1.5 * usual else max(int(1.2 * usual), 1)
    step = max(1, -(-edge // min(80, 20 + int(len(lengths) ** 0.5))))
    return edge, np.arange(0, edge + 1 + step, step) - 0.5


def _words(axis: Any, text: str, x: float, height: float, *, offset: int) -> None:
    """Small words at x, to the right of it or, with an offset below 0, to the left."""
    axis.annotate(
        text, (x, height), xycoords=("data", "axes fraction"), xytext=(offset, -4),
        textcoords="offset points", fontsize=8, color="#555555", va="top",
        ha="left" if offset > 0 else "right",
    )  # fmt: skip


def pack(
    path: str | os.PathLike[str],
    segment_ids: np.ndarray,
    labels: np.ndarray | None = None,
    rows: int = 12,
    title: str = "",
) -> Path:
    """Draw packed rows, and the zigzag mask of the first one beside them.

    Args:
      path: the PNG to write.
      segment_ids: int [R, S]; 0 is padding (white).
      labels: int [R, S]; tokens with -100 are drawn pale.
      rows: how many rows at most.
      title: what they are, in front of how many there are.

    Returns:
      The path.

    Raises:
      ImportError: the extra `plot` is not installed.
      ValueError: there is no row.

    Example:
      >>> import tempfile
      >>> pack(Path(tempfile.mkdtemp()) / "pack.png", np.array([[1, 1, 2, 0]])).name
      'pack.png'
    """
    if segment_ids.ndim != 2 or not len(segment_ids):
        raise ValueError(
            f"draw.pack: segment_ids has shape {segment_ids.shape}; it must be [rows, S]"
        )
    figure, (left, right) = pyplot().subplots(
        1, 2, figsize=(12, 5), width_ratios=(1.4, 1), layout="constrained"
    )
    shown = segment_ids[:rows]
    left.imshow(
        _colours(shown, None if labels is None else labels[:rows]),
        aspect="auto",
        interpolation="none",
    )
    filled = float((segment_ids > 0).mean())
    left.set(
        title=f"{title}{len(shown)} of {len(segment_ids):,} rows, {filled:.2%} filled",
        xlabel="position" + " (pale: not trained)" * (labels is not None),
        ylabel="row",
    )
    own = segment_ids[0]
    allowed = segment_mask(own)
    queries = _colours(own[None], None)[0][:, None]
    picture = np.where(allowed[..., None], queries, 1.0)
    right.imshow(picture, interpolation="none")
    documents = int(own.max())
    count = f"{documents} document{'s' * (documents != 1)}"
    right.set(title=f"who may look at whom: row 0, {count}", xlabel="key", ylabel="query")
    return _save(figure, path)


def _colours(segment_ids: np.ndarray, labels: np.ndarray | None) -> np.ndarray:
    """Return RGB [R, S, 3]: neighbours differ, padding is white, untrained tokens are pale."""
    palette = np.array(pyplot().get_cmap("tab10").colors)
    colours = palette[(segment_ids - 1) % len(palette)]
    if labels is not None:
        pale = (labels == -100)[..., None]
        colours = np.where(pale, 0.45 * colours + 0.55, colours)
    return np.where(segment_ids[..., None] == 0, 1.0, colours)


def _save(figure: Any, path: str | os.PathLike[str]) -> Path:
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(target, dpi=120)
    pyplot().close(figure)
    return target
