from __future__ import annotations

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor

import mfunc.data as md
from mfunc import tree
from mfunc.batching import vmap
from mfunc.gradient import value_and_grad
from mfunc.nn import block_attention
from mfunc.transform import jit

SEGMENTS = np.array([[1, 1, 1, 2, 2, 2, 2, 2, 2, 3, 0, 0], [1] * 11 + [0]], np.int32)
BLOCK, HEADS, WIDTH = 4, 4, 5


def blocks_of(segments: np.ndarray, **settings) -> dict[str, Tensor]:
    found = md.attention_blocks(segments, block=BLOCK, **settings)
    return {name: Tensor(x) for name, x in found.items()}


def heads(kinds: int, seed: int = 0) -> list[Tensor]:
    rng = np.random.default_rng(seed)
    sizes = [(6, n, BLOCK, WIDTH) for n in (HEADS, kinds, kinds)]
    return [Tensor(rng.standard_normal(size).astype(np.float32)) for size in sizes]


def attended(q, k, v, segments, blocks):
    return block_attention.attend(q, k, v, block_attention.see(segments, blocks, HEADS))


def reference(q, k, v) -> np.ndarray:
    """A head and a token at a time, in float64, over rows laid end to end."""
    q, k, v = (x.asnumpy().astype(np.float64).transpose(0, 2, 1, 3) for x in (q, k, v))
    q, k, v = (x.reshape(-1, *x.shape[2:]) for x in (q, k, v))
    mask, row = md.segment_mask(SEGMENTS), SEGMENTS.shape[1]
    out, share = np.zeros(q.shape), q.shape[1] // k.shape[1]
    for t, h in np.ndindex(q.shape[:2]):
        near = t // row * row + np.flatnonzero(mask[t // row, t % row])
        scores = k[near, h // share] @ q[t, h] / np.sqrt(WIDTH)
        weights = np.exp(scores - scores.max())
        out[t, h] = weights @ v[near, h // share] / weights.sum()
    return out.reshape(-1, BLOCK, *out.shape[1:]).transpose(0, 2, 1, 3)


REAL = (SEGMENTS > 0).reshape(-1, BLOCK)[:, None, :, None]


@pytest.mark.parametrize("kinds", [4, 2, 1])
def test_it_agrees_with_float64(kinds):
    """As many key heads as query heads, fewer, one."""
    q, k, v = heads(kinds)
    wanted = reference(q, k, v) * REAL
    for fn in (attended, jit(attended)):
        seen = fn(q, k, v, Tensor(SEGMENTS), blocks_of(SEGMENTS, multiple=7)).asnumpy()
        np.testing.assert_allclose(seen * REAL, wanted, rtol=1e-5, atol=2e-6)


def test_a_block_of_padding_is_zero():
    segments = np.where(np.arange(12) < 3, 1, 0).astype(np.int32)[None]
    q, k, v = (x[:3] for x in heads(4))
    seen = attended(q, k, v, Tensor(segments), blocks_of(segments)).asnumpy()
    assert not seen[1:].any()
    assert np.isfinite(seen).all()


def summed(q, k, v, segments, blocks):
    return (attended(q, k, v, segments, blocks) * Tensor(REAL.astype(np.float32))).sum()


def test_sharp_scores_stay_finite():
    """The largest score of a query may stand in any of its pairs."""
    q, k, v = (x * 1e4 for x in heads(4))
    value, gradients = value_and_grad(summed, (0, 1, 2))(
        q, k, v, Tensor(SEGMENTS), blocks_of(SEGMENTS)
    )
    assert np.isfinite(value.asnumpy())
    assert all(np.isfinite(x.asnumpy()).all() for x in gradients)


def test_what_is_hidden_counts_nothing():
    """Enormous keys and values of other segments change no bit."""
    q, k, v = heads(4)
    other = ((SEGMENTS == 2) & (np.arange(2)[:, None] == 0)).reshape(-1, BLOCK)[:, None, :, None]
    loud = [Tensor(np.where(other, 1e6, x.asnumpy()).astype(np.float32)) for x in (k, v)]
    quiet, seen = (
        attended(q, *kv, Tensor(SEGMENTS), blocks_of(SEGMENTS)).asnumpy() for kv in ((k, v), loud)
    )
    kept = np.broadcast_to(REAL & ~other, quiet.shape)
    np.testing.assert_array_equal(seen[kept], quiet[kept])


def test_too_few_blocks_give_no_number():
    q, k, v = heads(4)
    single = blocks_of(np.arange(1, 25, dtype=np.int32)[None])
    seen = jit(attended)(q, k, v, Tensor(SEGMENTS), single).asnumpy()
    assert np.isnan(seen).all()


def test_it_maps():
    """`vmap` over a leading axis of everything is the same, one at a time."""
    segments = [SEGMENTS, SEGMENTS[::-1].copy()]
    batches = [
        (*heads(2, seed), Tensor(ids), blocks_of(ids, most=30)) for seed, ids in enumerate(segments)
    ]
    stacked = tree.map(lambda a, b: Tensor(np.stack([a.asnumpy(), b.asnumpy()])), *batches)
    mapped = jit(vmap(attended))(*stacked).asnumpy()
    for seen, batch in zip(mapped, batches, strict=True):
        np.testing.assert_allclose(seen, attended(*batch).asnumpy(), atol=1e-6)


def test_half_precision_stays_half():
    q, k, v = (x.astype(ms.float16) for x in heads(2))
    seen = jit(attended)(q, k, v, Tensor(SEGMENTS), blocks_of(SEGMENTS))
    assert seen.dtype == ms.float16
    np.testing.assert_allclose(seen.asnumpy() * REAL, reference(q, k, v) * REAL, atol=4e-3)
