"""A cache of keys and values: what cached decoding writes and where nobody may look.

Shapes: B rows, T new positions, L positions in the cache, H heads, K key/value heads, D features of
a head.
"""

from __future__ import annotations

from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Tensor, ops
from mindspore.ops import operations as P

from mfunc.nn.dense_attention import NEVER
from mfunc.tree import Tree


def empty(layers: int, shape: tuple[int, int, int, int], dtype: Any = ms.float32) -> Tree:
    """Return an empty cache.

    Args:
      layers: how many.
      shape: (B, K, L, D).
      dtype: of keys and values.

    Returns:
      `{"k": layers x [B, K, L, D], "v": the same, "length": int32 [B]}`.

    Example:
      >>> empty(2, (3, 1, 16, 4))["length"].shape
      (3,)
    """
    return {
        "k": tuple([ops.zeros(shape, dtype) for _ in range(layers)]),
        "v": tuple([ops.zeros(shape, dtype) for _ in range(layers)]),
        "length": ops.zeros(shape[:1], ms.int32),
    }


def plan(place: Tensor, length: int, heads: int) -> tuple[Tensor, Tensor]:
    """Return where new tokens are written, and what is added to their scores.

    A padded token is written behind the real ones, where nobody looks before it is overwritten.

    Args:
      place: int32 [B, T], the positions of the new tokens.
      length: L.
      heads: H.

    Returns:
      float32 [B, L, T], 1 where token t is written; float32 [B, H, T, L], 0 where it may look.

    Example:
      >>> written, bias = plan(Tensor([[1]], ms.int32), 3, 1)
      >>> written.asnumpy()[0, :, 0].tolist(), (bias == 0).asnumpy()[0, 0, 0].tolist()
      ([0.0, 1.0, 0.0], [True, True, False])
    """
    slots = Tensor(np.arange(length, dtype=np.int32))
    written = ops.cast(slots.reshape((1, -1, 1)) == ops.expand_dims(place, 1), ms.float32)
    seen = ops.cast(slots.reshape((1, 1, -1)) <= ops.expand_dims(place, 2), ms.float32)
    return written, P.Stack(1)([(seen - 1.0) * NEVER] * heads)


def write(old: Tensor, new: Tensor, written: Tensor) -> Tensor:
    """Write keys or values into a cache.

    Args:
      old: [B, K, L, D].
      new: [B, K, T, D].
      written: from `plan`.

    Returns:
      [B, K, L, D], in the dtype of `old`.

    Example:
      >>> written, _ = plan(Tensor([[1]], ms.int32), 2, 1)
      >>> write(ops.ones((1, 1, 2, 1)), 5 * ops.ones((1, 1, 1, 1)), written).asnumpy().ravel()
      array([1., 5.], dtype=float32)
    """
    places = P.Cast()(P.Stack(1)([written] * old.shape[1]), old.dtype)
    added = P.BatchMatMul()(places, P.Cast()(new, old.dtype))
    return old * (1.0 - places.sum(-1, keepdims=True)) + added
