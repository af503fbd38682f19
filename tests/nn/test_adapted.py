from __future__ import annotations

import math

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor

from mfunc.nn import adapted, attention, dense_attention

B, H, K, S, D, PRE = 2, 4, 2, 5, 3, 3
RNG = np.random.default_rng(8)


def numbers(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


def test_attention_behind_a_prefix_by_hand():
    """Query head h with key head h // 2: the virtual tokens first, all seen, then the row's."""
    q, k, v = numbers(B, H, S, D), numbers(B, K, S, D), numbers(B, K, S, D)
    layer = {"prefix_k": numbers(PRE, K * D), "prefix_v": numbers(PRE, K * D)}
    laid = {name: Tensor(x) for name, x in layer.items()}
    segments = np.array([[1, 1, 2, 2, 2], [1, 1, 1, 0, 0]], np.int32)
    plain = {"bias": dense_attention.causal_bias(Tensor(segments), H)}
    widened = adapted.see_prefix(plain, laid)
    assert widened["bias"].shape == (B, H, S, PRE + S)
    keys = adapted.behind_prefix(Tensor(k), laid, "prefix_k")
    values = adapted.behind_prefix(Tensor(v), laid, "prefix_v")
    seen = attention.attend(Tensor(q), keys, values, widened).asnumpy()
    for b, h, s in np.ndindex(B, H, S):
        own = slice((h // 2) * D, (h // 2 + 1) * D)
        near = [t for t in range(s + 1) if segments[b, t] == segments[b, s]]
        rows_k = np.concatenate([layer["prefix_k"][:, own], k[b, h // 2, near]])
        rows_v = np.concatenate([layer["prefix_v"][:, own], v[b, h // 2, near]])
        shares = np.exp(rows_k @ q[b, h, s] / math.sqrt(D))
        wanted = shares / shares.sum() @ rows_v
        np.testing.assert_allclose(seen[b, h, s], wanted, rtol=2e-5, atol=1e-6)


def test_a_bottleneck_by_hand():
    x, down, up = numbers(6, 4), numbers(4, 3), numbers(3, 4)
    first, second = numbers(3), numbers(4)
    parts = {"down": down, "down_bias": first, "up": up, "up_bias": second}
    layer = {f"mlp_adapter_{name}": Tensor(part) for name, part in parts.items()}
    inner = x @ down + first
    tanh = np.tanh(math.sqrt(2 / math.pi) * (inner + 0.044715 * inner**3))
    wanted = x + (0.5 * inner * (1 + tanh)) @ up + second
    seen = adapted.through_adapter(Tensor(x), layer, "mlp_adapter")
    np.testing.assert_allclose(seen.asnumpy(), wanted, rtol=1e-5, atol=1e-5)


def test_a_layer_without_entries_is_left_alone():
    x = Tensor(numbers(1, 1, 2, 2))
    assert adapted.see_prefix(x, {}) is x
    assert adapted.after_prefix(x, {}) is x
    assert adapted.behind_prefix(x, {"prefix_v": 1}, "prefix_k") is x
    assert adapted.through_adapter(x, {"mlp_adapter_up_bias": 1}, "attention_adapter") is x


def test_positions_count_from_the_prefix_on():
    layer, ids = {"prefix_k": Tensor(numbers(PRE, 2))}, Tensor([[4, 4, 4]], ms.int32)
    places = adapted.running_positions(ids, None, layer)
    assert adapted.after_prefix(places, layer).asnumpy().tolist() == [[3, 4, 5]]
    assert adapted.running_positions(ids, ids, {}).asnumpy().tolist() == [[0, 1, 2]]
    with pytest.raises(ValueError, match="prefix: segment_ids came without position_ids; before a"):
        adapted.running_positions(ids, ids, layer)


def test_entries_come_in_the_dtype_of_the_activations():
    x = Tensor(numbers(2, 2)).astype(ms.float16)
    sizes = {"down_left": (2, 1), "down_right": (1, 3), "down_bias": (3,), "up": (3, 2)}
    sizes["up_bias"] = (2,)
    layer = {f"mlp_adapter_{name}": Tensor(numbers(*size)) for name, size in sizes.items()}
    assert adapted.through_adapter(x, layer, "mlp_adapter").dtype == ms.float16
    keys = adapted.behind_prefix(
        x.reshape((1, 1, 2, 2)), {"prefix_k": Tensor(numbers(3, 2))}, "prefix_k"
    )
    assert (keys.dtype, keys.shape) == (ms.float16, (1, 1, 5, 2))
