"""The laws of attention in blocks: what is left out would have counted nothing."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from mindspore import Tensor
from tests.trees import assert_close

import mfunc.data as md
from mfunc.gradient import value_and_grad
from mfunc.nn import attention, block_attention, dense_attention
from mfunc.transform import jit


@st.composite
def batches(draw, rows: int | None = None, length: int | None = None) -> np.ndarray:
    """Segment ids [B, S]: rows of documents of any length, then padding, maybe all of a row."""
    rows = rows or draw(st.integers(1, 4))
    length = length or draw(st.integers(1, 24))
    found = np.zeros((rows, length), np.int32)
    for row in found:
        sizes = draw(st.lists(st.integers(1, length), max_size=8))
        ids = np.repeat(np.arange(1, len(sizes) + 1), sizes)[:length]
        row[: len(ids)] = ids
    return found


def blocks_that(divide: int) -> list[int]:
    return [n for n in range(1, divide + 1) if divide % n == 0]


@given(batches(), st.data())
def test_every_allowed_pair_of_tokens_is_in_exactly_one_pair_of_blocks(segments, data):
    block = data.draw(st.sampled_from(blocks_that(segments.size)))
    found = md.attention_blocks(segments, block=block, multiple=data.draw(st.integers(1, 5)))
    pairs = [tuple(pair) for pair in found["pairs"].tolist() if pair[1] >= 0]
    assert len(set(pairs)) == len(pairs)
    assert pairs == sorted(pairs)
    width = segments.shape[1]
    mask = md.segment_mask(segments)
    for row, query, key in np.argwhere(mask & (segments > 0)[:, :, None]).tolist():
        at, to = (row * width + query) // block, (row * width + key) // block
        assert (at, to) in pairs
        assert found["first"][at] <= to


@given(batches(), st.data())
def test_no_pair_is_without_use(segments, data):
    """Every pair holds a query and a key of one segment, or stands between two such pairs."""
    block = data.draw(st.sampled_from(blocks_that(segments.size)))
    pairs = md.attention_blocks(segments, block=block, multiple=1)["pairs"]
    numbers = np.where(segments > 0, segments + 100 * np.arange(len(segments))[:, None], 0)
    parts = numbers.reshape(-1, block)
    for at, to in pairs[pairs[:, 1] >= 0].tolist():
        first = parts[at][parts[at] > 0][0]
        assert to == at or first in parts[to]


HEADS, KINDS, WIDTH, SHAPE = 4, 2, 3, (3, 16)


def blockwise(x: np.ndarray, block: int) -> Tensor:
    """Cut [B, H, S, D] into blocks [n, H, C, D]."""
    tokens = x.transpose(0, 2, 1, 3).reshape(-1, block, x.shape[1], x.shape[3])
    return Tensor(np.ascontiguousarray(tokens.transpose(0, 2, 1, 3)))


def in_blocks(q, k, v, weight, segment_ids, blocks):
    seen = block_attention.see(segment_ids, blocks, HEADS)
    return (block_attention.attend(q, k, v, seen) * weight).sum()


def in_rows(q, k, v, weight, segment_ids):
    bias = dense_attention.causal_bias(segment_ids, HEADS)
    return (dense_attention.attend(q, k, v, bias) * weight).sum()


by_blocks = jit(value_and_grad(in_blocks, (0, 1, 2)))
by_rows = jit(value_and_grad(in_rows, (0, 1, 2)))


@given(batches(*SHAPE), st.sampled_from([4, 8]), st.integers(0, 99))
def test_blocks_change_no_sum_and_no_gradient(segments, block, seed):
    """Also where blocks, or whole rows, hold padding only: nothing is NaN there."""
    rng = np.random.default_rng(seed)
    shapes = [(SHAPE[0], heads, SHAPE[1], WIDTH) for heads in (HEADS, KINDS, KINDS, HEADS)]
    *qkv, weight = [rng.standard_normal(shape).astype(np.float32) for shape in shapes]
    weight *= (segments > 0)[:, None, :, None]
    blocks = md.attention_blocks(segments, block=block, most=len(segments) * 40)
    wanted = by_rows(*map(Tensor, (*qkv, weight)), Tensor(segments))
    tensors = {name: Tensor(x) for name, x in blocks.items()}
    seen = by_blocks(*[blockwise(x, block) for x in (*qkv, weight)], Tensor(segments), tensors)
    again = [blockwise(x.asnumpy(), block) for x in wanted[1]]
    assert_close(seen, (wanted[0], tuple(again)), rtol=1e-5, atol=3e-6)


@given(batches(2, 8), batches(2, 8))
def test_blocks_of_another_batch_give_the_right_numbers_or_none(segments, others):
    """They may be enough; if they are not, all is NaN and nothing is wrong."""
    rng = np.random.default_rng(0)
    q = Tensor(rng.standard_normal((2, 1, 8, 2)).astype(np.float32))
    blocks = md.attention_blocks(others, block=2, most=40)
    seen = block_attention.see(Tensor(segments), {name: Tensor(x) for name, x in blocks.items()}, 1)
    x = blockwise(q.asnumpy(), 2)
    found = block_attention.attend(x, x, x, seen).asnumpy()
    if np.isnan(found).any():
        assert np.isnan(found).all()
        return
    wanted = attention.attention(q, q, q, segment_ids=Tensor(segments)).asnumpy()
    real = np.broadcast_to((segments > 0)[:, None, :, None], wanted.shape)
    np.testing.assert_allclose(
        found[blockwise(real, 2).asnumpy()],
        blockwise(wanted, 2).asnumpy()[blockwise(real, 2).asnumpy()],
        atol=1e-6,
    )
