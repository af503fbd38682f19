"""Attention that computes only the blocks of keys that a block of queries looks at.

Packed rows hold many segments, padded ones much padding: nearly all of S x S is masked. Here rows
are laid end to end and cut into blocks; `data.attention_blocks` says which pairs of blocks hold a
query and a key of one segment, and only these are computed, as one batched product. The softmax of
a query goes over all pairs of its block: the largest score and the sums are joined by block.

Shapes: B rows, S positions, n blocks of C positions (n C = B S), P pairs, H heads, K key/value
heads, D features of a head.
"""

from __future__ import annotations

from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Tensor, ops
from mindspore.ops import operations as P

from mfunc.nn.dense_attention import NEVER, positions
from mfunc.tree import Tree


def see(segment_ids: Tensor, blocks: Tree, heads: int) -> Tree:
    """Return what all layers need to know of who may look at whom.

    Args:
      segment_ids: int32 [B, S]; 0 is padding.
      blocks: from `data.attention_blocks` of these segments.
      heads: H.

    Returns:
      `bias` float32 [P, H, C, C], added to the scores; `query`, `key` int32 [P], the blocks of each
      pair; `empty` float32 [n, H, C], 1 in a block without pairs. If the blocks are of other
      segments and some key would not be seen, the bias is NaN: no number comes out wrong.

    Example:
      >>> one = {"pairs": Tensor([[0, 0]], ms.int32), "first": Tensor([0], ms.int32)}
      >>> (see(Tensor([[1, 1, 2]], ms.int32), one, 1)["bias"] == 0).asnumpy()[0, 0].astype(int)
      array([[1, 0, 0],
             [1, 1, 0],
             [0, 0, 1]])
    """
    first, gather = blocks["first"], P.Gather()
    query, key = [column.reshape(-1) for column in P.Split(1, 2)(blocks["pairs"])]
    real_pair = key >= 0
    key = ops.maximum(key, ops.zeros_like(key))
    numbers = _numbered(segment_ids).reshape((first.shape[0], -1))
    places = positions(numbers.reshape((1, -1))).reshape(numbers.shape)
    same = ops.expand_dims(gather(numbers, query, 0), 2) == ops.expand_dims(
        gather(numbers, key, 0), 1
    )
    earlier = ops.expand_dims(gather(places, query, 0), 2) >= ops.expand_dims(
        gather(places, key, 0), 1
    )
    allowed = ops.logical_and(ops.logical_and(same, earlier), real_pair.reshape((-1, 1, 1)))
    pairs_of = P.UnsortedSegmentSum()(ops.cast(real_pair, ms.int32), query, first.shape[0])
    bias = (ops.cast(allowed, ms.float32) - 1.0) * NEVER
    empty = ops.cast(pairs_of == 0, ms.float32) + _nan_if_unseen(numbers, first, pairs_of)
    return {
        "bias": P.Stack(1)([bias] * heads),
        "query": query,
        "key": key,
        "empty": P.Tile()(empty.reshape((-1, 1, 1)), (1, heads, numbers.shape[1])),
    }


def _numbered(segment_ids: Tensor) -> Tensor:
    """Give every segment of the batch a number of its own; padding stays 0."""
    row = P.CumSum()(ops.ones_like(segment_ids), 0) - 1
    return ops.where(segment_ids > 0, segment_ids + row * (segment_ids.shape[1] + 1), 0)


def _nan_if_unseen(numbers: Tensor, first: Tensor, pairs_of: Tensor) -> Tensor:
    """Return NaN where a segment begins before the blocks that its queries look at, else 0."""
    width, flat = numbers.shape[1], numbers.reshape(-1)
    before = P.Gather()(flat, ops.maximum(first * width - 1, ops.zeros_like(first)), 0)
    block = positions(first.reshape((1, -1))).reshape(-1)
    begins = P.Gather()(flat, block * width, 0)  # no slices: `vmap` refuses them
    cut_off = ops.logical_and(ops.logical_and(before == begins, begins > 0), first > 0)
    fewer = ops.logical_and(pairs_of < block - first + 1, numbers.max(axis=1) > 0)
    wrong = ops.cast(ops.logical_or(cut_off, fewer), ms.float32).sum()
    return ops.where(wrong > 0, Tensor(np.float32(np.nan)), Tensor(np.float32(0)))


def attend(q: Tensor, k: Tensor, v: Tensor, seen: Tree) -> Tensor:
    """Return softmax(q k' / sqrt(D) + bias) v over the pairs of each block.

    Args:
      q: [n, H, C, D].
      k: [n, K, C, D]; each key head serves the H / K query heads that follow one another.
      v: [n, K, C, D].
      seen: from `see`.

    Returns:
      [n, H, C, D]; 0 in a block without pairs, and nothing that means anything in other padding.

    Laws:
      equals `dense_attention.attend` at every position of a segment, to rounding.

    Example:
      >>> x = Tensor([[[[1.0, 0.0], [0.0, 1.0]]]])
      >>> one = {"pairs": Tensor([[0, 0]], ms.int32), "first": Tensor([0], ms.int32)}
      >>> seen = see(Tensor([[1, 1]], ms.int32), one, 1)
      >>> attend(x, x, x, seen).asnumpy().round(2)[0, 0].tolist()
      [[1.0, 0.0], [0.33000001311302185, 0.6700000166893005]]

    Source:
      Vaswani et al. 2017, equation 1; the joined softmax: Milakov and Gimelshein 2018, section 3.1.
    """
    blocks, heads, length, width = q.shape
    kinds, query = k.shape[1], seen["query"]
    gather, total = P.Gather(), P.UnsortedSegmentSum()
    rows = gather(q * width**-0.5, query, 0).reshape((-1, kinds, heads // kinds * length, width))
    scores = P.BatchMatMul(transpose_b=True)(rows, gather(k, seen["key"], 0))
    scores = P.Cast()(scores, ms.float32) + seen["bias"].reshape(scores.shape)
    largest = P.ArgMaxWithValue(-1)(scores)[1]
    largest = ops.stop_gradient(P.UnsortedSegmentMax()(largest, query, blocks))
    shares = ops.exp(scores - _spread(gather(largest, query, 0), length))
    ones = Tensor(np.ones((length, 1), np.float32))
    sums = P.MatMul()(shares.reshape((-1, length)), ones).reshape((-1, heads, length))
    sums = total(sums, query, blocks) + seen["empty"]
    mixed = P.BatchMatMul()(P.Cast()(shares, v.dtype), gather(v, seen["key"], 0))
    mixed = total(P.Cast()(mixed, ms.float32), query, blocks).reshape(q.shape)
    return P.Cast()(mixed * _spread(1.0 / sums, width), q.dtype)


def _spread(x: Any, times: int) -> Any:
    """Repeat numbers along a new last axis, as a product: a broadcast is dearer (nn.layers)."""
    ones = Tensor(np.ones((1, times), np.float32))
    return P.MatMul()(x.reshape((-1, 1)), ones).reshape((*x.shape, times))
