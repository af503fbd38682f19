"""Metrics of classes: which of K is chosen, for a row or for a token. -100 is an ignored label."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

IGNORED = -100


def accuracy(predictions: ArrayLike, labels: ArrayLike) -> float:
    """Return how often the right class is chosen.

    Args:
      predictions: float [..., K], scores of which the largest is chosen; or int [...], the choice.
      labels: int [...], the right class; -100 is not counted.

    Returns:
      Percent of the labels that count. Of equal scores the first class is chosen.

    Raises:
      ValueError: shapes that do not fit, a score that is NaN, a label that is no class, nothing to
        count.
      TypeError: classes that are not integers.

    Example:
      >>> accuracy([[0.1, 0.9], [0.8, 0.2], [0.3, 0.7]], [1, 1, -100])
      50.0
      >>> accuracy([1, 0, 2, 3], [1, 0, 2, 0])
      75.0
    """
    chosen, right = choices("accuracy", predictions, labels)
    counted = right != IGNORED
    if not counted.any():
        raise ValueError("accuracy: every label is -100; nothing can be measured")
    return 100.0 * float((chosen == right)[counted].mean())


def token_accuracy(
    predictions: ArrayLike, labels: ArrayLike, segment_ids: ArrayLike | None = None
) -> tuple[float, int]:
    """Return how often the next token is predicted, and over how many trained tokens.

    Args:
      predictions: float [B, S, V] logits; or int [B, S], the token chosen at each position.
        Position t predicts token t + 1: nothing is shifted by the caller.
      labels: int [B, S], aligned with the input; -100 is not trained.
      segment_ids: int [B, S]; if given, no token predicts the first one of the next segment.

    Returns:
      Percent (0 when nothing is trained) and the count. To join batches weigh by the count, as with
      `next_token_loss`, which shifts the labels for this metric too.

    Raises:
      ValueError: shapes that do not fit, a logit that is NaN, a label that is no token.
      TypeError: tokens that are not integers.

    Laws:
      Equal for rows padded to any length and for packed rows.

    Example:
      >>> token_accuracy([[5, 8, 0]], [[-100, 5, 9]])
      (50.0, 2)
    """
    from mindspore import Tensor

    from mfunc.loss import next_targets

    chosen, right = choices("token_accuracy", predictions, labels)
    if right.ndim != 2:
        raise ValueError(f"token_accuracy: labels must be [rows, tokens], got {right.shape}")
    segments = None if segment_ids is None else np.asarray(segment_ids)
    if segments is not None and segments.shape != right.shape:
        raise ValueError(
            f"token_accuracy: segment_ids have the shape {segments.shape} but labels {right.shape}"
        )
    ids = [None if a is None else Tensor(a.astype(np.int32)) for a in (right, segments)]
    targets = next_targets(*ids).asnumpy()
    trained = targets != IGNORED
    count = int(trained.sum())
    return 100.0 * int((chosen == targets)[trained].sum()) / max(count, 1), count


def choices(where: str, predictions: ArrayLike, labels: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """The class chosen and the right one, both int [...]; scores become the best of them.

    Example:
      >>> choices("accuracy", [[0.1, 0.9]], [0])
      (array([1]), array([0]))
    """
    given = np.asarray(predictions)
    shape = np.shape(labels)
    if given.shape == shape:
        right = class_labels(where, labels, shape, 2**31)
        if given.dtype.kind not in "iu":
            raise TypeError(
                f"{where}: predictions of the labels' shape must be classes (integers), got "
                f"{given.dtype}; scores need one more axis"
            )
        return given, right
    if given.shape[:-1] != shape:
        raise ValueError(
            f"{where}: predictions have the shape {given.shape} but labels {shape}; predictions "
            "must have the same, or one more axis with a score for each class"
        )
    right = class_labels(where, labels, shape, given.shape[-1])
    scores = given if given.dtype.kind == "f" else given.astype(np.float64)
    wrong = np.isnan(scores).any(-1)
    if wrong.any():
        at = ", ".join(map(str, np.argwhere(wrong)[0]))
        raise ValueError(f"{where}: a score at index {at} is NaN; no class can be chosen there")
    return scores.argmax(-1), right


def class_labels(
    where: str, labels: ArrayLike, shape: tuple[int, ...], classes: int, *, ignored: bool = True
) -> np.ndarray:
    """Labels of that shape, each a class or, where that is allowed, -100.

    Example:
      >>> class_labels("accuracy", [0, 3], (2,), 3)
      Traceback (most recent call last):
      ValueError: accuracy: label 3 at index 1 must be one of 0..2 or -100
    """
    array = np.asarray(labels)
    if array.shape != shape:
        raise ValueError(f"{where}: labels must have the shape {shape}, got {array.shape}")
    if not array.size:
        raise ValueError(f"{where}: no labels; nothing can be measured")
    if array.dtype.kind not in "iu":
        raise TypeError(f"{where}: labels must be integers, got {array.dtype}")
    wrong = ((array < 0) | (array >= classes)) & ~(ignored & (array == IGNORED))
    if wrong.any():
        at = ", ".join(map(str, np.argwhere(wrong)[0]))
        allowed = f"0..{classes - 1}" + " or -100" * ignored
        raise ValueError(f"{where}: label {array[wrong][0]} at index {at} must be one of {allowed}")
    return array
