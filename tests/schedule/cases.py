"""The golden points of the schedules, and how they are compared."""

from __future__ import annotations

import json
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest

from mfunc import schedule
from mfunc.transform import jit

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "schedule.json").read_text())


def of(*names):
    """The cases of some schedules, each with an id."""
    cases = [case for case in GOLDEN if case["schedule"] in names]
    return [pytest.param(case, id=name_of(case)) for case in cases]


def name_of(case):
    settings = map(str, case["settings"].values())
    return "-".join([case["source"].split()[0], case["schedule"], *settings])


def check(rate, points):
    """Python to 1e-9, the compiled float32 to 1e-6, both relative."""
    steps, wanted = zip(*points, strict=True)
    for step, value in points:
        assert rate(step) == pytest.approx(value, rel=1e-9, abs=1e-20), step
    rates = jit(rate)(np.int32(steps))
    assert rates.dtype == ms.float32
    np.testing.assert_allclose(rates.asnumpy(), wanted, rtol=1e-6, atol=0)


def made(case):
    return getattr(schedule, case["schedule"])(**case["settings"])
