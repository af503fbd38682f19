"""The words for what the compiler says, and that they are what a user gets."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest
from mindspore import ops
from tests.trees import tensor

from mfunc.depth import block
from mfunc.explain import explain
from mfunc.gradient import grad
from mfunc.transform import jit

X = tensor(3)


def with_try(x):
    try:
        return x
    except ValueError:
        return x


def with_unknown(x):
    return nowhere(x)  # noqa: F821


def with_shapes(x):
    return ops.matmul(x, ops.ones((5, 5)))


def with_two_loops(x):
    return [a * b for a in (x, x) for b in (x, x)]


def with_branches(x):
    if x.sum() > 0:
        return x
    return (x, x)


@block
def squared(x):
    return x * x


def with_closure(x):
    y = x * 2.0

    def loss(p):
        return (squared(p) * y).sum()

    return grad(loss)(x)


def with_numpy(x):
    return np.sin(x)


def with_depth(x):
    return {"a": ({"a": ({"a": ({"a": x},)},)},)}


def with_a_vector(x):
    return grad(squared)(x)


def with_raise(x):
    if x.shape[0] != 4:
        raise ValueError(f"with_raise: 'x' has {x.shape[0]} rows, 4 are needed")
    return x


class Line(NamedTuple):
    """Made in a graph it is Python's."""

    slope: Any
    start: Any


def with_namedtuple(x):
    def loss(p):
        line = Line(p["slope"], p["start"])
        return (line.slope * x + line.start).sum()

    return grad(loss)({"slope": x, "start": x})


CASES = {
    with_try: (RuntimeError, "a compiled function cannot hold `try`"),
    with_unknown: (
        NameError,
        "The name 'nowhere' is not defined.*names of a compiled func",
    ),
    with_shapes: (
        RuntimeError,
        r"must be equal.*got 3 and 5.*explain.py:\d+: return ops.matm",
    ),
    with_two_loops: (TypeError, "write one loop in a comprehension"),
    with_branches: (TypeError, r"Cannot join.*test_explain.py:\d+: .*both branches of an `if`"),
    with_closure: (TypeError, "closes over values of the compiled function and calls a `block`"),
    with_numpy: (RuntimeError, "made by Python or NumPy"),
    with_namedtuple: (RuntimeError, "made by Python or NumPy .*a NamedTuple.*use .*dicts and tup"),
    with_depth: (RuntimeError, "make the tree shallower"),
    with_a_vector: (TypeError, r"^value_and_grad: the loss has shape \(3,\)"),
    with_raise: (
        ValueError,
        "^with_raise: 'x' has 3 rows, 4 are needed\n  while compiling with_raise",
    ),
}


@pytest.mark.parametrize("fn", CASES, ids=lambda fn: fn.__name__)
def test_a_user_reads_what_was_wrong_and_where(fn):
    kind, said = CASES[fn]
    with pytest.raises(kind, match=f"(?s){said}") as caught:
        jit(fn)(X)
    text = str(caught.value)
    assert f"while compiling {fn.__name__}" in text
    assert "C++" not in text
    assert "mindspore.cn" not in text
    assert len(text.splitlines()) <= 5
    assert caught.value.__cause__ is not None


def test_an_error_of_another_kind_stays_readable():
    class OddError(Exception):
        pass

    found = explain(OddError("it broke\n\n" + "-" * 52 + "\n- C++ Call Stack"), "step")
    assert type(found) is RuntimeError
    assert str(found) == "it broke\n  while compiling step"
