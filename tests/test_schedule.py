from __future__ import annotations

import json
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest

from mfunc.schedule import constant, cosine
from mfunc.transform import jit

GOLDEN = json.loads((Path(__file__).parent / "golden" / "schedule.json").read_text())
COSINES = [case for case in GOLDEN if case["schedule"] == "cosine"]


def made(case):
    return cosine(**case["settings"])


def name_of(case):
    return "-".join([case["source"].split()[0], *map(str, case["settings"].values())])


@pytest.mark.parametrize("case", COSINES, ids=name_of)
def test_cosine_in_python(case):
    rate = made(case)
    for step, wanted in case["points"]:
        assert rate(step) == pytest.approx(wanted, rel=1e-9, abs=1e-20), step


@pytest.mark.parametrize("case", COSINES, ids=name_of)
def test_cosine_compiled(case):
    steps, wanted = zip(*case["points"], strict=True)
    rates = jit(made(case))(np.int32(steps))
    assert rates.dtype == ms.float32
    np.testing.assert_allclose(rates.asnumpy(), wanted, rtol=1e-6, atol=0)


def test_one_compiled_schedule_serves_every_step():
    rate = cosine(0.3, total_steps=40, warmup_steps=7, end=0.1)
    fast = jit(rate)
    for step in (0, 3, 7, 20, 39, 40, 1000):
        seen = fast(ms.Tensor(step, ms.int32))
        assert seen.shape == ()
        assert float(seen) == pytest.approx(rate(step), rel=1e-6, abs=1e-12)
    assert fast.compiles() == 1


def test_the_whole_curve():
    rate = cosine(1.0, total_steps=50, warmup_steps=10, end=0.2)
    rates = [rate(step) for step in range(80)]
    assert rates[0] == 0.0
    assert rates[10] == max(rates) == 1.0
    assert rates == sorted(rates[:11]) + sorted(rates[11:], reverse=True)
    assert rates[30] == pytest.approx(0.6)
    assert set(rates[50:]) == {0.2}


@pytest.mark.parametrize("settings", [{}, {"warmup_steps": 0}, {"warmup_ratio": 0.0}])
def test_without_warm_up_it_starts_at_the_peak(settings):
    assert cosine(0.5, total_steps=10, **settings)(0) == 0.5


@pytest.mark.parametrize(
    ("ratio", "rise"), [(0.29, 29), (0.57, 57), (0.07, 7), (0.555, 55), (1.0, 100)]
)
def test_a_ratio_is_rounded_down_but_not_by_a_rounding_error(ratio, rise):
    """100 * 0.29 is 28.999999999999996, and 100 * 0.07 is 7.000000000000001."""
    by_ratio = cosine(1.0, total_steps=100, warmup_ratio=ratio)
    by_steps = cosine(1.0, total_steps=100, warmup_steps=rise)
    assert [by_ratio(step) for step in range(101)] == [by_steps(step) for step in range(101)]


def test_a_run_that_is_all_warm_up_rises_to_its_last_step():
    rate = cosine(1.0, total_steps=4, warmup_steps=4)
    assert [rate(step) for step in range(5)] == [0.0, 0.25, 0.5, 0.75, 0.0]


def test_constant_is_constant():
    assert constant(0.1)(0) == constant(0.1)(10**9) == 0.1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"total_steps": 0}, r"schedule.cosine: total_steps=0; it must be at least 1"),
        ({"warmup_steps": 1, "warmup_ratio": 0.1}, r"warmup_steps or warmup_ratio, not both"),
        ({"warmup_ratio": 1.5}, r"warmup_ratio=1.5; it must be from 0 to 1"),
        ({"warmup_ratio": -0.1}, r"warmup_ratio=-0.1; it must be from 0 to 1"),
        ({"warmup_steps": 11}, r"warmup_steps=11 and total_steps=10; warm-up must fit into the ru"),
        ({"warmup_steps": -1}, r"warmup_steps=-1 and total_steps=10; warm-up must fit"),
    ],
)
def test_settings_out_of_range(settings, message):
    with pytest.raises(ValueError, match=message):
        cosine(1.0, **{"total_steps": 10, **settings})
