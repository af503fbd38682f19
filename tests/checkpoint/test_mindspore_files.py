from __future__ import annotations

import stat

import mindspore as ms
import numpy as np
import pytest
from mindspore.train.checkpoint_pb2 import Checkpoint
from tests.tiny_llama import tiny_llama

from mfunc import checkpoint, tree
from mfunc.checkpoint import mindspore_files, read_ckpt, write_ckpt
from mfunc.nn import llama
from mfunc.nn.names import llama_mindformers

KINDS = (
    "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
    "float16", "float32", "float64",
)  # fmt: skip


def arrays():
    made = {kind: np.arange(6).reshape(2, 3).astype(kind) for kind in KINDS}
    return {
        **made,
        "bfloat16": ms.Tensor([[1.5, -2.0]], ms.bfloat16).asnumpy(),
        "number": np.int32(7),
        "turned": np.arange(6, dtype=np.float32).reshape(2, 3).T,
    }


def same(seen, wanted):
    assert seen.keys() == wanted.keys()
    for name, value in wanted.items():
        array = np.asarray(value)
        assert (seen[name].dtype, seen[name].shape) == (array.dtype, array.shape), name
        assert seen[name].tobytes() == array.tobytes(), name
    return True


# --- MindSpore itself ---


@pytest.mark.parametrize("crc", [False, True])
def test_what_mindspore_writes_is_read(tmp_path, crc):
    listed = [{"name": name, "data": ms.Tensor(array)} for name, array in arrays().items()]
    said = {"epoch_num": 3, "loss_scale": 65536.0, "who": "a text, 文"}
    file = str(tmp_path / "x.ckpt")
    ms.save_checkpoint(listed, file, append_dict=said, crc_check=crc)
    read = read_ckpt(file)
    assert read.pop("who") == said["who"]
    assert (read["epoch_num"].item(), read["loss_scale"].item()) == (3, 65536.0)
    assert (read["epoch_num"].shape, read["loss_scale"].shape) == ((), ())
    assert same({name: read[name] for name in arrays()}, arrays())


def test_what_is_written_mindspore_reads(tmp_path):
    file = str(tmp_path / "new" / "x.ckpt")
    write_ckpt(file, {**arrays(), "who": "a text, 文"})
    read = ms.load_checkpoint(file)
    assert read.pop("who") == "a text, 文"
    assert same({name: value.asnumpy() for name, value in read.items()}, arrays())
    assert (tmp_path / "new" / "x.ckpt").stat().st_mode & stat.S_IWUSR


def test_large_arrays_come_in_slices(tmp_path, monkeypatch):
    monkeypatch.setattr(mindspore_files, "_SLICE", 10)
    write_ckpt(tmp_path / "x.ckpt", arrays())
    assert same(read_ckpt(tmp_path / "x.ckpt"), arrays())
    read = ms.load_checkpoint(str(tmp_path / "x.ckpt"))
    assert same({name: value.asnumpy() for name, value in read.items()}, arrays())


def test_arrays_of_no_numbers(tmp_path):
    write_ckpt(tmp_path / "x", {"a": np.zeros(0), "b": np.zeros((2, 0), np.int8)})
    assert {n: a.shape for n, a in read_ckpt(tmp_path / "x").items()} == {"a": (0,), "b": (2, 0)}
    write_ckpt(tmp_path / "x", {})
    assert read_ckpt(tmp_path / "x") == {}


# --- damage ---


def message(name="w", kind="Float32", dims=(2,), content=b"\0" * 8):
    made = Checkpoint()
    value = made.value.add(tag=name)
    value.tensor.dims.extend(dims)
    value.tensor.tensor_type = kind
    value.tensor.tensor_content = content
    return made.SerializeToString()


def table():
    made = Checkpoint()
    made.value.add(tag="t").maptensor.SetInParent()
    return made.SerializeToString()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (message()[:-1], r"cut off, 1 bytes are missing at its end"),
        (message() + message("v")[:7], r"cut off, \d+ bytes are missing"),
        (b"PK\3\4 no checkpoint", r"not a MindSpore checkpoint \(byte 0\), or encrypted"),
        (message() + b"\x12\0", r"not a MindSpore checkpoint \(byte \d+\), or encrypted"),
        (b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\x7f", r"not a MindSpore checkpoint \(byte 0\)"),
        (b"\x0a\x03abc", r"not a MindSpore checkpoint \(before byte 5: "),
        (message(content=b"\0" * 7), r"w: 7 bytes are not Float32 of the shape \[2\]"),
        (message(dims=(-2,)), r"w: 8 bytes are not Float32 of the shape \[-2\]"),
        (message(dims=(2**62, 2**62)), r"w: 8 bytes are not Float32 of the shape"),
        (message(dims=(2**62, 2**62), content=b""), r"w: 0 bytes are not Float32 of the shape"),
        (message(kind="Int4"), r"w has dtype 'Int4'; known are Bool, Int8"),
        (message() + message(kind="Int64"), r"w: its slices differ in dtype or shape"),
        (message() + message("v") + message(), r"w stands there twice"),
        (table(), r"t is a hash table; only arrays are read"),
    ],
)
def test_what_is_no_whole_checkpoint_is_refused(tmp_path, content, said):
    (tmp_path / "x.ckpt").write_bytes(content)
    with pytest.raises(ValueError, match=rf"x.ckpt: {said}"):
        read_ckpt(tmp_path / "x.ckpt")


def test_a_flip_under_a_crc_is_seen(tmp_path):
    file = tmp_path / "x.ckpt"
    data = [{"name": "w", "data": ms.Tensor([1.0, 2.0])}]
    ms.save_checkpoint(data, str(file), crc_check=True)
    content = file.read_bytes()
    file.chmod(0o600)
    file.write_bytes(content[:-20] + bytes([content[-20] ^ 1]) + content[-19:])
    with pytest.raises(ValueError, match=r"x.ckpt: damaged, its CRC-32 is not the one that was w"):
        read_ckpt(file)


def test_no_file_and_dtypes_that_mindspore_has_not(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"x.ckpt: no such file"):
        read_ckpt(tmp_path / "x.ckpt")
    with pytest.raises(ValueError, match=r"x.ckpt: w has dtype complex64; known are Bool"):
        write_ckpt(tmp_path / "x.ckpt", {"w": np.complex64([1j])})
    assert list(tmp_path.iterdir()) == []


# --- models ---


@pytest.fixture(scope="module")
def tiny():
    return tiny_llama()


@pytest.fixture
def theirs(tiny):
    """A file as MindFormers' training writes it: weights, optimizer, counters."""
    names = llama_mindformers.names(tiny.config)
    weights = checkpoint.to_names(tiny.params, names)
    first = next(iter(weights))
    extras = {
        f"adam_m.{first}": np.ones(3, np.float32),
        f"adam_v.{first}": np.ones(3, np.float32),
        "epoch_num": np.int32(2),
        "step_num": np.int32(40),
        "global_step": np.int32([40]),
        "loss_scale": np.float32(65536),
    }
    return names, weights, extras


def test_a_model_of_mindformers_and_what_stands_beside_it(tiny, theirs, tmp_path):
    names, weights, extras = theirs
    write_ckpt(tmp_path / "x.ckpt", {**extras, **weights})
    read = checkpoint.from_ckpt(tmp_path / "x.ckpt", names, llama.specs(tiny.config))
    assert same(read.extras, extras)
    assert [leaf.asnumpy().tobytes() for leaf in tree.leaves(read.params)] == [
        leaf.asnumpy().tobytes() for leaf in tree.leaves(tiny.params)
    ]
    checkpoint.to_ckpt(tmp_path / "y.ckpt", read.params, names, read.extras)
    assert same(read_ckpt(tmp_path / "y.ckpt"), {**weights, **extras})
    ids = ms.Tensor(tiny.numbers["plain/input_ids"].astype(np.int32))
    logits = llama.apply(read.params, tiny.config, ids).asnumpy()
    np.testing.assert_allclose(logits, tiny.numbers["plain/logits"], rtol=1e-4, atol=1e-4)


def test_weights_of_less_than_float32_become_what_the_specs_say(tiny, theirs, tmp_path):
    names, weights, _ = theirs
    halves = {n: ms.Tensor(a, ms.bfloat16).asnumpy() for n, a in weights.items()}
    write_ckpt(tmp_path / "x.ckpt", halves)
    read = checkpoint.from_ckpt(tmp_path / "x.ckpt", names, llama.specs(tiny.config))
    assert {leaf.dtype for leaf in tree.leaves(read.params)} == {ms.float32}
    wanted = ms.Tensor(tiny.params["norm"], ms.bfloat16).astype(ms.float32).asnumpy()
    np.testing.assert_array_equal(read.params["norm"].asnumpy(), wanted)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"lm_head.weight": None}, r"x.ckpt: missing lm_head.weight$"),
        (
            {"model.layers.0.attention.w_qkv.weight": np.zeros(1)},
            r"unexpected .*attention.w_qkv.we",
        ),
        ({"who": "text"}, r"x.ckpt: unexpected who \(texts\)"),
        (
            {"lm_head.weight": np.zeros((2, 2))},
            r"lm_head.weight has shape \(2, 2\), the config asks",
        ),
        ({"adam_q.x": np.zeros(1)}, r"x.ckpt: unexpected adam_q.x"),
    ],
)
def test_other_names_are_refused(tiny, theirs, tmp_path, change, said):
    names, weights, extras = theirs
    content = {n: v for n, v in ({**weights, **extras} | change).items() if v is not None}
    write_ckpt(tmp_path / "x.ckpt", content)
    with pytest.raises(ValueError, match=said):
        checkpoint.from_ckpt(tmp_path / "x.ckpt", names, llama.specs(tiny.config))


def test_an_extra_must_not_be_a_weight(tiny, theirs, tmp_path):
    names, _, _ = theirs
    extras = {"lm_head.weight": np.zeros(1)}
    with pytest.raises(ValueError, match=r"x.ckpt: the extra lm_head.weight is a weight's name"):
        checkpoint.to_ckpt(tmp_path / "x.ckpt", tiny.params, names, extras)
