from __future__ import annotations

import json
import os
import struct

import mindspore as ms
import numpy as np
import pytest
from safetensors import SafetensorError, safe_open

from mfunc import checkpoint
from mfunc.checkpoint import arrays
from mfunc.spec import Spec

PARAMS = {
    "embed": np.arange(6, dtype=np.float32).reshape(2, 3),
    "layers": ({"q": np.float32([1, 2])}, {"q": np.float32([3, 4])}),
}


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "model.safetensors"
    checkpoint.save(path, PARAMS)
    return path


def write_by_hand(path, dtype, shape, data):
    """A safetensors file of one tensor `w`, byte by byte as its format says."""
    entry = {"dtype": dtype, "shape": shape, "data_offsets": [0, len(data)]}
    header = json.dumps({"w": entry}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + data)


# --- save and load (the round trip: tests/laws/test_checkpoint_laws.py) ---


def test_the_file_holds_paths_and_metadata_for_any_reader(tmp_path):
    path = tmp_path / "new" / "folder" / "model.safetensors"
    checkpoint.save(path, PARAMS, metadata={"format": "pt", "rank": 4, "targets": ["q", "v"]})
    with safe_open(path, framework="np") as file:
        assert sorted(file.keys()) == ["embed", "layers/0/q", "layers/1/q"]
        assert file.metadata() == {"format": "pt", "rank": "4", "targets": '["q", "v"]'}
        np.testing.assert_array_equal(file.get_tensor("embed"), PARAMS["embed"])


def test_like_may_be_specs_and_gives_the_containers(saved):
    weight = Spec((2,), axes=(None,))
    like = {"embed": Spec((2, 3), axes=(None, None)), "layers": [{"q": weight}, {"q": weight}]}
    loaded = checkpoint.load(saved, like)
    assert type(loaded["layers"]) is list
    assert isinstance(loaded["embed"], ms.Tensor)
    assert loaded["layers"][1]["q"].asnumpy().tolist() == [3, 4]


def test_views_and_numbers_without_shape_are_saved_as_they_are(tmp_path):
    path = tmp_path / "state.safetensors"
    state = {
        "count": ms.Tensor(7, ms.int32),
        "turned": PARAMS["embed"].T,
        "every": np.arange(9)[::3],
    }
    checkpoint.save(path, state)
    loaded = checkpoint.load(path, state)
    assert (loaded["count"].shape, int(loaded["count"])) == ((), 7)
    np.testing.assert_array_equal(loaded["turned"].asnumpy(), state["turned"])
    assert loaded["every"].asnumpy().tolist() == [0, 3, 6]


@pytest.mark.parametrize(
    ("like", "message"),
    [
        ({**PARAMS, "head": np.zeros(2)}, r"model.safetensors: missing head$"),
        ({"embed": PARAMS["embed"]}, r"model.safetensors: unexpected layers/0/q, layers/1/q$"),
        (
            {"embed": PARAMS["embed"], "layers": (PARAMS["layers"][0], {"k": np.zeros(2)})},
            r"missing layers/1/k; unexpected layers/1/q",
        ),
        (
            {**PARAMS, "embed": np.zeros((3, 2))},
            r"model.safetensors: embed has shape \(2, 3\), the model needs \(3, 2\)",
        ),
        ({f"w{i}": np.zeros(1) for i in range(7)}, r"missing w0, w1, w2, w3, w4 and 2 more; unexp"),
    ],
)
def test_other_leaves_than_asked_for_are_named_and_refused(saved, like, message):
    with pytest.raises(ValueError, match=message):
        checkpoint.load(saved, like)


def test_two_leaves_of_one_path_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"save: two leaves have the path a/b; use keys without"):
        checkpoint.save(tmp_path / "x", {"a/b": np.zeros(1), "a": {"b": np.ones(1)}})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("leaf", [np.complex64([1j]), "text", np.array([None])])
def test_leaves_that_could_not_be_read_back_are_refused(tmp_path, leaf):
    with pytest.raises(ValueError, match=r"x.safetensors: w has dtype .*; known are bfloat16, flo"):
        checkpoint.save(tmp_path / "x.safetensors", {"w": leaf})
    assert list(tmp_path.iterdir()) == []


# --- bfloat16 ---


NUMBERS = np.float32([1.0, -2.5, 3.140625, 0.0, -np.inf, 2.0**-133])
WORDS = (NUMBERS.view(np.uint32) >> 16).astype("<u2").tobytes()


def test_bfloat16_arrays_are_read_as_float32_of_the_same_values(tmp_path):
    write_by_hand(tmp_path / "w", "BF16", [2, 3], WORDS)
    read = checkpoint.read_arrays(tmp_path / "w")["w"]
    assert read.dtype == np.float32
    np.testing.assert_array_equal(read, NUMBERS.reshape(2, 3))


def test_bfloat16_tensors_stay_what_they_are_to_the_bit(tmp_path):
    write_by_hand(tmp_path / "w", "BF16", [2, 3], WORDS)
    loaded = checkpoint.load(tmp_path / "w", {"w": np.zeros((2, 3))})
    assert loaded["w"].dtype == ms.bfloat16
    assert loaded["w"].asnumpy().tobytes() == WORDS
    checkpoint.save(tmp_path / "x", loaded)
    with safe_open(tmp_path / "x", framework="np") as file:
        assert file.get_slice("w").get_dtype() == "BF16"
    again = checkpoint.load(tmp_path / "x", loaded)["w"]
    assert (again.dtype, again.asnumpy().tobytes()) == (ms.bfloat16, WORDS)


# --- files that are not whole ---


def test_no_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nothing.safetensors: no such file"):
        checkpoint.load(tmp_path / "nothing.safetensors", PARAMS)
    with pytest.raises(FileNotFoundError, match=r"no such file"):
        checkpoint.load(tmp_path, PARAMS)


@pytest.mark.parametrize("length", [0, 4, 8, 30, -9, -1])
def test_truncated_file(saved, length):
    saved.write_bytes(saved.read_bytes()[:length])
    with pytest.raises(ValueError, match=r"model.safetensors: not a whole safetensors file \("):
        checkpoint.load(saved, PARAMS)


def test_a_flip_anywhere_in_the_header_is_seen(saved):
    content = saved.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    for i in range(8 + length):
        saved.write_bytes(content[:i] + bytes([content[i] ^ 1]) + content[i + 1 :])
        with pytest.raises(ValueError, match=r"model.safetensors: (not a whole|missing)"):
            checkpoint.load(saved, PARAMS)


def test_not_a_checkpoint_at_all(tmp_path):
    (tmp_path / "w").write_text("PK and then some text that is no header")
    with pytest.raises(ValueError, match=r"w: not a whole safetensors file"):
        checkpoint.load(tmp_path / "w", PARAMS)


def test_a_dtype_that_is_not_known(tmp_path):
    write_by_hand(tmp_path / "w", "F8_E4M3", [2], b"\0\0")
    with pytest.raises(ValueError, match=r"w: w has dtype F8_E4M3; known are BF16, F64, F32"):
        checkpoint.read_arrays(tmp_path / "w")


# --- whole or not at all ---


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_failing_write_leaves_the_old_file_and_nothing_else(saved, monkeypatch, call, error):
    before = saved.read_bytes()

    def fail(*_):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(os if call == "fsync" else type(saved), call, fail)
        with pytest.raises(type(error)):
            checkpoint.save(saved, {"other": np.zeros(3)})
    assert saved.read_bytes() == before
    assert [path.name for path in saved.parent.iterdir()] == ["model.safetensors"]


def test_the_name_is_given_only_to_a_whole_file(tmp_path, monkeypatch):
    """While the bytes are on their way, the name does not exist yet."""
    seen, fsync = [], os.fsync
    target = tmp_path / "model.safetensors"
    monkeypatch.setattr(os, "fsync", lambda file: seen.append(target.exists()) or fsync(file))
    checkpoint.save(target, PARAMS)
    assert (seen, target.exists()) == ([False, True], True), "the file, then its name"


def test_what_the_disk_refuses_is_an_os_error(saved, monkeypatch):
    def fail(*_):
        raise SafetensorError("I/O error: No space left on device")

    monkeypatch.setattr(arrays, "save_file", fail)
    with pytest.raises(OSError, match=r"model.safetensors: I/O error: No space left on device"):
        checkpoint.save(saved, PARAMS)
    assert [path.name for path in saved.parent.iterdir()] == ["model.safetensors"]
