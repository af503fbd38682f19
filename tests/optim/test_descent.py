from __future__ import annotations

import mindspore as ms
import numpy as np
import pytest

from mfunc.optim import sgd
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
