"""Pictures of what is better seen than read: loss curves, packs and masks. Extra `plot`."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mfunc.data.mask import segment_mask


def _pyplot() -> Any:
    """Import matplotlib without a screen."""
    try:
        import matplotlib as mpl
    except ImportError as error:
        raise ImportError("mfunc.draw needs the extra `plot`: pip install 'mfunc[plot]'") from error
    mpl.use("Agg")
    from matplotlib import pyplot

    return pyplot


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
    figure, axes = _pyplot().subplots(
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


def _running_mean(values: Sequence[float], share: float = 0.95) -> list[float]:
    """Return the mean of about the last 20 values, at every step."""
    means, weight, total = [], 0.0, 0.0
    for value in values:
        weight, total = share * weight + 1, share * total + value
        means.append(total / weight)
    return means


def pack(
    path: str | os.PathLike[str],
    segment_ids: np.ndarray,
    labels: np.ndarray | None = None,
    rows: int = 12,
) -> Path:
    """Draw packed rows, and the zigzag mask of the first one beside them.

    Args:
      path: the PNG to write.
      segment_ids: int [R, S]; 0 is padding (white).
      labels: int [R, S]; tokens with -100 are drawn pale.
      rows: how many rows at most.

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
    pyplot = _pyplot()
    figure, (left, right) = pyplot.subplots(
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
        title=f"{len(shown)} of {len(segment_ids)} rows, {filled:.2%} filled",
        xlabel="position",
        ylabel="row",
    )
    own = segment_ids[0]
    allowed = segment_mask(own)
    queries = _colours(own[None], None)[0][:, None]
    picture = np.where(allowed[..., None], queries, 1.0)
    right.imshow(picture, interpolation="none")
    right.set(
        title=f"who may look at whom: row 0, {own.max()} documents", xlabel="key", ylabel="query"
    )
    return _save(figure, path)


def _colours(segment_ids: np.ndarray, labels: np.ndarray | None) -> np.ndarray:
    """Return RGB [R, S, 3]: neighbours differ, padding is white, untrained tokens are pale."""
    palette = np.array(_pyplot().get_cmap("tab10").colors)
    colours = palette[(segment_ids - 1) % len(palette)]
    if labels is not None:
        pale = (labels == -100)[..., None]
        colours = np.where(pale, 0.45 * colours + 0.55, colours)
    return np.where(segment_ids[..., None] == 0, 1.0, colours)


def _save(figure: Any, path: str | os.PathLike[str]) -> Path:
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(target, dpi=120)
    _pyplot().close(figure)
    return target
