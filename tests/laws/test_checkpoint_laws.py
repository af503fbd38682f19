"""save . load = id, for every tree of every dtype."""

from __future__ import annotations

import binascii
import tempfile
from pathlib import Path

import mindspore as ms
import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes
from mindspore.common import np_dtype
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


def told(leaf):
    array = checkpoint.arrays.as_array(leaf)
    return array.dtype.name, array.shape, array.tobytes()


def halves(array):
    """The bits of an array as bfloat16, any NaN among them."""
    words = np.resize(array.reshape(-1).view(np.uint8), 2 * array.size)
    return ms.Tensor(words.view(np.uint16).view(np_dtype.bfloat16).reshape(array.shape))


@given(
    state=trees(arrays()),
    kind=st.sampled_from([np.asarray, ms.Tensor, halves]),
    background=st.booleans(),
)
def test_restore_gives_back_the_state_that_was_saved(state, kind, background):
    """With its containers, empty ones and None among them, and each leaf as what it was."""
    state = tree.map(kind, state)
    with tempfile.TemporaryDirectory() as folder:
        run = checkpoint.Checkpointer(folder)
        if background:
            with checkpoint.background(run) as save:
                save(state, {"step": 3})
        else:
            checkpoint.save_state(run, state, {"step": 3})
        seen = checkpoint.restore(run, state).state
    assert tree.flatten(seen)[1] == tree.flatten(state)[1]
    pairs = zip(tree.leaves(seen), tree.leaves(state), strict=True)
    assert all((type(a), told(a)) == (type(b), told(b)) for a, b in pairs)


NAMES = st.text(st.characters(codec="utf-8"), max_size=8)


@given(named=st.dictionaries(NAMES, arrays() | st.text(st.characters(codec="utf-8"))))
def test_a_ckpt_file_gives_back_what_was_written(named):
    with tempfile.TemporaryDirectory() as folder:
        checkpoint.write_ckpt(Path(folder) / "x.ckpt", named)
        seen = checkpoint.read_ckpt(Path(folder) / "x.ckpt")
    assert seen.keys() == named.keys()
    for name, value in named.items():
        same = isinstance(value, str) and seen[name] == value
        assert same or told(seen[name]) == told(value)


@st.composite
def damaged(draw):
    """A file of two arrays and a text, with a few bytes changed, cut out or put in."""
    made = Path(tempfile.mkdtemp()) / "x.ckpt"
    content = {"w": np.float32([[1, 2]]), "text": "said", "n": np.int64(7)}
    checkpoint.write_ckpt(made, content)
    data = bytearray(made.read_bytes())
    made.unlink()
    made.parent.rmdir()
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(data)))
        data[at : at + draw(st.integers(0, 4))] = draw(st.binary(max_size=4))
    crc = b"crc_num" + binascii.crc32(data).to_bytes(10, "big")
    return bytes(data) + (crc if draw(st.booleans()) else b"")


@given(data=damaged() | st.binary(max_size=60))
def test_any_bytes_are_a_ckpt_file_or_are_refused_by_name(data):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.ckpt"
        path.write_bytes(data)
        try:
            read = checkpoint.read_ckpt(path)
        except ValueError as error:
            said = str(error)
        else:
            said = f"{path}: {read}"
    assert said.startswith(f"{path}: ")
