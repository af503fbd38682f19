"""Attention over whole rows: every query against every key, those that must not count taken out.

The form of cached decoding, of short rows and of prefixes; its cost grows with the square of a row.
"""

from __future__ import annotations

import mindspore as ms
from mindspore import Tensor, ops
from mindspore.ops import operations as P

# Taken from a score that must not count: its exponential is exactly 0, and no sum of such scores
# overflows.
NEVER = 1e9


def causal_bias(segment_ids: Tensor, heads: int) -> Tensor:
    """Return what is added to the scores: 0 where a position may look, else -1e9.

    A position looks at itself and at earlier positions of its own segment. Padding (segment 0) is a
    segment too, so no row of scores is empty.

    Args:
      segment_ids: int32 [B, S].
      heads: H.

    Returns:
      float32 [B, H, S, S]. Full shape, made once and used by all layers: adding a [S, S] mask by
      broadcast costs 8 times as much.

    Example:
      >>> allowed = causal_bias(Tensor([[1, 1, 2]], ms.int32), 1) == 0
      >>> allowed.asnumpy()[0, 0].astype(int).tolist()
      [[1, 0, 0], [1, 1, 0], [0, 0, 1]]
    """
    place = positions(segment_ids)
    same = ops.expand_dims(segment_ids, 2) == ops.expand_dims(segment_ids, 1)
    earlier = ops.expand_dims(place, 2) >= ops.expand_dims(place, 1)
    bias = (ops.cast(ops.logical_and(same, earlier), ms.float32) - 1.0) * NEVER
    return P.Stack(1)([bias] * heads)


def positions(like: Tensor) -> Tensor:
    """Return 0, 1, ... along the rows of an int32 [B, S]; works for a length that is not known yet.

    Example:
      >>> positions(Tensor([[7, 7, 7]], ms.int32)).asnumpy().tolist()
      [[0, 1, 2]]
    """
    return P.CumSum()(ops.ones_like(like), 1) - 1


def attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
    """Return softmax(q k' / sqrt(D) + bias) v.

    Args:
      q: [B, H, S, D].
      k: [B, K, T, D]; each key head serves the H / K query heads that follow one another.
      v: [B, K, T, D].
      bias: [B, H, S, T].

    Returns:
      [B, H, S, D].

    Example:
      >>> x = Tensor([[[[1.0, 0.0], [0.0, 1.0]]]])
      >>> bias = causal_bias(Tensor([[1, 1]], ms.int32), 1)
      >>> attend(x, x, x, bias).asnumpy().round(2)[0, 0].tolist()
      [[1.0, 0.0], [0.33000001311302185, 0.6700000166893005]]

    Source:
      Vaswani et al. 2017, equation 1; Ainslie et al. 2023 (grouped heads); transformers 4.57
      `repeat_kv`.
    """
    batch, heads, _, width = q.shape
    kinds, keys = k.shape[1], k.shape[2]
    # Query heads of one key head become more rows of it: no key is copied. (Copying by Stack and
    # Unstack does not compile under a gradient in a block.)
    rows = (q * width**-0.5).reshape((batch, kinds, -1, width))
    scores = P.Cast()(P.BatchMatMul(transpose_b=True)(rows, k), ms.float32)
    scores = scores + bias.reshape((batch, kinds, -1, keys))
    # In two dimensions the sum in the gradient of a softmax takes a third of the time.
    shares = P.Softmax(-1)(scores.reshape((-1, keys))).reshape((batch, kinds, -1, keys))
    return P.BatchMatMul()(P.Cast()(shares, v.dtype), v).reshape((batch, heads, -1, width))
