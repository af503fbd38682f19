from __future__ import annotations

import math

import mindspore as ms
import pytest
from tests.schedule.cases import check, made, of

from mfunc.schedule import cosine, cosine_with_restarts, linear, polynomial, wsd
from mfunc.transform import jit


@pytest.mark.parametrize("case", of("cosine", "linear", "polynomial"))
def test_golden_points(case):
    check(made(case), case["points"])


def test_the_oracle_points_of_mindformers():
    """Rate 1e-4, 3 % of 1000 steps of warm-up, end 0."""
    rate = cosine(1e-4, total_steps=1000, warmup_ratio=0.03)
    points = {15: 5e-5, 30: 1e-4, 515: 5e-5, 1000: 0.0, 1001: 0.0, 10**6: 0.0}
    for step, wanted in points.items():
        assert rate(step) == pytest.approx(wanted, rel=1e-12, abs=0)


# Formulas of transformers 5.23, of the share p of the fall that is done.
def restarting(p, cycles):
    return 0.0 if p >= 1 else 0.5 * (1 + math.cos(math.pi * ((cycles * p) % 1.0)))


FALLS = {
    "cosine": lambda p: 0.5 * (1 + math.cos(math.pi * p)),
    "linear": lambda p: 1 - p,
    "1-sqrt": lambda p: 1 - math.sqrt(p),
}


@pytest.mark.parametrize(("cycles", "total"), [(1, 90), (2, 90), (3, 90), (7, 360), (49, 59)])
def test_restarts_are_those_of_transformers(cycles, total):
    rate = cosine_with_restarts(0.3, total_steps=total, cycles=cycles, warmup_steps=10)
    # Not at the restarts, where the rounding of a float decides what transformers gives.
    steps = [s for s in range(10, total + 5) if (cycles * (s - 10)) % (total - 10) or s >= total]
    points = [[s, 0.3 * restarting((s - 10) / (total - 10), cycles)] for s in steps]
    for step, wanted in points:
        assert rate(step) == pytest.approx(wanted, rel=1e-9, abs=1e-14)
    check(rate, [[s, rate(s)] for s in range(total + 5)])


@pytest.mark.parametrize("cycles", [3, 7, 49])
def test_every_restart_is_at_the_peak(cycles):
    """In float32, 3 (t / 99) misses the restart at 33 by a rounding error, which is all of it."""
    rate = cosine_with_restarts(1.0, total_steps=99 * cycles + 5, cycles=cycles, warmup_steps=5)
    fast = jit(rate)
    for cycle in range(cycles):
        step = 5 + 99 * cycle
        assert rate(step) == 1.0
        assert float(fast(ms.Tensor(step, ms.int32))) == 1.0
    assert rate(99 * cycles + 5) == rate(10**9) == float(fast(ms.Tensor(10**9, ms.int32))) == 0.0


def test_restarts_of_one_cycle_are_a_cosine_and_keep_their_end():
    settings = {"total_steps": 40, "warmup_ratio": 0.25, "end": 0.125}
    once, plain = cosine_with_restarts(1.0, cycles=1, **settings), cosine(1.0, **settings)
    assert [once(step) for step in range(60)] == pytest.approx([plain(s) for s in range(60)])
    again = cosine_with_restarts(1.0, cycles=2, **settings)
    assert (again(10), again(25), again(40), again(99)) == (1.0, 1.0, 0.125, 0.125)
    assert again(24) == pytest.approx(0.125 + 0.875 * 0.5 * (1 + math.cos(math.pi * 14 / 15)))


@pytest.mark.parametrize("end", [0.0, 0.06])
@pytest.mark.parametrize("shape", FALLS)
def test_warm_up_stable_decay(shape, end):
    rate = wsd(0.3, total_steps=100, decay_steps=30, shape=shape, warmup_steps=10, end=end)

    def wanted(step):
        if step < 10:
            return 0.3 * step / 10
        done = min(max(step - 70, 0) / 30, 1.0)
        return end + (0.3 - end) * FALLS[shape](done)

    check(rate, [[step, wanted(step)] for step in range(120)])


def test_the_last_steps_of_a_root_have_digits_in_float32():
    rate = wsd(1.0, total_steps=10_000, decay_steps=9_000, shape="1-sqrt")
    check(rate, [[10_000 - left, 1 - math.sqrt(1 - left / 9_000)] for left in (1, 2, 7)])


def test_linear_is_a_polynomial_of_power_one():
    settings = {"total_steps": 30, "warmup_steps": 4, "end": 0.1}
    one, other = linear(1.0, **settings), polynomial(1.0, power=1.0, **settings)
    assert [one(step) for step in range(40)] == [other(step) for step in range(40)]


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


def test_a_run_that_is_all_warm_up_rises_to_its_last_step():
    rate = cosine(1.0, total_steps=4, warmup_steps=4)
    assert [rate(step) for step in range(5)] == [0.0, 0.25, 0.5, 0.75, 0.0]


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


SHORT = {"total_steps": 10, "warmup_steps": 4}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: cosine_with_restarts(1.0, cycles=0, **SHORT),
            r"schedule.cosine_with_restarts: cycles=0; it must be from 1 to 6",
        ),
        (lambda: cosine_with_restarts(1.0, cycles=7, **SHORT), r"cycles=7; it must be from 1 to 6"),
        (
            lambda: cosine_with_restarts(1.0, cycles=3000, total_steps=10**6),
            r"cycles=3000; it must be from 1 to 2147",
        ),
        (
            lambda: polynomial(1.0, power=0.0, **SHORT),
            r"schedule.polynomial: power=0.0; it must be positive",
        ),
        (
            lambda: wsd(1.0, decay_steps=7, **SHORT),
            r"schedule.wsd: decay_steps=7; it must be from 1 to 6, what the warm-up leaves of 10",
        ),
        (lambda: wsd(1.0, decay_steps=0, **SHORT), r"decay_steps=0; it must be from 1 to 6"),
        (
            lambda: wsd(1.0, decay_steps=1, shape="sine", **SHORT),
            r"schedule.wsd: shape='sine'; it must be one of \['cosine', 'linear', '1-sqrt'\]",
        ),
        (lambda: linear(float("nan"), **SHORT), r"schedule.linear: peak=nan; a rate must be fin"),
        (lambda: wsd(-1.0, decay_steps=1, **SHORT), r"schedule.wsd: peak=-1.0; a rate must be"),
        (lambda: linear(1.0, end=-0.1, **SHORT), r"schedule.linear: end=-0.1; a rate must be"),
    ],
)
def test_settings_of_one_schedule(make, message):
    with pytest.raises(ValueError, match=message):
        make()
