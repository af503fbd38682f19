"""save . load = id, for every tree of every dtype."""

from __future__ import annotations

import tempfile
from pathlib import Path

import mindspore as ms
import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes
from tests.trees import trees

from mfunc import checkpoint, tree

DTYPES = (
    "float64", "float32", "float16", "int64", "int32", "int16", "int8",
    "uint64", "uint32", "uint16", "uint8", "bool",
)  # fmt: skip


@st.composite
def arrays(draw):
    """Arrays of any bits: NaNs of every payload, infinities, denormals."""
    dtype = np.dtype(draw(st.sampled_from(DTYPES)))
    shape = draw(array_shapes(min_dims=0, max_dims=3, max_side=3))
    size = int(np.prod(shape)) * dtype.itemsize
    data = np.frombuffer(draw(st.binary(min_size=size, max_size=size)), np.uint8)
    return (data % 2 if dtype == np.bool_ else data).view(dtype).reshape(shape)


@given(params=trees(arrays()), as_tensors=st.booleans())
def test_load_gives_back_what_was_saved(params, as_tensors):
    given_tree = tree.map(ms.Tensor, params) if as_tensors else params
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sub" / "tree.safetensors"
        checkpoint.save(path, given_tree)
        loaded = checkpoint.load(path, params)
    assert tree.flatten(loaded)[1] == tree.flatten(params)[1]
    for seen, wanted in zip(tree.leaves(loaded), tree.leaves(params), strict=True):
        array = seen.asnumpy()
        assert (array.dtype, array.shape) == (wanted.dtype, wanted.shape)
        assert array.tobytes() == wanted.tobytes()
