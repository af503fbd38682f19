from __future__ import annotations

import mindspore as ms
import numpy as np
import pytest
from tests.optim.problem import state_of, train_step_of
from tests.trees import assert_close, tensor

from mfunc.optim import adam, adamw, lamb
from mfunc.optim.in_place import LARGE
from mfunc.schedule import cosine
from mfunc.transform import jit

RATE = cosine(1e-2, total_steps=30)
OPTIMIZERS = {
    "adam": adam(RATE),
    "adamw": adamw(RATE, weight_decay=0.2, mask=("w", "small", "half")),
    "uncorrected": adamw(RATE, weight_decay=0.2, mask=("large", "b"), bias_correction=False),
}


def leaves(seed):
    """One leaf for each kernel with decay, and one without."""
    size = int(LARGE**0.5) + 1
    return {
        "w": tensor(size, size, seed=seed), "large": tensor(size, size, seed=seed + 1),
        "small": tensor(3, 3, seed=seed + 2), "b": tensor(7, seed=seed + 3),
        "half": tensor(3, 3, seed=seed + 4).astype(ms.float16),
    }  # fmt: skip


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_kernels_do_what_update_does(name):
    optimizer = OPTIMIZERS[name]
    slow, fast = (
        train_step_of(optimizer),
        jit(train_step_of(optimizer), donate_argnums=0, home="home"),
    )
    state, wanted = (state_of(optimizer, leaves(9)) for _ in range(2))
    for i in range(6):
        state, _ = fast(state, leaves(10 * i), np.float32(1.0))
        wanted, _ = slow(wanted, leaves(10 * i), ms.Tensor(1.0))
    assert_close(state, wanted, rtol=2e-6, atol=2e-6)
    assert fast.compiles() == 1


def test_who_has_kernels():
    assert adamw(1.0).overwrite is not None
    assert adamw(1.0, nesterov=True).overwrite is lamb(1.0).overwrite is None
