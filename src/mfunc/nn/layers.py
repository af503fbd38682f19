"""Layers: pure functions of parameters and activations.

Shapes: B rows, S positions, N = B * S tokens, D model width. Activations in a model are [N, D]: the
compiler's two-dimensional products are the fast ones (`docs/mindspore.md`).

A weight is a Tensor [in, out], or a tuple (W, A, B, s) that stands for W + s A B and is never
multiplied out: what `adapt.lora` puts in the place of a weight.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from mindspore import Tensor
from mindspore.ops import operations as P

from mfunc import random

Weight = Any


def keep(x: Tensor, axes: tuple[str | None, ...]) -> Tensor:
    """Return `x`; the default of `constrain`, where a sharding rule would place `x` by its axes."""
    return x


def linear(x: Tensor, weight: Weight) -> Tensor:
    """Multiply tokens by a weight.

    Args:
      x: [N, in].
      weight: [in, out], or (W [in, out], A [in, r], B [r, out], s) with a number s.

    Returns:
      [N, out].

    Example:
      >>> x, w = Tensor(np.float32([[1, 2]])), Tensor(np.float32([[3], [4]]))
      >>> float(linear(x, w)), float(linear(x, (w, w, Tensor(np.float32([[1]])), 2.0)))
      (11.0, 33.0)
    """
    if isinstance(weight, tuple):
        base, down, up, scale = weight
        return P.MatMul()(x, base) + P.MatMul()(P.MatMul()(x, down) * scale, up)
    return P.MatMul()(x, weight)


def dropout(x: Tensor, key: random.Key | None, rate: float) -> Tensor:
    """Put zeros in the place of random numbers and scale the others up, so that the mean stays.

    Args:
      x: of any shape that is known while compiling.
      key: uint32 [2]; without a key nothing is dropped.
      rate: probability of a zero, from 0 to below 1.

    Example:
      >>> dropout(Tensor(np.ones(4, np.float32)), random.key(0), 0.5).asnumpy()
      array([0., 0., 2., 2.], dtype=float32)

    Source:
      Srivastava et al. 2014, with the scale in training (inverted dropout).
    """
    if key is None or rate == 0:
        return x
    kept = random.bernoulli(key, 1 - rate, x.shape)
    mask = Tensor(kept) if isinstance(kept, np.ndarray) else kept
    return x * (P.Cast()(mask, x.dtype) / (1 - rate))


def embed(table: Tensor, input_ids: Tensor) -> Tensor:
    """Look tokens up.

    Args:
      table: [V, D].
      input_ids: int32 [B, S].

    Returns:
      [B * S, D].

    Example:
      >>> embed(Tensor([[1.0, 2.0], [3.0, 4.0]]), Tensor(np.int32([[1, 0]]))).asnumpy().tolist()
      [[3.0, 4.0], [1.0, 2.0]]
    """
    return P.Gather()(table, input_ids.reshape(-1), 0)


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Divide each token by its root mean square and scale it.

    Args:
      x: [N, D].
      weight: [D].
      eps: added to the mean square.

    Example:
      >>> rms_norm(Tensor(np.float32([[3, 4]])), Tensor(np.float32([1, 2])), 0.0).asnumpy().round(4)
      array([[0.8485, 2.2627]], dtype=float32)

    Source:
      Zhang and Sennrich 2019, equation 4; transformers 4.57 `LlamaRMSNorm`.
    """
    mean_of = Tensor(np.full((x.shape[-1], 1), 1 / x.shape[-1], np.float32))
    root = P.Rsqrt()(P.MatMul()(x * x, mean_of) + eps)
    # The outer product comes out in full shape: on CPU 1.3 to 1.6 times as fast as two broadcasts,
    # and not slower when a length is dynamic.
    return x * P.MatMul()(root, weight.reshape((1, -1)))


def swiglu(x: Tensor, gate: Weight, up: Weight, down: Weight) -> Tensor:
    """Compute down(silu(gate(x)) * up(x)).

    Args:
      x: [N, D].
      gate: [D, F].
      up: [D, F].
      down: [F, D].

    Source:
      Shazeer 2020, "GLU variants improve Transformer", equation 6 without biases.

    Example:
      >>> one = Tensor(np.float32([[1]]))
      >>> round(float(swiglu(one, one, one, one)), 4)
      0.7311
    """
    g = linear(x, gate)
    return linear(g * P.Sigmoid()(g) * linear(x, up), down)


def split_heads(x: Tensor, batch: int, heads: int) -> Tensor:
    """Take the heads apart: [B * S, H * D] -> [B, H, S, D].

    Example:
      >>> split_heads(Tensor(np.zeros((6, 8), np.float32)), 2, 4).shape
      (2, 4, 3, 2)
    """
    # Split and stack: transposing costs 2.2 x as much, and 10 x when a length is dynamic.
    return P.Stack(1)(P.Split(-1, heads)(x.reshape((batch, -1, x.shape[-1]))))


def merge_heads(x: Tensor) -> Tensor:
    """Put the heads side by side: [B, H, S, D] -> [B * S, H * D].

    Example:
      >>> merge_heads(Tensor(np.zeros((2, 4, 3, 2), np.float32))).shape
      (6, 8)
    """
    heads = P.Unstack(1, x.shape[1])(x)
    return P.Concat(-1)(heads).reshape((-1, x.shape[1] * x.shape[3]))
