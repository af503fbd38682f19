from __future__ import annotations

import attrs
import mindspore as ms
import numpy as np
import pytest

from mfunc import random, spec, tree
from mfunc.spec import Spec

KEY = random.key(3)
SPECS = {
    "embed": Spec((8, 4), axes=("vocab", "embed")),
    "layers": ({"w": Spec((4, 4), axes=(None, None), scale=0.5), "b": None},) * 2,
    "norm": Spec((4,), axes=("embed",), init="ones"),
}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"shape": (4, 0), "axes": (None, None)}, r"shape is \(4, 0\); every size must be a posi"),
        ({"shape": (4, -1), "axes": (None, None)}, "every size must be a positive int"),
        ({"shape": (4.0,), "axes": (None,)}, "every size must be a positive int"),
        ({"shape": (4, 4), "axes": ("embed",)}, r"1 axes \('embed',\) for shape \(4, 4\)"),
        ({"shape": (), "axes": ("embed",)}, "give one a size"),
        ({"shape": (4,), "axes": (None,), "init": "xavier"}, r"'init' must be in .*'normal'"),
        ({"shape": (4,), "axes": (None,), "dtype": "float8"}, r"'dtype' must be in .*'bfloat16'"),
    ],
)
def test_a_wrong_spec_is_refused(arguments, said):
    with pytest.raises(ValueError, match=said):
        Spec(**arguments)


def test_a_spec_is_a_value():
    one, other = (Spec([2, 3], axes=["a", None]) for _ in range(2))
    assert one == other
    assert hash(one) == hash(other)
    assert one.shape == (2, 3)
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        one.shape = (1,)


def test_axes_must_be_said():
    with pytest.raises(TypeError, match="axes"):
        Spec((2, 3))


def test_init_draws_what_the_specs_say():
    specs = {
        "normal": Spec((300, 100), axes=(None, None), scale=0.3),
        "ones": Spec((5,), axes=(None,), init="ones"),
        "zeros": Spec((2, 3), axes=(None, None), init="zeros"),
        "scalar": Spec((), axes=()),
    }
    params = spec.init(specs, KEY)
    assert tree.map(lambda x: x.shape, params) == tree.map(lambda s: s.shape, specs)
    assert abs(params["normal"].asnumpy().mean()) < 4 * 0.3 / np.sqrt(30_000)
    assert abs(params["normal"].asnumpy().std() - 0.3) < 4 * 0.3 / np.sqrt(60_000)
    assert params["ones"].asnumpy().tolist() == [1.0] * 5
    assert params["zeros"].asnumpy().tolist() == [[0.0] * 3] * 2


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "int32"])
def test_init_rounds_to_the_dtype(dtype):
    wide, narrow = (
        spec.init(Spec((50,), axes=(None,), scale=3.0, dtype=name), KEY)
        for name in ("float32", dtype)
    )
    assert narrow.dtype == spec.DTYPES[dtype]
    np.testing.assert_array_equal(
        narrow.astype(ms.float32).asnumpy(),
        wide.astype(spec.DTYPES[dtype]).astype(ms.float32).asnumpy(),
    )


def test_a_leaf_depends_on_its_path_alone():
    """Another leaf may come, go or change its name or shape: this one draws the same numbers."""
    before = spec.init(SPECS, KEY)
    changed = {
        "head": Spec((4, 8), axes=(None, None)),
        "layers": (SPECS["layers"][0], {"w": Spec((2, 2), axes=(None, None), scale=0.5)}, None),
        "embed": SPECS["embed"],
    }
    after = spec.init(changed, KEY)
    for path in ("embed", "layers/0/w"):
        a, b = (dict(zip(tree.paths(t), tree.leaves(t), strict=True)) for t in (before, after))
        np.testing.assert_array_equal(a[path].asnumpy(), b[path].asnumpy())
    alike = after["layers"][1]["w"].asnumpy().reshape(-1)  # the path's key, fewer numbers
    np.testing.assert_array_equal(alike, before["layers"][1]["w"].asnumpy().reshape(-1)[:4])


def test_no_two_leaves_draw_the_same():
    params = spec.init(SPECS, KEY)
    first, second = (layer["w"].asnumpy() for layer in params["layers"])
    assert not np.any(first == second)
    assert params["layers"][0]["b"] is None
    again = spec.init(SPECS, random.key(4))
    assert not np.any(again["embed"].asnumpy() == params["embed"].asnumpy())


def test_init_gives_whole_tensors_of_their_own():
    params = spec.init({"a": Spec((3,), axes=(None,), init="ones"), "b": SPECS["norm"]}, KEY)
    params["a"].add_(1.0)
    assert params["b"].asnumpy().tolist() == [1.0] * 4
    assert all(x.storage_offset() == 0 and x.is_contiguous() for x in tree.leaves(params))


def test_size_counts_specs_and_tensors():
    assert spec.size(SPECS) == spec.size(spec.init(SPECS, KEY)) == 32 + 2 * 16 + 4
    assert spec.size({}) == 0
    assert spec.size(Spec((), axes=())) == 1


def test_check_lets_right_parameters_pass():
    assert spec.check(spec.init(SPECS, KEY), SPECS) is None


def without(node, path):
    return tree.partition(lambda p, _: p != path, node)[0]


@pytest.mark.parametrize(
    ("params", "said"),
    [
        (without(SPECS, "norm"), "^params: norm is missing$"),
        (without(SPECS, "layers/1/w"), "^params: layers/1/w is missing$"),
        (SPECS | {"head": SPECS["norm"]}, "^params: head is unexpected$"),
        (
            SPECS | {"norm": SPECS["embed"]},
            r"^params: norm has shape \(8, 4\), the model needs \(4,\)$",
        ),
        (
            {"embed": SPECS["norm"], "head": SPECS["norm"]},
            "layers/0/w is missing; layers/1/w is missing; norm is missing; head is unexpected; "
            r"embed has shape \(4,\), the model needs \(8, 4\)$",
        ),
    ],
)
def test_check_names_every_fault(params, said):
    with pytest.raises(ValueError, match=said):
        spec.check(params, SPECS)


def test_check_says_where_and_how_many():
    specs = {f"w{i:02}": SPECS["norm"] for i in range(11)}
    with pytest.raises(ValueError, match=r"^model.safetensors: w00 is .* w07 is missing \(and 3 m"):
        spec.check({}, specs, "model.safetensors")
