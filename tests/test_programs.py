"""Random programs compiled in every way equal the same programs run operation by operation."""

from __future__ import annotations

import numpy as np
import pytest
from tests.programs import COLUMNS, ROWS, maybe_view, params_of, program
from tests.trees import assert_close

from mfunc import tree
from mfunc.batching import vmap
from mfunc.dynamic import Dim
from mfunc.gradient import value_and_grad
from mfunc.transform import jit

QUICK, ALL = 40, 1000
ROW = (Dim("rows"), None)


def data(seed: int, *lead: int, rows: int = ROWS) -> list:
    rng = np.random.default_rng(seed)
    return [maybe_view(rng, (*lead, rows, COLUMNS)) for _ in range(2)]


def close(seen, wanted, text):
    try:
        assert_close(seen, wanted, rtol=2e-4, atol=2e-5)
    except AssertionError as error:
        raise AssertionError(f"{error}\n{text}") from None


def descent(transformed):
    """A step that gives new parameters away; what it reads of the old ones comes after."""

    def lower(param, grad):
        return param - 0.01 * grad

    def step(params, x, y):
        value, grads = transformed(params, x, y)
        return tree.map(lower, params, grads[0]), value, grads[0], grads[1], grads[2]

    return step


def check(seed: int) -> None:
    """Three parameter trees; static, dynamic, mapped over examples and donated, in turn."""
    way = ("static", "dynamic", "mapped", "donated")[seed % 4]
    # MindSpore cannot map the gradient of a recomputed layer, and says so: test_depth_remat.
    fn, shapes, text = program(seed, remats=way != "mapped")
    transformed = value_and_grad(fn, (0, 1, 2))
    if way == "mapped":
        transformed = vmap(transformed, (None, 0, 0))
    if way == "donated":
        transformed = descent(transformed)
    fast = jit(
        transformed,
        dynamic={"1": ROW, "2": ROW} if way == "dynamic" else None,
        donate_argnums=0 if way == "donated" else (),
    )
    before = None
    for i in range(3):
        lead, rows = ((2,) if way == "mapped" else ()), (ROWS + i if way == "dynamic" else ROWS)
        params = before if i == 1 and before else params_of(shapes, 10 * seed + i)
        args = (params, *data(seed + i, *lead, rows=rows))
        wanted = transformed(*args)
        seen = fast(*args)
        close(seen, wanted, text)
        before = seen[0] if way == "donated" else None
    assert fast.compiles() == 1, text


@pytest.mark.parametrize("seed", range(QUICK))
def test_compiled_equals_eager(seed):
    check(seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(QUICK, ALL))
def test_many_more(seed):
    check(seed)


def test_the_programs_are_of_all_kinds():
    texts = "".join(program(seed)[2] for seed in range(QUICK))
    for part in ("block(", "remat(", "p['in']['w']", "p[1][0]", "out['b'][0]", "stop_gradient"):
        assert part in texts
