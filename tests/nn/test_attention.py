from __future__ import annotations

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor
from tests.trees import assert_close

import mfunc.data as md
from mfunc.gradient import value_and_grad
from mfunc.nn import attention, block_attention, dense_attention, fused_attention
from mfunc.transform import jit

CASES = [
    # device, dtype, B, S, D, pairs, block, prefix -> how
    (("CPU", ms.float32, 1, 4096, 64), {}, "dense"),
    (("CPU", ms.float32, 1, 4096, 64), {"pairs": 160, "block": 64}, "blocks"),
    (("CPU", ms.float32, 1, 4096, 64), {"pairs": 2000, "block": 64}, "blocks"),
    (("CPU", ms.float32, 1, 4096, 64), {"pairs": 2080, "block": 64}, "dense"),
    (("CPU", ms.float32, 1, 4096, 64), {"pairs": 160, "block": 64, "prefix": True}, "dense"),
    (("CPU", ms.float32, 8, 128, 64), {"pairs": 24, "block": 64}, "dense"),
    (("CPU", ms.float16, 1, 4096, 64), {"pairs": 160, "block": 64}, "blocks"),
    (("CPU", ms.float32, 4, -1, 64), {"pairs": 160, "block": 64}, "dense"),
    (("Ascend", ms.bfloat16, 1, 4096, 64), {}, "fused"),
    (("Ascend", ms.float16, 1, 4096, 64), {"pairs": 160, "block": 64}, "fused"),
    (("Ascend", ms.float16, 1, 4096, 24), {"pairs": 160, "block": 64}, "blocks"),
    (("Ascend", ms.float32, 1, 4096, 64), {}, "dense"),
    (("Ascend", ms.float16, 1, 4096, 64), {"prefix": True}, "dense"),
]


@pytest.mark.parametrize(("shape", "more", "how"), CASES)
def test_the_choice(shape, more, how):
    assert attention.choose(*shape, **more) == how


@pytest.mark.parametrize(
    ("segments", "keys"), [(16, ("bias",)), (4, ("bias", "query", "key", "empty"))]
)
def test_what_is_seen_follows_the_choice(segments, keys):
    """One segment of all, so many pairs; or four, so few."""
    ids = np.repeat(np.arange(1, 16 // segments + 1), segments)[None].astype(np.int32)
    blocks = {k: Tensor(x) for k, x in md.attention_blocks(ids, block=4, multiple=4).items()}
    like = Tensor(np.float32([0]))
    for wrap in (lambda fn, **_: fn, jit):
        see = wrap(attention.see, static_argnums=(2, 3))
        assert sorted(see(Tensor(ids), like, 2, 8, blocks)) == sorted(keys)


ROWS = np.array(
    [[1] * 3 + [2] * 6 + [3] + [0] * 6, [1, 2, 2, 3, 3, 3, 4, 4, 5, 5, 5, 5, 6, 7, 8, 9]]
)
ROWS = ROWS.astype(np.int32)


def numbers(*shape, seed=0) -> Tensor:
    return Tensor(np.random.default_rng(seed).standard_normal(shape).astype(np.float32))


def test_one_function_computes_it_both_ways():
    """With blocks and without: the same numbers and the same gradients, in and outside of `jit`."""
    q, k, v = numbers(2, 4, 16, 5), numbers(2, 2, 16, 5, seed=1), numbers(2, 2, 16, 5, seed=2)
    blocks = {name: Tensor(x) for name, x in md.attention_blocks(ROWS, block=4).items()}
    real = Tensor((ROWS > 0).astype(np.float32).reshape(2, 1, 16, 1))

    def summed(q, k, v, segment_ids, blocks):
        mixed = attention.attention(q, k, v, segment_ids=segment_ids, blocks=blocks)
        return (mixed * mixed * real).sum()

    take = value_and_grad(summed, (0, 1, 2))
    wanted = take(q, k, v, Tensor(ROWS), None)
    for fn in (take, jit(take)):
        assert_close(fn(q, k, v, Tensor(ROWS), blocks), wanted, rtol=2e-6, atol=3e-6)


def test_blocks_of_other_sizes_are_refused():
    blocks = {name: Tensor(x) for name, x in md.attention_blocks(ROWS, block=4).items()}
    q = numbers(2, 4, 15, 5)
    with pytest.raises(ValueError, match=r"blocks for 8 blocks do not fit 2 rows of 15 tokens"):
        attention.attention(q, q, q, segment_ids=Tensor(ROWS[:, :15].copy()), blocks=blocks)


def test_each_way_takes_what_it_sees():
    x = numbers(1, 2, 4, 16)
    segments = Tensor(np.int32([[1, 1, 2, 2]]))
    blocks = {name: Tensor(x) for name, x in md.attention_blocks([[1, 1, 2, 2]], block=2).items()}
    dense = {"bias": dense_attention.causal_bias(segments, 2)}
    sparse = block_attention.see(segments, blocks, 2)
    fused = fused_attention.see(segments, 8)
    assert [attention.laid(segments, seen).shape for seen in (dense, sparse, fused)] == [
        (1, 4), (2, 2), (1, 4),
    ]  # fmt: skip
    assert attention.attend(x, x, x, dense).shape == (1, 2, 4, 16)
