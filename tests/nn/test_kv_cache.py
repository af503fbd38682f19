from __future__ import annotations

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor

from mfunc.nn import kv_cache


@pytest.mark.parametrize("dtype", [ms.float32, ms.float16])
def test_an_empty_cache(dtype):
    cache = kv_cache.empty(3, (2, 1, 8, 4), dtype)
    assert len(cache["k"]) == len(cache["v"]) == 3
    assert {(x.dtype, x.shape) for x in (*cache["k"], *cache["v"])} == {(dtype, (2, 1, 8, 4))}
    assert (cache["length"].dtype, cache["length"].asnumpy().tolist()) == (ms.int32, [0, 0])


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_tokens_are_written_at_their_places_and_nothing_else_changes(dtype):
    rng = np.random.default_rng(0)
    old, new = rng.random((2, 3, 8, 4)).astype(dtype), rng.random((2, 3, 2, 4)).astype(dtype)
    written, _ = kv_cache.plan(Tensor([[2, 3], [5, 6]], ms.int32), 8, 4)
    seen = kv_cache.write(Tensor(old), Tensor(new).astype(ms.float32), written).asnumpy()
    wanted = old.copy()
    wanted[0, :, 2:4], wanted[1, :, 5:7] = new[0], new[1]
    assert seen.dtype == dtype
    np.testing.assert_array_equal(seen, wanted)


def test_a_token_sees_itself_and_what_is_before():
    _, bias = kv_cache.plan(Tensor([[2, 3]], ms.int32), 5, 2)
    assert bias.shape == (1, 2, 2, 5)
    for head in (0, 1):
        assert (bias == 0).asnumpy()[0, head].astype(int).tolist() == [
            [1, 1, 1, 0, 0], [1, 1, 1, 1, 0],
        ]  # fmt: skip


def test_a_place_behind_the_cache_is_not_written():
    """A finished row of a batch goes on until the longest is done."""
    old = np.ones((1, 1, 2, 1), np.float32)
    written, _ = kv_cache.plan(Tensor([[2]], ms.int32), 2, 1)
    assert kv_cache.write(Tensor(old), Tensor(5 * old[:, :, :1]), written).asnumpy().all()
