"""Attention within segments: one function, three ways to compute it.

    dense    every query against every key of its row                    nn.dense_attention
    blocks   only blocks that hold a query and a key of one segment      nn.block_attention
    fused    the kernel for segments end to end, on Ascend               nn.fused_attention

`choose` says which, from the device and the shapes alone. A model calls `see` once, lays its rows
out by `laid`, and `attend` in each layer; `attention` is all of that at once.

Shapes: B rows, S positions, H heads, K key/value heads, D features of a head; R rows of C positions
as they are laid out, which are the B of S, or the blocks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mindspore as ms
from mindspore import Tensor, ops

from mfunc import staging
from mfunc.nn import block_attention, dense_attention, fused_attention
from mfunc.staging import Seen, Stage
from mfunc.tree import Tree

# A pair of blocks costs as much as so many dense scores of its size (docs/padding.md).
DEARER = 2.0


def choose(
    device: str,
    dtype: Any,
    rows: int,
    length: int,
    width: int,
    *,
    pairs: int = 0,
    block: int = 0,
    prefix: bool = False,
) -> str:
    """Say how attention is computed.

    Args:
      device: `"CPU"` or `"Ascend"`.
      dtype: of queries and keys.
      rows: B.
      length: S; -1 if it is not known while compiling.
      width: D.
      pairs: P, pairs of blocks; 0 if there are none given.
      block: C, positions in a block.
      prefix: every position also sees virtual tokens.

    Returns:
      `"dense"`, `"blocks"` or `"fused"`.

    Example:
      >>> choose("CPU", ms.float32, 1, 4096, 64, pairs=160, block=64)
      'blocks'
      >>> choose("CPU", ms.float32, 8, 128, 64, pairs=24, block=64)
      'dense'
      >>> choose("Ascend", ms.bfloat16, 1, 4096, 64)
      'fused'
    """
    if prefix or length < 0:
        return "dense"
    if device == "Ascend" and dtype in fused_attention.HALF and width % 16 == 0:
        return "fused"
    sparse = DEARER * pairs * block * block
    return "blocks" if 0 < sparse < rows * length * length else "dense"


def see(
    segment_ids: Tensor,
    like: Tensor,
    heads: int,
    width: int,
    blocks: Tree = None,
    prefix: bool = False,
) -> Tree:
    """Return what all layers need to know of who may look at whom: made once for all of them.

    Args:
      segment_ids: int32 [B, S]; 0 is padding, documents are 1, 2, ...
      like: a tensor of the dtype of queries and keys.
      heads: H.
      width: D.
      blocks: from `data.attention_blocks`, or `None`.
      prefix: every position also sees virtual tokens.

    Example:
      >>> see(Tensor([[1, 1]], ms.int32), Tensor([1.0]), 2, 4)["bias"].shape
      (1, 2, 2, 2)
    """
    pairs = None if blocks is None else tuple(blocks["pairs"].shape)
    first = None if blocks is None else tuple(blocks["first"].shape)
    seeing = _seeing(like.dtype, segment_ids.shape, width, pairs, first, prefix)
    return seeing(segment_ids, heads, blocks)


def _seeing(
    dtype: Any, shape: Any, width: int, pairs: Any, first: Any, prefix: bool
) -> Callable[..., Tree]:
    """Return the function that makes what `attend` takes, by shapes."""
    rows, length = shape
    block = 0 if first is None or length < 0 else rows * length // first[0]
    if block and block * first[0] != rows * length:
        raise ValueError(
            f"attention: blocks for {first[0]} blocks do not fit {rows} rows of {length} tokens; "
            "make attention_blocks from the segment_ids of this batch"
        )
    how = choose(
        ms.get_context("device_target"), dtype, rows, length, width,
        pairs=pairs[0] if pairs else 0, block=block, prefix=prefix,
    )  # fmt: skip
    return {"dense": _see_dense, "blocks": _see_blocks, "fused": _see_fused}[how]


def _see_dense(segment_ids, heads, blocks):  # type: ignore[no-untyped-def]
    return {"bias": dense_attention.causal_bias(segment_ids, heads)}


def _see_blocks(segment_ids, heads, blocks):  # type: ignore[no-untyped-def]
    return block_attention.see(segment_ids, blocks, heads)


def _see_fused(segment_ids, heads, blocks):  # type: ignore[no-untyped-def]
    return fused_attention.see(segment_ids)


def _write_see(seen: list[Seen]) -> Callable[..., Tree]:
    """Choose while compiling."""
    segment_ids, like, width, blocks, prefix = seen
    pairs = first = None
    if blocks.pattern is not None:
        first, pairs = staging.shapes(blocks)  # leaves in the order of their names
    dtype = staging.element(like.dtype)
    return _seeing(dtype, segment_ids.shape, width.pattern, pairs, first, prefix.pattern)


_see_stage = Stage(_write_see)


def _see_in_graph(segment_ids, like, heads, width, blocks=None, prefix=False):  # type: ignore[no-untyped-def]
    return _see_stage(segment_ids, like, width, blocks, prefix)(segment_ids, heads, blocks)


# The compiler reads what `__wrapped__` names in place of the function itself.
see.__wrapped__ = _see_in_graph  # type: ignore[attr-defined]


def laid(x: Tensor, seen: Tree) -> Tensor:
    """Lay out what has one number a token as `attend` wants its rows: [B, S] -> [R, C].

    Example:
      >>> laid(Tensor([[1, 2]]), {"bias": None}).shape
      (1, 2)
    """
    return x.reshape((seen["empty"].shape[0], -1)) if "query" in seen else x


def attend(q: Tensor, k: Tensor, v: Tensor, seen: Tree) -> Tensor:
    """Return softmax(q k' / sqrt(D) + bias) v within every segment, no token seeing a later one.

    Args:
      q: [R, H, C, D].
      k: [R, K, C, D]; each key head serves the H / K query heads that follow one another.
      v: [R, K, C, D].
      seen: from `see`.

    Returns:
      [R, H, C, D]. What stands in padding means nothing.

    Laws:
      the same, to rounding, however it is computed.
    """
    if "query" in seen:
        return block_attention.attend(q, k, v, seen)
    if "ends" in seen:
        return fused_attention.attend(q, k, v, seen)
    return dense_attention.attend(q, k, v, seen["bias"])


def attention(
    q: Tensor, k: Tensor, v: Tensor, *, segment_ids: Tensor, blocks: Tree = None
) -> Tensor:
    """Return the attention of every token over the earlier tokens of its segment.

    Args:
      q: [B, H, S, D].
      k: [B, K, S, D].
      v: [B, K, S, D].
      segment_ids: int32 [B, S]; 0 is padding, documents are 1, 2, ...
      blocks: from `data.attention_blocks`; with it the cost grows with the segments, not with S.

    Returns:
      [B, H, S, D]. What stands in padding means nothing.

    Raises:
      ValueError: the blocks are for another number of tokens.

    Laws:
      the same, to rounding, with and without blocks; a segment is what it is alone.

    Example:
      >>> x = Tensor([[[[1.0, 0.0], [0.0, 1.0]]]])
      >>> attention(x, x, x, segment_ids=Tensor([[1, 2]], ms.int32)).asnumpy()[0, 0].tolist()
      [[1.0, 0.0], [0.0, 1.0]]
    """
    seen = see(segment_ids, q, q.shape[1], q.shape[3], blocks)
    rows = laid(segment_ids, seen).shape
    mixed = attend(_blocks_of(q, rows), _blocks_of(k, rows), _blocks_of(v, rows), seen)
    return _blocks_of(mixed, segment_ids.shape)


def _blocks_of(x: Tensor, rows: tuple[int, ...]) -> Tensor:
    """Cut [B, H, S, D] anew into rows of another length: [R, H, C, D]."""
    if (x.shape[0], x.shape[2]) == (rows[0], rows[1]):
        return x
    heads, width = x.shape[1], x.shape[3]
    tokens = ops.transpose(x, (0, 2, 1, 3)).reshape((rows[0], -1, heads, width))
    return ops.transpose(tokens, (0, 2, 1, 3))
