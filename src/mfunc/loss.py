"""Losses. Labels stand beside their tokens; only here are they shifted to "predict the next one".

All take logits, or in their place two factors of them (`nn.llama.factored`): then the means make a
few logits at a time (`cross_entropy`), and a large vocabulary costs no memory.

Shapes: B rows, S positions, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mindspore as ms
from mindspore import Tensor, ops
from mindspore.ops import operations as P

from mfunc import cross_entropy, staging
from mfunc.cross_entropy import IGNORED, judged, multiplied, weighted
from mfunc.staging import Seen, Stage
from mfunc.tree import Tree


def next_token_loss(
    logits: Tensor | Tree, labels: Tensor, segment_ids: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return the mean negative log-likelihood of the trained tokens, and how many there are.

    Args:
      logits: float [B, S, V], or its factors; `logits[:, t]` predicts token t + 1.
      labels: int32 [B, S], aligned with the input; -100 is not trained.
      segment_ids: int32 [B, S]; if given, no token predicts the first one of the next segment.

    Returns:
      Loss in nats a token (0 when nothing is trained) and the count, float32 without shape. To join
      batches weigh each loss by its count.

    Laws:
      Equal for rows padded to any length and for packed rows.

    Example:
      >>> logits = ops.zeros((1, 3, 4))
      >>> loss, count = next_token_loss(logits, Tensor([[-100, 2, 3]], ms.int32))
      >>> round(float(loss), 4), float(count)
      (1.3863, 2.0)

    Source:
      transformers 4.57 `ForCausalLMLoss`.
    """
    targets, weights, count = _evenly(labels, segment_ids)
    return weighted(logits, targets, weights), count


def _evenly(labels: Tensor, segment_ids: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Return targets, weights that give every trained token the same and add up to 1, the count."""
    targets = next_targets(labels, segment_ids)
    trained = ops.cast(targets != IGNORED, ms.float32)
    count = trained.sum()
    weights = trained / ops.maximum(count, Tensor(1.0, ms.float32))
    return targets, ops.stop_gradient(weights), count


def next_token_measures(
    logits: Tensor | Tree, labels: Tensor, segment_ids: Tensor | None = None
) -> tuple[dict[str, Tensor], Tensor]:
    """Return what is measured of rows that are not trained, and how many tokens count.

    Args:
      logits: float [B, S, V], or its factors; `logits[:, t]` predicts token t + 1.
      labels: int32 [B, S], aligned with the input; -100 does not count.
      segment_ids: int32 [B, S]; if given, no token predicts the first one of the next segment.

    Returns:
      `{"loss": nats a token, "accuracy": share of the tokens that have the largest logit}` and the
      count; float32 without shape, 0 when nothing counts. `train.evaluate` joins batches of them.

    Laws:
      The loss is that of `next_token_loss`.

    Example:
      >>> labels = Tensor([[-100, 1, 1]], ms.int32)
      >>> seen, count = next_token_measures(Tensor([[[0.0, 9.0], [9.0, 0.0], [0.0, 0.0]]]), labels)
      >>> round(float(seen["loss"]), 3), float(seen["accuracy"]), float(count)
      (4.5, 0.5, 2.0)
    """
    targets, weights, count = _evenly(labels, segment_ids)
    loss, right = judged(logits, targets, weights)
    return {"loss": loss, "accuracy": right}, count


def sample_mean_loss(
    logits: Tensor | Tree, labels: Tensor, segment_ids: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return the mean over samples of their own mean loss, and how many samples there are.

    `next_token_loss` gives every trained token the same weight, so long answers count more; this
    gives every sample the same weight, as a mean over rows does that hold one sample each. Either
    is the same however the samples lie in rows.

    Args:
      logits: float [B, S, V], or its factors.
      labels: int32 [B, S]; -100 is not trained.
      segment_ids: int32 [B, S]; each segment of a row is a sample; without it each row is one.

    Returns:
      Loss in nats a token (0 when nothing is trained) and the number of samples with a trained
      token, float32 without shape. To join batches weigh each loss by its count.

    Laws:
      Equal for rows padded to any length and for packed rows.

    Example:
      >>> labels = Tensor([[-100, 2, -100, 1, 1]], ms.int32)
      >>> logits = Tensor([[[0.0, 0, 0], [0, 0, 0], [0, 9, 0], [0, 9, 0], [0, 0, 0]]])
      >>> segment_ids = Tensor([[1, 1, 2, 2, 2]], ms.int32)
      >>> [round(float(x), 3) for x in sample_mean_loss(logits, labels, segment_ids)]
      [0.549, 2.0]
    """
    targets = next_targets(labels, segment_ids)
    trained = ops.cast(targets != IGNORED, ms.float32)
    place = _places(labels, segment_ids)
    counts = _by_sample(trained, place)
    samples = ops.cast(counts > 0, ms.float32).sum()
    its_count = P.GatherNd()(counts, place)
    weights = trained / ops.maximum(its_count * samples, ops.ones_like(trained))
    return weighted(logits, targets, ops.stop_gradient(weights)), samples


def sample_losses(
    logits: Tensor | Tree, labels: Tensor, segment_ids: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return the mean loss of every sample, and how many trained tokens it has.

    Args:
      logits: float [B, S, V], or its factors.
      labels: int32 [B, S]; -100 is not trained.
      segment_ids: int32 [B, S], from 0 to S; without it each row is one sample.

    Returns:
      Nats a token and counts, float32 [B, S + 1]: column j is segment j of the row, 0 where there
      is none or nothing is trained.

    Example:
      >>> labels, segments = Tensor([[1, 2, 3]], ms.int32), Tensor([[1, 1, 2]], ms.int32)
      >>> losses, counts = sample_losses(ops.zeros((1, 3, 4)), labels, segments)
      >>> (losses.asnumpy() * 1000).astype(int).tolist(), counts.asnumpy().tolist()
      ([[0, 1386, 0, 0]], [[0.0, 1.0, 0.0, 0.0]])
    """
    losses, trained = token_losses(logits, labels, segment_ids)
    place = _places(labels, segment_ids)
    sums, counts = _by_sample(losses, place), _by_sample(trained, place)
    return sums / ops.maximum(counts, ops.ones_like(counts)), counts


def _places(labels: Tensor, segment_ids: Tensor | None) -> Tensor:
    """Return row and segment of every token, int32 [B, S, 2]."""
    if segment_ids is None:
        segment_ids = ops.ones_like(labels)
    row = P.CumSum()(ops.ones_like(segment_ids), 0) - 1
    return P.Stack(-1)((row, segment_ids))


def _by_sample(x: Tensor, place: Tensor) -> Tensor:
    """Sum numbers of tokens up by sample: [B, S] -> [B, S + 1]."""
    # Added into a tensor: its size may be unknown while compiling, a number of segments may not.
    empty = P.Concat(1)((ops.zeros_like(x), ops.zeros_like(x[:, :1])))
    return P.TensorScatterAdd()(empty, place, x)


def rdrop_loss(
    logits: Tensor | Tree, labels: Tensor, segment_ids: Tensor | None = None, *, alpha: float = 4.0
) -> tuple[Tensor, Tensor]:
    """Return the loss of R-Drop: each row stands twice, and what dropout makes of both must agree.

    Rows 2 i and 2 i + 1 are the same sample: `np.repeat(column, 2, axis=0)` for every column. To
    the mean loss of all rows comes alpha / 4 times KL(p || q) + KL(q || p), averaged over the
    trained tokens; p and q are the predictions of a token in its two rows.

    Args:
      logits: float [2 n, S, V] or its factors, of one forward pass with dropout.
      labels: int32 [2 n, S]; -100 is not trained.
      segment_ids: int32 [2 n, S] or `None`.
      alpha: weight of the disagreement, not negative.

    Returns:
      Loss in nats a token and the count of trained tokens in all rows, as `next_token_loss`.

    Raises:
      ValueError: alpha is negative, or the number of rows is odd.

    Laws:
      Equal rows give `next_token_loss`; batches join by their counts.

    Example:
      >>> labels = Tensor([[1, 2], [1, 2]], ms.int32)
      >>> logits = Tensor([[[0.0, 0.0, 0.0]] * 2, [[0.0, 0.0, 3.0]] * 2])
      >>> plain, more = next_token_loss(logits, labels)[0], rdrop_loss(logits, labels)[0]
      >>> round(float(plain), 4), round(float(more - plain), 4)
      (0.5968, 1.7283)

    Source:
      Liang et al. 2021, equation 4, halved (the mean of both rows in the place of their sum);
      MindPet `RDropLoss`, over trained tokens only.
    """
    if alpha < 0:
        raise ValueError(f"rdrop_loss: alpha={alpha}; it must be at least 0")
    logits = _twice(multiplied(logits))
    loss, count = next_token_loss(logits, labels, segment_ids)
    trained = ops.cast(next_targets(labels, segment_ids) != IGNORED, ms.float32)
    first, second = P.Split(1, 2)(trained.reshape((-1, 2, labels.shape[1])))
    pairs = ops.cast(logits, ms.float32).reshape((-1, 2 * labels.shape[1], logits.shape[-1]))
    left, right = P.Split(1, 2)(pairs)
    # (p - q) (log p - log q); the logarithms of the sums of both go out, since p - q sums to 0.
    apart = ((P.Softmax(-1)(left) - P.Softmax(-1)(right)) * (left - right)).sum(-1)
    both = (first * second).reshape((-1, labels.shape[1]))
    disagreement = (apart * both).sum() / ops.maximum(both.sum(), Tensor(1.0, ms.float32))
    return loss + alpha / 4 * disagreement, count


def _twice(logits: Tensor) -> Tensor:
    """Refuse an odd number of rows."""
    _check_rows(logits.shape[0])
    return logits


def _check_rows(rows: int) -> None:
    if rows > 0 and rows % 2:
        raise ValueError(
            f"rdrop_loss: {rows} rows; rows 2 i and 2 i + 1 are one sample: repeat each row of the "
            "batch, np.repeat(column, 2, axis=0)"
        )


def _write_twice(seen: list[Seen]) -> Callable[..., Any]:
    """Check while compiling, where a number of rows that is not known yet is -1."""
    _check_rows(seen[0].shape[0])
    return staging.unchanged


_twice_stage = Stage(_write_twice)


def _twice_in_graph(logits):  # type: ignore[no-untyped-def]
    return _twice_stage(logits)(logits)


# The compiler reads what `__wrapped__` names in place of the function itself.
_twice.__wrapped__ = _twice_in_graph  # type: ignore[attr-defined]


def token_losses(
    logits: Tensor | Tree, labels: Tensor, segment_ids: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return the loss of each token and whether it is trained, at the position that predicts it.

    Args:
      logits: float [B, S, V], or its factors.
      labels: int32 [B, S].
      segment_ids: int32 [B, S] or `None`.

    Returns:
      Nats float32 [B, S], 0 where nothing is trained; and 1.0 or 0.0, float32 [B, S].

    Example:
      >>> labels = Tensor([[1, 2, 3]], ms.int32)
      >>> losses, trained = token_losses(ops.zeros((1, 3, 4)), labels)
      >>> losses.asnumpy().round(2).tolist(), trained.asnumpy().tolist()
      ([[1.3899999856948853, 1.3899999856948853, 0.0]], [[1.0, 1.0, 0.0]])
    """
    targets = next_targets(labels, segment_ids)
    trained = ops.cast(targets != IGNORED, ms.float32)
    made = multiplied(logits)
    flat = cross_entropy.losses(made.reshape((-1, made.shape[-1])), targets.reshape(-1))
    return flat.reshape(labels.shape) * trained, trained


def next_targets(labels: Tensor, segment_ids: Tensor | None = None) -> Tensor:
    """Shift labels so that each position holds the token it predicts; -100 where there is none.

    Example:
      >>> labels, segment_ids = Tensor([[7, 8, 9]], ms.int32), Tensor([[1, 1, 2]], ms.int32)
      >>> next_targets(labels, segment_ids).asnumpy().tolist()
      [[8, -100, -100]]
    """
    last = ops.full_like(labels[:, :1], IGNORED)
    shifted = ops.cat((labels[:, 1:], last), 1)
    if segment_ids is None:
        return shifted
    following = ops.cat((segment_ids[:, 1:], ops.zeros_like(last)), 1)
    return ops.where(segment_ids == following, shifted, ops.full_like(shifted, IGNORED))
