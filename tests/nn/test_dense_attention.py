from __future__ import annotations

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor
from tests.trees import assert_close, tensor

from mfunc.gradient import value_and_grad
from mfunc.nn import dense_attention as attention
from mfunc.transform import jit

SEGMENTS = np.array([[1, 1, 1, 2, 2, 0, 0], [1, 2, 3, 3, 3, 3, 3], [0, 0, 0, 0, 0, 0, 0]], np.int32)


def allowed(segment_ids: np.ndarray) -> np.ndarray:
    """Who may look at whom, a pair at a time."""
    rows, length = segment_ids.shape
    mask = np.zeros((rows, length, length), bool)
    for b, i, j in np.ndindex(mask.shape):
        mask[b, i, j] = j <= i and segment_ids[b, i] == segment_ids[b, j]
    return mask


@pytest.mark.parametrize("wrap", [lambda fn, **_: fn, jit], ids=["eager", "jit"])
def test_causal_bias_by_brute_force(wrap):
    bias = wrap(attention.causal_bias, static_argnums=1)(Tensor(SEGMENTS), 2).asnumpy()
    assert bias.shape == (3, 2, 7, 7)
    for head in range(2):
        np.testing.assert_array_equal(bias[:, head] == 0, allowed(SEGMENTS))
    assert set(np.unique(bias)) == {np.float32(-attention.NEVER), np.float32(0)}


def test_positions_count_along_the_row():
    assert attention.positions(Tensor(SEGMENTS)).asnumpy().tolist() == [[*range(7)]] * 3


def reference(q, k, v, mask):
    """A head and a row at a time, in float64."""
    q, k, v = (x.asnumpy().astype(np.float64) for x in (q, k, v))
    out, share = np.zeros(q.shape), q.shape[1] // k.shape[1]
    for b, h, i in np.ndindex(q.shape[:3]):
        keys, values = k[b, h // share][mask[b, i]], v[b, h // share][mask[b, i]]
        scores = keys @ q[b, h, i] / np.sqrt(q.shape[-1])
        weights = np.exp(scores - scores.max())
        out[b, h, i] = weights @ values / weights.sum()
    return out


def heads(kinds: int, seed: int = 0):
    return (
        tensor(3, 4, 7, 5, seed=seed),
        tensor(3, kinds, 7, 5, seed=seed + 1),
        tensor(3, kinds, 7, 5, seed=seed + 2),
    )


@pytest.mark.parametrize("kinds", [4, 2, 1])
def test_attend_agrees_with_float64(kinds):
    """As many key heads as query heads, fewer, one."""
    q, k, v = heads(kinds)
    bias = attention.causal_bias(Tensor(SEGMENTS), 4)
    wanted = reference(q, k, v, allowed(SEGMENTS))
    for fn in (attention.attend, jit(attention.attend)):
        np.testing.assert_allclose(fn(q, k, v, bias).asnumpy(), wanted, rtol=1e-5, atol=1e-6)


def summed(q, k, v, bias):
    return (attention.attend(q, k, v, bias) ** 2).sum()


def test_grouped_heads_are_repeated_heads():
    """Also in the gradients, which are summed over the group."""
    q, k, v = heads(2)
    bias = attention.causal_bias(Tensor(SEGMENTS), 4)
    repeated = [Tensor(np.repeat(x.asnumpy(), 2, axis=1)) for x in (k, v)]
    value, grouped = jit(value_and_grad(summed, (0, 1, 2)))(q, k, v, bias)
    same_value, full = jit(value_and_grad(summed, (0, 1, 2)))(q, *repeated, bias)
    by_group = [x.asnumpy().reshape(3, 2, 2, 7, 5).sum(2) for x in full[1:]]
    assert_close((value, *grouped), (same_value, full[0], *by_group), rtol=1e-4, atol=1e-5)


def test_what_is_hidden_counts_nothing():
    """Enormous keys and values behind the mask change no bit of what is seen."""
    q, k, v = heads(4)
    bias = attention.causal_bias(Tensor(SEGMENTS), 4)
    hidden = np.zeros((3, 1, 7, 1), bool)
    hidden[0, :, 3:] = True  # the first segment of row 0 is positions 0, 1, 2
    loud = [Tensor(np.where(hidden, 1e6, x.asnumpy()).astype(np.float32)) for x in (k, v)]
    quiet, seen = (attention.attend(q, *kv, bias).asnumpy()[0, :, :3] for kv in ((k, v), loud))
    np.testing.assert_array_equal(seen, quiet)


def test_sharp_scores_stay_finite():
    q, k, v = (x * 1e4 for x in heads(4))
    value, gradients = value_and_grad(summed, (0, 1, 2))(
        q, k, v, attention.causal_bias(Tensor(SEGMENTS), 4)
    )
    assert np.isfinite(value.asnumpy())
    assert all(np.isfinite(x.asnumpy()).all() for x in gradients)
    assert value.dtype == ms.float32
