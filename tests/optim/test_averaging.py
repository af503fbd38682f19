from __future__ import annotations

import mindspore as ms
import numpy as np
import pytest

from mfunc.optim import ema


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.999])
def test_the_average_of_what_never_changes_is_that(decay):
    average, node = ema(decay), {"w": ms.Tensor([3.0, -2.0], ms.float16)}
    state = average.init(node)
    for _ in range(4):
        mean, state = average.update(node, state, None)
        assert mean["w"].dtype == ms.float32
        # 1 - 0.999 has a relative error of 1.3e-5 in float32, in optax as here.
        np.testing.assert_allclose(mean["w"].asnumpy(), [3.0, -2.0], rtol=2e-5)


def test_without_debias_it_begins_at_0():
    average, node = ema(0.75, debias=False), {"w": ms.Tensor([4.0])}
    state, seen = average.init(node), []
    for _ in range(3):
        mean, state = average.update(node, state, None)
        seen.append(float(mean["w"]))
    assert seen == [1.0, 1.75, 2.3125]


@pytest.mark.parametrize("decay", [1.0, -0.1, float("nan")])
def test_settings_out_of_range(decay):
    with pytest.raises(ValueError, match=r"ema: decay=.*; it must be from 0 to below 1"):
        ema(decay)
