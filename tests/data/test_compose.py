from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import mfunc.data as md
from mfunc.data.compose import counted_chunks

SRC = Path(__file__).resolve().parents[2] / "src"
SAMPLES = {"input_ids": md.Ragged.from_rows([[1, 2, 3], [4], [5, 6]])}


def test_settings_are_checked_when_built():
    with pytest.raises(
        TypeError, match="pack: missing a required argument: 'seq_length'; settings: "
    ):
        md.pack()
    with pytest.raises(TypeError, match="pack: unknown setting 'overlng'; did you mean 'overlong'"):
        md.pack(8, overlng="drop")
    with pytest.raises(TypeError, match="pack: too many positional arguments"):
        md.pack(8, "tightest")
    with pytest.raises(TypeError, match="seq_length must be an integer >= 1, got a dict"):
        md.pack(SAMPLES)
    with pytest.raises(TypeError, match="multiple values for argument 'seq_length'"):
        md.pack(8, seq_length=8)


def test_repr_shows_what_was_chosen():
    assert repr(md.pack(8)) == "pack(seq_length=8)"
    assert repr(md.pack(8, pad_id=0, overlong="drop")) == "pack(seq_length=8, overlong='drop')"
    assert repr(md.unpack()) == "unpack()"
    pipeline = md.compose(md.pack(8), md.truncate(8, policy="tail"))
    assert repr(pipeline) == "Compose(pack(seq_length=8), truncate(max_length=8, policy='tail'))"


def test_equal_settings_are_equal_transforms():
    assert md.pack(8) == md.pack(seq_length=8, pad_id=0)
    assert hash(md.pack(8)) == hash(md.pack(seq_length=8))
    assert md.pack(8) != md.pack(9)
    assert md.take(2) != md.skip(2)
    assert md.take(2) != "take"
    key = np.array([0, 7], np.uint32)
    assert md.shuffle(key) == md.shuffle(key.copy())
    assert len({md.shuffle(key), md.shuffle(key.copy()), md.shuffle(7)}) == 2


def test_frozen_and_deaf_to_later_changes_of_its_settings():
    with pytest.raises(AttributeError):
        md.pack(8).apply = None
    key = np.array([0, 7], np.uint32)
    shuffle = md.shuffle(key)
    before = shuffle(SAMPLES)
    key[:] = 99
    assert shuffle(SAMPLES) == before
    assert shuffle == md.shuffle(np.array([0, 7], np.uint32))
    fields = {"output": "answer"}
    chat = md.chat(style="alpaca", template="alpaca", fields=fields)
    fields["output"] = "wrong"
    assert "answer" in repr(chat)


def test_pickled_into_another_process():
    pipeline = md.compose(md.pack(4), md.truncate(2, policy="tail"))
    script = (
        "import pickle, sys, mfunc.data as md\n"
        "f = pickle.loads(sys.stdin.buffer.read())\n"
        "x = {'input_ids': md.Ragged.from_rows([[1, 2, 3], [4]])}\n"
        "print(repr(f), f(x)['input_ids'].tolist())"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        input=pickle.dumps(pipeline),
        capture_output=True,
        env={"PYTHONPATH": str(SRC)},
        check=True,
    )
    assert done.stdout.decode().strip() == f"{pipeline!r} [[1, 3, 4, 0]]"


def test_counted_through_compositions_and_plain_functions():
    inner = md.compose(md.truncate(2, policy="tail"), lambda columns: columns)
    packed, counts = md.counted(md.compose(md.pack(4), inner), SAMPLES)
    assert packed["input_ids"].shape == (2, 4)
    assert counts["truncate.cut"] == 1
    assert counts["pack.tokens"] == 5
    assert md.counted(lambda columns: 7, SAMPLES) == (7, {})
    both = md.compose(md.truncate(1, policy="tail"), md.truncate(2, policy="tail"))
    assert md.counted(both, SAMPLES)[1]["truncate.tokens_lost"] == 1 + 2


def test_chunks_with_and_without_counts():
    chunks = counted_chunks
    assert list(chunks(SAMPLES)) == [(SAMPLES, {})]
    assert list(chunks(iter([SAMPLES, (SAMPLES, {"n": 2})]))) == [
        (SAMPLES, {}),
        (SAMPLES, {"n": 2}),
    ]
    assert list(chunks([])) == []


def test_pipe_goes_left_to_right():
    out = md.pipe(SAMPLES, md.truncate(2, policy="tail"), md.pack(4))
    assert np.array_equal(
        out["input_ids"],
        md.compose(md.pack(4), md.truncate(2, policy="tail"))(SAMPLES)["input_ids"],
    )


def test_carry_takes_columns_past_a_function():
    rows = {**SAMPLES, "label": np.arange(len(SAMPLES["input_ids"]))}
    short = md.truncate(2, policy="tail")
    only_ids = md.compose(lambda columns: {"input_ids": columns["input_ids"]}, short)
    out, counts = md.counted(md.carry(["label"], only_ids), rows)
    assert out["label"] is rows["label"]
    assert out["input_ids"] == short(SAMPLES)["input_ids"]
    assert counts == {f"carry.{name}": n for name, n in md.counted(short, SAMPLES)[1].items()}
    assert pickle.loads(pickle.dumps(md.carry(["label"], short))) == md.carry(["label"], short)


def test_carry_refuses_what_it_cannot_carry():
    rows = {"text": ["a", "b"], "label": [1, 2]}
    with pytest.raises(
        ValueError, match=r"no column 'lable'; did you mean 'label'.*are text, label"
    ):
        md.carry(["lable"], md.take(2))(rows)
    with pytest.raises(ValueError, match=r"take\(n=2\) makes column 'label' itself"):
        md.carry(["label"], md.take(2))(rows)
    with pytest.raises(ValueError, match="carry: columns differ in length: text 1, label 2"):
        md.carry(["label"], lambda columns: {"text": ["a"]})(rows)
    with pytest.raises(TypeError, match="carry: needs a list of names and a function, got 'label'"):
        md.carry("label", md.take(2))
    with pytest.raises(TypeError, match="needs a list of names and a function"):
        md.carry(["label"], 3)


def test_importing_the_layer_loads_neither_mindspore_nor_the_optional_packages():
    script = (
        "import sys, mfunc.data\n"
        "names = ('mindspore', 'sentencepiece', 'pyarrow', 'tokenizers')\n"
        "print([n for n in names if n in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(SRC)},
        check=True,
    )
    assert done.stdout.strip() == "[]"
