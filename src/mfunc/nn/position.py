"""Rotary positions."""

from __future__ import annotations

import math
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Tensor, ops
from mindspore.ops import operations as P

Table = tuple[Tensor, Tensor]


def frequencies(
    head_dim: int, theta: float, scaling: tuple[float, float, float, int] | None = None
) -> np.ndarray:
    """Return the rotation of each pair of features, radians a position: float32 [head_dim / 2].

    Args:
      head_dim: features of a head, even.
      theta: base wavelength, positions.
      scaling: `(factor, low_freq_factor, high_freq_factor, original_max_position_embeddings)` of
        Llama 3.1: slow rotations are divided by `factor`, fast ones kept, those between are mixed.

    Example:
      >>> frequencies(4, 10000.0)
      array([1.  , 0.01], dtype=float32)

    Source:
      Su et al. 2021, section 3.4.2; transformers 4.57 `_compute_llama3_parameters`.
    """
    fast = 1.0 / theta ** (np.arange(0, head_dim, 2, dtype=np.float64) / head_dim)
    if scaling is None:
        return fast.astype(np.float32)
    factor, low, high, length = scaling
    turns = length * fast / (2 * math.pi)
    mix = np.clip((turns - low) / (high - low), 0, 1)
    return (fast / factor * (1 - mix) + fast * mix).astype(np.float32)


def rotary(
    position_ids: Tensor, heads: int, frequency: np.ndarray, dtype: Any = ms.float32
) -> Table:
    """Return cosine and sine of every position, in the full shape of the heads they will turn.

    Args:
      position_ids: int32 [B, S].
      heads: how many heads.
      frequency: float32 [D / 2], from `frequencies`.
      dtype: of the tables, which are made in float32.

    Returns:
      Two [B, heads, S, D]; the first half of the sine is negative, as `rotate` wants it.
      Full shape, since a broadcast costs more than the table.

    Example:
      >>> cos, sin = rotary(Tensor([[0, 1]], ms.int32), 2, frequencies(4, 10000.0))
      >>> cos.shape, round(float(sin[0, 1, 1, 2]), 4)
      ((1, 2, 2, 4), 0.8415)
    """
    batch, length = position_ids.shape
    turns = P.MatMul()(ops.cast(position_ids, ms.float32).reshape((-1, 1)), Tensor(frequency[None]))
    cos, sin = ops.cos(turns), ops.sin(turns)  # dear on CPU: once for all heads and both halves
    cos = P.Cast()(P.Concat(-1)((cos, cos)).reshape((batch, length, -1)), dtype)
    sin = P.Cast()(P.Concat(-1)((-sin, sin)).reshape((batch, length, -1)), dtype)
    return P.Stack(1)([cos] * heads), P.Stack(1)([sin] * heads)


def rotate(x: Tensor, table: Table) -> Tensor:
    """Turn the two halves of each head by its position.

    Args:
      x: [B, H, S, D], features in the half-split order of Hugging Face checkpoints.
      table: from `rotary`, for H heads.

    Example:
      >>> table = rotary(Tensor([[1]], ms.int32), 1, frequencies(2, 10000.0))
      >>> rotate(Tensor(np.float32([[[[1, 0]]]])), table).asnumpy().round(4).tolist()
      [[[[0.5403000116348267, 0.8414999842643738]]]]

    Source:
      Su et al. 2021, equation 34; transformers 4.57 `apply_rotary_pos_emb`.
    """
    cos, sin = table
    first, second = P.Split(-1, 2)(x)
    return x * cos + P.Concat(-1)((second, first)) * sin
