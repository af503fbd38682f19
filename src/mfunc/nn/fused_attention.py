"""Attention by the fused kernel of Ascend: segments of any lengths end to end (layout TND).

The kernel takes the end of every segment, at most 1024 of them, and computes nothing across
segments. A compiled step wants arrays of one size, but batches have different numbers of segments,
and the kernel refuses empty ones. So `most` tokens that nobody looks at stand behind the batch, in
as many segments as are left over.

    segment_ids 1 1 2 2 2 0, most 6     ends 2 5 6 | 7 8 12      tokens 6 + 6

Shapes: B rows, S positions, T = B S tokens, M the most segments, H heads, K key/value heads, D
features of a head.
"""

from __future__ import annotations

from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Tensor, ops
from mindspore.ops import operations as P

from mfunc.nn.dense_attention import positions
from mfunc.tree import Tree

KERNEL_LIMIT = 1024  # segments of one call
HALF = (ms.float16, ms.bfloat16)  # what the kernel computes in


def see(segment_ids: Tensor, most: int = KERNEL_LIMIT) -> Tree:
    """Return what all layers need to know of the segments.

    Args:
      segment_ids: int32 [B, S]; 0 is padding, one segment in each row that has any.
      most: M, segments of the whole batch with padding, and one more; at most 1024.

    Returns:
      `ends` int64 [M], increasing, the last T + M. `unseen` float32 without shape: 0, or NaN if
      there are more segments, so that no number comes out wrong.

    Raises:
      ValueError: `most` is above the kernel's limit.

    Laws:
      the first ends are `data.actual_seq_len(segment_ids)`.

    Example:
      >>> see(Tensor([[1, 1, 2, 2, 2, 0]], ms.int32), 6)["ends"].asnumpy().tolist()
      [2, 5, 6, 7, 8, 12]

    Source:
      MindSpore 2.10 `ops.flash_attention_score`, layout TND; MindSpeed-LLM v2.1.0 `actual_seq_len`
      with its padding merged.
    """
    if not 2 <= most <= KERNEL_LIMIT:
        raise ValueError(
            f"fused_attention: most={most} segments; the kernel takes 2 to {KERNEL_LIMIT}: fewer "
            "rows a step, or pack(max_segments=)"
        )
    tokens = segment_ids.shape[0] * segment_ids.shape[1]
    before = ops.cat((ops.full_like(segment_ids[:, :1], -1), segment_ids[:, :-1]), 1)
    edges = ops.cast(segment_ids != before, ms.int32).reshape((1, -1))
    run = P.CumSum()(edges, 1).reshape(-1) - 1
    place = positions(edges).reshape(-1) + 1
    last = P.UnsortedSegmentMax()(place, ops.minimum(run, ops.full_like(run, most - 1)), most)
    at = Tensor(np.arange(most, dtype=np.int32))
    count = edges.sum()
    ends = ops.where(at < count, last, tokens + 1 + at - count)
    ends = ops.where(at == most - 1, ops.full_like(ends, tokens + most), ends)
    return {
        "ends": ops.cast(ends, ms.int64),
        "unseen": ops.where(count < most, Tensor(np.float32(0)), Tensor(np.float32(np.nan))),
    }


def arguments(q: Tensor, k: Tensor, v: Tensor, seen: Tree) -> dict[str, Any]:
    """Return what the kernel is called with.

    Args:
      q: [B, H, S, D], of half precision.
      k: [B, K, S, D].
      v: [B, K, S, D].
      seen: from `see`.

    Returns:
      The arguments of `ops.flash_attention_score` by name; `query` [T + M, H, D], `key` and `value`
      [T + M, K, D], the compressed mask [2048, 2048], in which True hides.

    Example:
      >>> x = ops.ones((1, 2, 3, 16), ms.float16)
      >>> found = arguments(x, x, x, see(Tensor([[1, 2, 2]], ms.int32), 4))
      >>> found["query"].shape, found["actual_seq_qlen"].asnumpy().tolist()
      ((7, 2, 16), [1, 3, 4, 7])
    """
    more = seen["ends"].shape[0]
    hidden = Tensor(np.triu(np.ones((2048, 2048), bool), 1))
    return {
        "query": _end_to_end(q, more),
        "key": _end_to_end(k, more),
        "value": _end_to_end(v, more),
        "head_num": q.shape[1],
        "attn_mask": hidden,
        "actual_seq_qlen": seen["ends"],
        "actual_seq_kvlen": seen["ends"],
        "scalar_value": q.shape[-1] ** -0.5,
        "next_tokens": 0,
        "input_layout": "TND",
        "sparse_mode": 3,
    }


def _end_to_end(x: Tensor, more: int) -> Tensor:
    """Lay rows [B, H, S, D] end to end, with `more` zeros behind: [B S + more, H, D]."""
    tokens = P.Transpose()(x, (0, 2, 1, 3)).reshape((-1, x.shape[1], x.shape[3]))
    return P.Concat(0)((tokens, ops.zeros((more, x.shape[1], x.shape[3]), x.dtype)))


def attend(q: Tensor, k: Tensor, v: Tensor, seen: Tree) -> Tensor:
    """Return the attention of every segment by itself, computed by the kernel.

    Args:
      q: [B, H, S, D], float16 or bfloat16.
      k: [B, K, S, D].
      v: [B, K, S, D].
      seen: from `see`.

    Returns:
      [B, H, S, D].
    """
    batch, heads, length, width = q.shape
    given = arguments(q, k, v, seen)
    mixed = ops.flash_attention_score(
        given["query"],
        given["key"],
        given["value"],
        given["head_num"],
        attn_mask=given["attn_mask"],
        actual_seq_qlen=given["actual_seq_qlen"],
        actual_seq_kvlen=given["actual_seq_kvlen"],
        scalar_value=given["scalar_value"],
        next_tokens=given["next_tokens"],
        input_layout=given["input_layout"],
        sparse_mode=given["sparse_mode"],
    )
    mixed = mixed[: batch * length] + ops.cast(seen["unseen"], q.dtype)
    return P.Transpose()(mixed.reshape((batch, length, heads, width)), (0, 2, 1, 3))
