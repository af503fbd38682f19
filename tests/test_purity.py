"""What a compiled function must not do, refused before it is compiled."""

from __future__ import annotations

import re

import pytest
from tests.trees import assert_close, tensor

from mfunc.transform import jit

LOG: list = []
TOTAL = 0
TABLE = tensor(3, seed=5)


def appends(x):
    LOG.append(x)
    return x


def counts(x):
    global TOTAL
    TOTAL += 1
    return x


def changes_an_argument(params, x):
    params["w"] = x
    return params


def changes_deep(params, x):
    params["layers"][0]["w"] = x
    return params


def updates_an_argument(params, x):
    params.update({"w": x})
    return params


def deletes(params, x):
    del params["w"]
    return x


@pytest.mark.parametrize(
    ("fn", "name"),
    [
        (appends, "LOG"),
        (counts, "TOTAL"),
        (changes_an_argument, "params"),
        (changes_deep, "params"),
        (updates_an_argument, "params"),
        (deletes, "params"),
    ],
)
def test_side_effects_are_refused_by_line(fn, name):
    said = rf"^jit\({fn.__name__}\): .*test_purity.py:\d+ changes {name}, which the"
    with pytest.raises(TypeError, match=said) as caught:
        jit(fn)
    line = int(re.search(r"py:(\d+)", str(caught.value)).group(1))
    first = fn.__code__.co_firstlineno
    assert first < line <= first + 2


def closed(seen):
    def fn(x):
        seen.append(x)
        return x

    return fn


def test_a_closed_over_list_too():
    with pytest.raises(TypeError, match=r"^jit\(fn\): .* changes seen, which"):
        jit(closed([]))


def makes_its_own(x):
    found = []
    found.append(x)
    node = {"a": x}
    node["b"] = x * 2.0
    return found, node


def test_what_it_made_a_function_may_change():
    found, node = jit(makes_its_own)(tensor(3))
    assert_close((found, node), ([tensor(3)], {"a": tensor(3), "b": tensor(3) * 2.0}))


def looks_up(x):
    return x * TABLE


def test_a_global_tensor_that_is_another_one_is_refused(monkeypatch):
    fast = jit(looks_up)
    assert_close(fast(tensor(3)), tensor(3) * TABLE)
    monkeypatch.setitem(globals(), "TABLE", TABLE + 1.0)
    with pytest.raises(ValueError, match=r"^jit\(looks_up\): TABLE is another tensor now"):
        fast(tensor(3))


def closing(table):
    def fn(x):
        return x + table

    def put(new):
        nonlocal table
        table = new

    return fn, put


def test_a_closed_over_tensor_that_is_another_one_is_refused():
    fn, put = closing(tensor(3, seed=1))
    fast = jit(fn)
    fast(tensor(3))
    fast(tensor(3))
    put(tensor(3, seed=2))
    with pytest.raises(ValueError, match=r"^jit\(fn\): table is another tensor now"):
        fast(tensor(3))
