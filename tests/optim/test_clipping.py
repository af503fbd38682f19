from __future__ import annotations

import mindspore as ms
import numpy as np
import pytest
from tests.optim.problem import GOLDEN, GRADS, same_bits, tensors

from mfunc import tree
from mfunc.optim import clip_by_global_norm, clip_by_value, global_norm


@pytest.mark.parametrize("case", ["above", "below", "equal", "zero", "large", "small"])
def test_global_norm_and_clipping(case):
    given = tensors({leaf: GOLDEN[f"norm/{case}/tree/{leaf}"] for leaf in "abc"})
    wanted = f"norm/{case}/float64"
    np.testing.assert_allclose(float(global_norm(given)), GOLDEN[f"{wanted}/norm"], rtol=1e-6)
    limit = float(GOLDEN["norm/max_norm"])
    clipped, state = clip_by_global_norm(limit).update(given, {}, given)
    assert state == {}
    for leaf, seen in clipped.items():
        np.testing.assert_allclose(seen.asnumpy(), GOLDEN[f"{wanted}/clipped/{leaf}"], rtol=1e-6)
    if case in ("below", "equal", "zero", "small"):
        assert same_bits(clipped, given)


@pytest.mark.parametrize("dtype", [ms.float32, ms.float16])
def test_below_the_limit_nothing_changes_to_the_bit(dtype):
    grads = tensors(GRADS[0], dtype)
    limit = float(global_norm(grads)) * 1.001
    clipped, _ = clip_by_global_norm(limit).update(grads, {}, grads)
    assert same_bits(clipped, grads)
    shorter, _ = clip_by_global_norm(limit / 2).update(grads, {}, grads)
    assert float(global_norm(shorter)) == pytest.approx(limit / 2, rel=1e-3)
    assert {leaf.dtype for leaf in tree.leaves(shorter)} == {dtype}


def test_nothing_is_added_to_the_norm():
    grads = {"w": ms.Tensor([3e-6, 4e-6])}
    clipped, _ = clip_by_global_norm(1e-6).update(grads, {}, grads)
    np.testing.assert_allclose(clipped["w"].asnumpy(), [6e-7, 8e-7], rtol=1e-6)


@pytest.mark.parametrize("dtype", [ms.float32, ms.float16])
def test_values_beyond_the_limit_are_cut_and_others_stay_to_the_bit(dtype):
    grads = {"w": ms.Tensor([-3.0, -0.25, -0.0, 0.2, 0.25, np.inf, -np.inf, np.nan], dtype)}
    clipped, state = clip_by_value(0.25).update(grads, {}, grads)
    assert (state, clipped["w"].dtype) == ({}, dtype)
    wanted = grads["w"].asnumpy().copy()
    wanted[[0, 5, 6]] = -0.25, 0.25, -0.25
    np.testing.assert_array_equal(clipped["w"].asnumpy(), wanted)
    assert np.signbit(clipped["w"].asnumpy()[2])


def test_the_norm_of_nothing_is_0():
    assert float(global_norm({"a": None})) == 0.0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: clip_by_global_norm(0.0), r"clip_by_global_norm: limit=0.0; it must be positive"),
        (lambda: clip_by_global_norm(float("nan")), r"limit=nan; it must be positive"),
        (lambda: clip_by_value(-1.0), r"clip_by_value: limit=-1.0; it must be positive"),
    ],
)
def test_settings_out_of_range(make, message):
    with pytest.raises(ValueError, match=message):
        make()
