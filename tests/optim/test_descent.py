from __future__ import annotations

import mindspore as ms
import numpy as np
import pytest

from mfunc.optim import lion, sgd
from mfunc.schedule import cosine


@pytest.mark.parametrize("dtype", [ms.float32, ms.float16])
def test_the_rate_times_the_gradient(dtype):
    """In float32, whatever the gradient is: 2e-5 times 1e-3 is nothing in float16."""
    grads = {"w": ms.Tensor([1.0, -1e-3], dtype), "b": [ms.Tensor([[2.0]], dtype)]}
    optimizer = sgd(2e-5)
    updates, state = optimizer.update(grads, optimizer.init(grads), grads)
    np.testing.assert_allclose(updates["w"].asnumpy(), [-2e-5, 2e-8], rtol=1e-3)
    np.testing.assert_allclose(updates["b"][0].asnumpy(), [[-4e-5]], rtol=1e-6)
    assert int(state["count"]) == 1


def test_a_schedule_gives_the_rate_of_each_step():
    optimizer = sgd(cosine(0.5, total_steps=4))
    params = {"w": ms.Tensor([0.0])}
    state, seen = optimizer.init(params), []
    for _ in range(5):
        updates, state = optimizer.update({"w": ms.Tensor([1.0])}, state, params)
        seen.append(-float(updates["w"]))
    np.testing.assert_allclose(seen, 0.25 + 0.25 * np.cos(np.pi * np.arange(5) / 4), atol=1e-6)


def moves(optimizer, grads, dtype=ms.float32):
    params = {"w": ms.Tensor([1.0], dtype)}
    state, seen = optimizer.init(params), []
    for grad in grads:
        updates, state = optimizer.update({"w": ms.Tensor([grad], dtype)}, state, params)
        seen.append(float(updates["w"]))
    return seen


def test_momentum_sums_and_nesterov_looks_ahead():
    assert moves(sgd(1.0, momentum=0.5), [1.0, 0.0, 4.0]) == [-1.0, -0.5, -4.25]
    assert moves(sgd(1.0, momentum=0.5, nesterov=True), [1.0, 0.0, 4.0]) == [-1.5, -0.25, -6.125]
    assert moves(sgd(1.0, momentum=0.0), [1.0, 2.0]) == moves(sgd(1.0), [1.0, 2.0])


@pytest.mark.parametrize("dtype", [ms.float32, ms.float16])
def test_lion_goes_by_the_sign_however_small(dtype):
    assert moves(lion(0.5, weight_decay=0.0), [6e-8, 0.0, -1.0], dtype) == [-0.5, -0.5, 0.5]
    assert moves(lion(0.5, weight_decay=0.25), [0.0], dtype) == [-0.125]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: sgd(1.0, nesterov=True), r"sgd: nesterov=True without momentum; give momentum"),
        (lambda: sgd(1.0, momentum=1.0), r"sgd: momentum=1.0; it must be from 0 to below 1"),
        (lambda: sgd(-1.0), r"sgd: learning_rate=-1.0; it must be finite and not negative"),
        (lambda: sgd(float("nan")), r"sgd: learning_rate=nan; it must be finite"),
        (lambda: lion(1.0, b2=1.0), r"lion: b2=1.0; it must be from 0 to below 1"),
        (
            lambda: lion(1.0, mask="v").init({"w": ms.Tensor(0.0)}),
            r"lion: pattern 'v' matches no parameter",
        ),
    ],
)
def test_settings_out_of_range(make, message):
    with pytest.raises(ValueError, match=message):
        make()
