"""Layers: pure functions of parameters and activations.

Shapes: B rows, S positions, N = B * S tokens, D model width. Activations in a model are [N, D]: the
compiler's two-dimensional products are the fast ones (`docs/mindspore.md`).

Activations have the dtype of the table of tokens, and every other parameter is taken in theirs; the
statistics of norms, the softmax and losses are float32. Where there are no products of bfloat16, on
CPU, activations are float32.

A weight is a Tensor [in, out], or a dict that stands for W + s A B and is never multiplied out:
what `adapt.lora` puts in the place of a weight.

    {"weight": W, "a": A, "b": B, "scale": s}
    "magnitude": m [out]        the columns are scaled to these norms (DoRA)
    "key": uint32 [2], "rate"   what meets A is dropped out (in DoRA, what meets W and A)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Tensor, ops
from mindspore.ops import operations as P

from mfunc import staging
from mfunc.nn.dropping import dropout
from mfunc.staging import Seen, Stage

Weight = Any


def keep(x: Tensor, axes: tuple[str | None, ...]) -> Tensor:
    """Return `x`; the default of `constrain`, where a sharding rule would place `x` by its axes."""
    return x


def linear(x: Tensor, weight: Weight) -> Tensor:
    """Multiply tokens by a weight.

    Args:
      x: [N, in].
      weight: [in, out]; or a dict of "weight" [in, out], "a" [in, r], "b" [r, out], a number
        "scale", and what else the head of this file names.

    Returns:
      [N, out].

    Example:
      >>> x, w = Tensor(np.float32([[1, 2]])), Tensor(np.float32([[3], [4]]))
      >>> laid = {"weight": w, "a": w, "b": Tensor(np.float32([[1]])), "scale": 2.0}
      >>> float(linear(x, w)), float(linear(x, laid))
      (11.0, 33.0)

    Source:
      Hu et al. 2021, section 4.1; Liu et al. 2024 (DoRA), equation 5 and section 4.3, with dropout
      where PEFT 0.21 has it.
    """
    if not isinstance(weight, dict):
        return P.MatMul()(x, P.Cast()(weight, x.dtype))
    dropped = dropout(x, weight["key"], weight["rate"]) if "key" in weight else x
    whole, a, b = [P.Cast()(weight[name], x.dtype) for name in ("weight", "a", "b")]
    given = P.MatMul()(x, whole)
    more = P.MatMul()(P.MatMul()(dropped, a) * weight["scale"], b)
    if "magnitude" not in weight:
        return given + more
    norm = column_norm(weight["weight"], weight["a"], weight["b"], weight["scale"])
    factor = P.Cast()((weight["magnitude"] / norm).reshape((1, -1)), x.dtype)
    if "key" not in weight:
        return (given + more) * factor
    partial = P.MatMul()(dropped, whole)
    return given + ((partial + more) * factor - partial)


def column_norm(weight: Tensor, a: Tensor, b: Tensor, scale: float) -> Tensor:
    """Return the norms of the columns of W + s A B, without a gradient: float32 [out].

    Example:
      >>> one, zero = Tensor(np.float32([[3], [4]])), Tensor(np.float32([[0]]))
      >>> column_norm(one, one, zero, 1.0).asnumpy()
      array([5.], dtype=float32)
    """
    weight, a, b = [P.Cast()(x, ms.float32) for x in (weight, a, b)]
    moved = ops.stop_gradient(weight + P.MatMul()(a, b) * scale)
    ones = Tensor(np.ones((1, weight.shape[0]), np.float32))
    return P.Sqrt()(P.MatMul()(ones, moved * moved)).reshape((-1,))


def computable(x: Tensor) -> Tensor:
    """Return `x`, or as float32 if it is bfloat16 and the device has no products of it.

    Example:
      >>> computable(Tensor([1.0], ms.float16)).dtype
      mindspore.float16
    """
    return _computable(x.dtype)(x)


def _computable(dtype: Any) -> Callable[[Tensor], Tensor]:
    on_cpu = ms.get_context("device_target") == "CPU"
    return _widened if on_cpu and dtype == ms.bfloat16 else staging.unchanged


def _widened(x):  # type: ignore[no-untyped-def]
    return P.Cast()(x, ms.float32)


def _write_computable(seen: list[Seen]) -> Callable[..., Tensor]:
    return _computable(staging.element(seen[0].dtype))


_computable_stage = Stage(_write_computable)


def _computable_in_graph(x):  # type: ignore[no-untyped-def]
    return _computable_stage(x)(x)


# The compiler reads what `__wrapped__` names in place of the function itself.
computable.__wrapped__ = _computable_in_graph  # type: ignore[attr-defined]


def embed(table: Tensor, input_ids: Tensor) -> Tensor:
    """Look tokens up.

    Args:
      table: [V, D].
      input_ids: int32 [B, S].

    Returns:
      [B * S, D].

    Raises:
      TypeError: an adapter is laid over the table.

    Example:
      >>> embed(Tensor([[1.0, 2.0], [3.0, 4.0]]), Tensor(np.int32([[1, 0]]))).asnumpy().tolist()
      [[3.0, 4.0], [1.0, 2.0]]
    """
    if isinstance(table, dict):
        raise TypeError(
            "embed: LoRA is laid over the table of tokens; it adapts weights that multiply only, "
            "so take 'embed' out of its targets"
        )
    return P.Gather()(computable(table), input_ids.reshape(-1), 0)


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
    wide = P.Cast()(x, ms.float32)
    mean_of = Tensor(np.full((x.shape[-1], 1), 1 / x.shape[-1], np.float32))
    root = P.Rsqrt()(P.MatMul()(wide * wide, mean_of) + eps)
    # The outer product comes out in full shape: on CPU 1.3 to 1.6 times as fast as two broadcasts,
    # and not slower when a length is dynamic.
    scaled = wide * P.MatMul()(root, P.Cast()(weight, ms.float32).reshape((1, -1)))
    return P.Cast()(scaled, x.dtype)


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
