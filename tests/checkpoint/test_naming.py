from __future__ import annotations

import mindspore as ms
import numpy as np
import pytest

from mfunc import checkpoint, tree
from mfunc.spec import Spec

NAMES = {
    "embed": ("wte.weight", False),
    "layers/0/q": ("h.0.q", True),
    "layers/1/q": ("h.1.q", True),
}
SPECS = {
    "embed": Spec((2, 3), axes=(None, None)),
    "layers": ({"q": Spec((2, 4), axes=(None, None))},) * 2,
}


def theirs():
    rng = np.random.default_rng(0)
    shapes = {"wte.weight": (2, 3), "h.0.q": (4, 2), "h.1.q": (4, 2)}
    return {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


def test_to_names_is_the_inverse_of_from_names():
    arrays = theirs()
    params = checkpoint.from_names(arrays, NAMES, SPECS, "here")
    np.testing.assert_array_equal(params["layers"][1]["q"].asnumpy(), arrays["h.1.q"].T)
    back = checkpoint.to_names(params, NAMES)
    assert back.keys() == arrays.keys()
    assert all(back[name].tobytes() == arrays[name].tobytes() for name in arrays)
    again = checkpoint.from_names(back, NAMES, SPECS, "here")
    assert [a.asnumpy().tobytes() for a in tree.leaves(again)] == [
        a.asnumpy().tobytes() for a in tree.leaves(params)
    ]


def test_arrays_come_in_the_dtype_of_the_specs():
    halves = {name: array.astype(np.float16) for name, array in theirs().items()}
    params = checkpoint.from_names(halves, NAMES, SPECS, "here")
    assert {leaf.dtype for leaf in tree.leaves(params)} == {ms.float32}
    np.testing.assert_array_equal(params["embed"].asnumpy(), halves["wte.weight"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"h.1.q": None}, r"here: missing h.1.q"),
        ({"h.2.q": np.zeros(1)}, r"here: unexpected h.2.q"),
        (
            {"h.0.q": np.zeros((2, 4))},
            r"here: h.0.q has shape \(2, 4\), the config asks for \(4, 2",
        ),
        (
            {"wte.weight": np.zeros((3, 2))},
            r"wte.weight has shape \(3, 2\), the config asks for \(2",
        ),
    ],
)
def test_foreign_arrays_are_refused_by_their_own_names(change, message):
    arrays = {k: v for k, v in (theirs() | change).items() if v is not None}
    with pytest.raises(ValueError, match=message):
        checkpoint.from_names(arrays, NAMES, SPECS, "here")
