from __future__ import annotations

import mindspore as ms
import numpy as np
import pytest
from tests.optim.problem import EVERY, PARAMS, arrays, tensors

from mfunc import tree
from mfunc.optim import adafactor


def test_a_matrix_has_means_of_rows_and_columns():
    state = EVERY["adafactor"].init(tensors(PARAMS))[0]
    assert [leaf.shape for leaf in state["row"]] == [(8,), (1, 4), (6, 1)]
    assert [leaf.shape for leaf in state["column"]] == [(), (16, 1), (1, 8)]
    assert not any(array.any() for array in arrays(state))


@pytest.mark.parametrize(
    ("shape", "wanted"),
    [
        ((128, 128), [(128, 1), (1, 128)]),
        ((200, 3, 128), [(1, 3, 128), (200, 3, 1)]),
        ((127, 500), [(127, 500), ()]),
        ((), [(), ()]),
    ],
)
def test_the_two_longest_axes_count(shape, wanted):
    state = adafactor(1e-2).init({"w": ms.Tensor(np.zeros(shape, np.float32))})[0]
    assert [state["row"][0].shape, state["column"][0].shape] == wanted


def test_a_tensor_of_three_axes_is_a_stack_of_matrices():
    rng = np.random.default_rng(0)
    params, grads = rng.standard_normal((2, 5, 3, 4)).astype(np.float32)
    settings = {"min_dim_size_to_factor": 3, "multiply_by_parameter_scale": False}
    optimizer = adafactor(0.1, clipping_threshold=None, **settings)

    def move(param, grad):
        node = {"w": ms.Tensor(param)}
        return optimizer.update({"w": ms.Tensor(grad)}, optimizer.init(node), node)[0][
            "w"
        ].asnumpy()

    # The longest axes are 0 and 2, so axis 1 goes its own ways.
    slices = [move(params[:, i], grads[:, i]) for i in range(3)]
    np.testing.assert_allclose(move(params, grads), np.stack(slices, axis=1), rtol=1e-5)


def test_an_update_is_as_large_as_its_parameter_says():
    """Root mean squares: 1 after the clip, times 2 or the floor of 1e-3, times the rate."""
    params = {"a": ms.Tensor(np.full(9, 2.0, np.float32)), "b": ms.Tensor(np.zeros(9, np.float32))}
    grads = tree.map(lambda leaf: leaf * 0.0 + 7.0, params)
    optimizer = adafactor(0.5)
    updates, _ = optimizer.update(grads, optimizer.init(params), params)
    np.testing.assert_allclose(updates["a"].asnumpy(), -1.0, rtol=1e-6)
    np.testing.assert_allclose(updates["b"].asnumpy(), -5e-4, rtol=1e-6)


def test_zero_gradients_do_no_harm():
    params = tensors(PARAMS)
    grads = tree.map(lambda leaf: leaf * 0.0, params)
    for name in ("adafactor", "adafactor_unfactored"):
        updates, _ = EVERY[name].update(grads, EVERY[name].init(params), params)
        assert not any(array.any() for array in arrays(updates))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"clipping_threshold": 0.0},
            r"adafactor: clipping_threshold=0.0; it must be positive, or",
        ),
        ({"decay_rate": -0.8}, r"adafactor: decay_rate=-0.8; it must be finite and not negative"),
        ({"momentum": 1.0}, r"ema: decay=1.0; it must be from 0 to below 1"),
        ({"weight_decay_rate": -1.0}, r"adafactor: weight_decay_rate=-1.0; it must be finite and"),
    ],
)
def test_settings_out_of_range(settings, message):
    with pytest.raises(ValueError, match=message):
        adafactor(1e-2, **settings)
