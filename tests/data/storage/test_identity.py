from __future__ import annotations

import datetime
import functools
import json

import attrs
import numpy as np
import pytest

import mfunc.data as md
from mfunc.data.storage.identity import plain


class WithDigest:
    digest = "abc"


@attrs.frozen
class Empty:
    """Nothing to tell two of them apart: no identity."""


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        ({"a": (1, 2.5, True, "x")}, {"a": [1, 2.5, True, "x"]}),
        (np.int32(3), 3),
        ({3, 1, 2}, [1, 2, 3]),
        (md.Message("user", "hi"), ["user", "hi", [], ""]),
        (WithDigest(), {"class": f"{__name__}.WithDigest", "digest": "abc"}),
        (md.take(3), {"transform": "mfunc.data.batch.take", "n": 3}),
    ],
)
def test_values(value, expected):
    assert plain(value) == expected


def test_compositions_in_the_order_they_run():
    steps = md.compose(md.take(1), md.compose(md.skip(2), md.take(9)))
    assert [step.get("n") for step in plain(steps) if isinstance(step, dict)] != []
    flat = json.dumps(plain(steps))
    assert flat.index('"n": 9') < flat.index('"n": 2') < flat.index('"n": 1')


def test_equal_means_described_equally():
    assert plain(md.pack(8)) == plain(md.pack(seq_length=8))
    assert plain(md.pack(8)) != plain(md.pack(9))
    assert plain(md.TEMPLATES["qwen"]) != plain(md.TEMPLATES["llama2"])
    arrays = [np.arange(3), np.arange(3).astype(np.int8), np.arange(3)[None], b"\0\1\2"]
    assert len({json.dumps(plain(a)) for a in arrays}) == 4


def test_a_tokenizer_by_file_and_settings(shared):
    path = shared / "data/tokenizers/llama/tokenizer.model"
    one, other = md.sentencepiece(path), md.sentencepiece(path, eos="<unk>")
    assert plain(one)["digest"] == one.digest
    assert plain(one) == plain(md.sentencepiece(path))
    assert plain(one) != plain(other)
    assert "path" not in plain(one)


@pytest.mark.parametrize(
    ("value", "place"),
    [
        (len, "value"),
        ({"a": [1, print]}, r"value\.a\[1\]"),
        (functools.partial(len), "value"),
        (object(), "value"),
        (Empty(), "value"),
        (np.array([object()]), "value"),
        (md.tokenize(type("T", (), {"encode": len})()), r"value\.tokenizer"),
    ],
)
def test_what_has_no_identity_is_refused_by_name(value, place):
    with pytest.raises(TypeError, match=f"^{place}: .* has no stable identity; use plain data"):
        plain(value)


def test_keys_must_be_text():
    with pytest.raises(TypeError, match=r"value\.a: the key 1 is not text"):
        plain({"a": {1: 2}})


def test_a_time_is_its_iso_text():
    assert plain(datetime.datetime(2026, 1, 2, 3)) == "2026-01-02T03:00:00"


# --- fingerprint ---

FULL = {"input_ids": md.Ragged.from_rows([[1, 2], [], [3]]), "n": np.arange(3), "text": [*"abc"]}


def test_a_fingerprint_is_of_what_the_rows_hold():
    """However they lie in memory, in whatever order the columns stand, wherever they are from."""
    wide = md.Ragged.from_rows([[9], [1, 2], [], [3], [8]])[1:4]
    same = {"text": [*"abc"], "n": np.arange(6).reshape(2, 3)[0], "input_ids": wide}
    assert md.fingerprint(same) == md.fingerprint(FULL)
    assert md.fingerprint({**FULL, "_origin": ["x", "y", "z"]}) == md.fingerprint(FULL)
    assert len(md.fingerprint({})) == 32


@pytest.mark.parametrize(
    "change",
    [
        {"input_ids": md.Ragged.from_rows([[1], [2], [3]])},
        {"input_ids": md.Ragged.from_rows([[1, 2], [], [4]])},
        {"input_ids": md.Ragged.from_rows([[1, 2], [], [3]], dtype=np.int64)},
        {"n": np.arange(3).astype(np.int32)},
        {"n": np.arange(3)[::-1]},
        {"text": ["a", "b", "d"]},
        {"m": np.arange(3)},
    ],
)
def test_any_other_rows_have_another_fingerprint(change):
    assert md.fingerprint({**FULL, **change}) != md.fingerprint(FULL)


def test_no_fingerprint_of_what_is_no_data():
    with pytest.raises(TypeError, match=r"fingerprint.f\[0\]: <built-in .* has no stable identity"):
        md.fingerprint({"f": [len, 1, 2]})
    with pytest.raises(ValueError, match="fingerprint: columns differ in length"):
        md.fingerprint({"a": [1], "b": []})
