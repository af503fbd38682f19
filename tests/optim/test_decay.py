from __future__ import annotations

import mindspore as ms
import numpy as np
import pytest
from tests.optim.problem import BETAS, EVERY, GRADS, PARAMS, compiled, run, same_bits, tensors

from mfunc.optim import adam, adamw, add_decayed_weights, chain, masked


def test_it_adds_a_share_of_what_the_mask_takes():
    updates = run(EVERY["add_decayed_weights"], 1, compiled("add_decayed_weights"))[0]
    np.testing.assert_array_equal(updates["b"].asnumpy(), GRADS[0]["b"])
    wanted = GRADS[0]["w"] + np.float32(0.1) * PARAMS["w"]
    np.testing.assert_allclose(updates["w"].asnumpy(), wanted, rtol=1e-6)


def test_a_mask_is_the_optimizer_masked():
    grads, params = tensors(GRADS[0]), tensors(PARAMS)
    first, second = add_decayed_weights(0.1, mask="w"), masked(add_decayed_weights(0.1), "w")
    updates = [o.update(grads, o.init(params), params)[0] for o in (first, second)]
    assert same_bits(*updates)


def test_coupled_decay_is_not_decoupled():
    """L2 regularisation before Adam is divided by the root of squares, AdamW's decay is not."""
    coupled = chain(add_decayed_weights(0.1), adam(1e-2, **BETAS))
    apart = adamw(1e-2, **BETAS, weight_decay=0.1)
    params, grads = {"w": ms.Tensor([2.0])}, {"w": ms.Tensor([1.0])}
    moved = [float(o.update(grads, o.init(params), params)[0]["w"]) for o in (coupled, apart)]
    np.testing.assert_allclose(moved, [-0.01, -0.012], rtol=1e-5)


def test_settings_out_of_range():
    with pytest.raises(ValueError, match=r"add_decayed_weights: weight_decay=-0.1; it must be fin"):
        add_decayed_weights(-0.1)
