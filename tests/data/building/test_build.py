from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tests.data.byte_tokenizer import ByteTokenizer

import mfunc.data as md

ROOT = Path(__file__).resolve().parents[3]
TOKENIZE = md.tokenize(ByteTokenizer())


def write_rows(path, count, bad=()):
    """Alpaca rows of different lengths; some without an answer."""
    rng = np.random.default_rng(0)
    rows = [
        {
            "instruction": f"say {i} " * int(rng.integers(1, 9)),
            "output": None if i in bad else "x" * int(rng.integers(1, 40)),
        }
        for i in range(count)
    ]
    Path(path).write_text("\n".join(map(json.dumps, rows)))


def prepare(invalid="error", template="llama2"):
    return md.compose(TOKENIZE, md.chat(style="alpaca", template=template, invalid=invalid))


def bytes_of(prefix):
    """Every file of a set, by name behind the prefix."""
    prefix = Path(prefix)
    found = prefix.parent.glob(f"{prefix.name}_*")
    return {f.name.removeprefix(prefix.name): f.read_bytes() for f in found}


def prepared(path, function):
    return md.concat([function(chunk) for chunk in md.read(path)])


MODES = [
    None,
    md.pack(256),
    md.pack(256, isolate=False, strategy="next_fit", capacity=255),
    md.pack(256, strategy="concat"),
    md.pack(256, segment_multiple=8, seed=5, max_segments=4, pad_id=259),
]


@pytest.mark.parametrize("pack", MODES, ids=repr)
def test_what_is_written_is_the_prepared_rows_whatever_the_way(pack):
    write_rows("in.jsonl", 90)
    samples = prepared("in.jsonl", prepare())
    samples.pop("_origin")
    wanted = pack(samples) if pack else samples
    build = md.build_dataset
    report = build("in.jsonl", "out/a", prepare(), pack=pack)
    found = md.indexed.read("out/a", verify=True)
    for name in ("input_ids", "labels"):
        assert list(map(list, found[name])) == list(map(list, wanted[name]))
    mask = wanted["segment_ids"] if pack and pack.settings["isolate"] else None
    ones = found["attention_mask"].values.min() == found["attention_mask"].values.max() == 1
    assert ones if mask is None else list(map(list, found["attention_mask"])) == mask.tolist()
    assert (report.rows_in, report.kept, report.dropped, report.cut) == (90, 90, {}, 0)
    assert report.rows_out == len(wanted["input_ids"])
    assert report.tokens == len(samples["input_ids"].flat)
    assert report.trained == (samples["labels"].flat != -100).sum()
    assert set(report.files) == set(Path("out").iterdir())
    for name, settings in {
        "chunked": {"chunk_rows": 7}, "parallel": {"workers": 2, "patience": 0, "chunk_rows": 20},
        "later": {"workers": 2, "chunk_rows": 20},
        "kept": {"cache": "cache"}, "again": {"cache": "cache"},
    }.items():  # fmt: skip
        build("in.jsonl", f"{name}/a", prepare(), pack=pack, **settings)
        assert bytes_of(f"{name}/a") == bytes_of("out/a"), name


def test_unpacked_again_they_are_the_samples():
    write_rows("in.jsonl", 60)
    md.build_dataset("in.jsonl", "out/a", prepare(), pack=md.pack(256))
    read = md.indexed.read("out/a")
    rows = {n: c.values.reshape(-1, 256) for n, c in read.items()}
    rows["segment_ids"] = rows.pop("attention_mask")
    samples = prepared("in.jsonl", prepare())
    for name in ("input_ids", "labels"):
        assert sorted(map(tuple, md.unpack()(rows)[name])) == sorted(map(tuple, samples[name]))


def test_dropped_rows_are_listed_with_their_number_and_reason():
    write_rows("in.jsonl", 50, bad=(3, 31))
    settings = {"pack": md.pack(256), "chunk_rows": 8}
    report = md.build_dataset(
        "in.jsonl", "out/a", prepare("drop"), workers=2, patience=0, **settings
    )
    assert (report.rows_in, report.kept) == (50, 48)
    assert report.dropped == {"chat.missing_answer": 2}
    assert report.invalid == Path("out/a_invalid.jsonl")
    assert report.invalid in report.files
    lines = [json.loads(line) for line in report.invalid.read_text().splitlines()]
    assert [(d["row"], d["origin"], d["reason"]) for d in lines] == [
        (3, "in.jsonl line 4", "missing_answer"),
        (31, "in.jsonl line 32", "missing_answer"),
    ]
    for _ in range(2):
        made = md.build_dataset("in.jsonl", "kept/a", prepare("drop"), cache="cache", **settings)
        assert bytes_of("kept/a") == bytes_of("out/a")
        assert made.invalid == Path("kept/a_invalid.jsonl")
    write_rows("in.jsonl", 50)
    assert md.build_dataset("in.jsonl", "out/a", prepare("drop"), **settings).invalid is None
    assert not Path("out/a_invalid.jsonl").exists()


def test_invalid_rows_are_an_error_else_and_leave_nothing():
    write_rows("in.jsonl", 50, bad=(31,))
    with pytest.raises(ValueError, match=r"in.jsonl line 32.*'output' is missing"):
        md.build_dataset("in.jsonl", "out/a", prepare(), workers=2, patience=0, chunk_rows=8)
    assert list(Path("out").iterdir()) == []


@pytest.mark.parametrize(
    ("overlong", "dropped", "cut"),
    [("drop", {"truncate.too_long": 2}, 0), ("truncate", {}, 2), ("split", {}, 0)],
)
def test_overlong_samples_become_what_pack_says(overlong, dropped, cut):
    Path("in.txt").write_text("a\n" + "b" * 30 + "\nc\n" + "d" * 17)
    pack = md.pack(16, overlong=overlong)
    report = md.build_dataset("in.txt", "out/a", TOKENIZE, pack=pack)
    wanted = pack(prepared("in.txt", TOKENIZE))["input_ids"]
    assert list(map(list, md.indexed.read("out/a")["input_ids"])) == wanted.tolist()
    assert (report.dropped, report.cut) == (dropped, cut)
    with pytest.raises(ValueError, match=r"in.txt line 2\) has 31 tokens but max_length=16"):
        md.build_dataset("in.txt", "out/b", TOKENIZE, pack=md.pack(16))


def test_the_first_rows_only():
    write_rows("in.jsonl", 50)
    report = md.build_dataset("in.jsonl", "out/a", prepare(), sample=20, chunk_rows=8)
    assert (report.rows_in, report.rows_out) == (20, 20)
    samples = prepared("in.jsonl", prepare())["input_ids"][:20]
    assert list(map(list, md.indexed.read("out/a")["input_ids"])) == list(map(list, samples))
    assert md.build_dataset("in.jsonl", "out/a", prepare(), sample=99).rows_in == 50


@pytest.mark.parametrize("pack", [None, md.pack(8)])
def test_no_rows_and_no_tokens(pack):
    Path("none.json").write_text("[]")
    report = md.build_dataset("none.json", "out/a", prepare(), pack=pack)
    assert (report.rows_in, report.rows_out, report.tokens, report.fill) == (0, 0, 0, 1.0)
    assert len(md.indexed.read("out/a")["labels"]) == 0
    Path("blank.txt").write_text("\n\na\n")
    plain = md.tokenize(ByteTokenizer(), append_eos=False)
    report = md.build_dataset("blank.txt", "out/b", plain, pack=pack)
    assert (report.kept, report.rows_out) == (3, 1 if pack else 3)
    assert report.dropped == ({"pack.empty": 2} if pack else {})


def test_pairs_are_written_but_not_packed():
    Path("in.json").write_text('[{"instruction": "a", "chosen": "bcd", "rejected": "e"}]')
    chat = md.chat(style="pairwise", template="llama2")
    report = md.build_dataset("in.json", "out/a", md.compose(TOKENIZE, chat))
    found = md.indexed.read("out/a")
    samples = prepared("in.json", md.compose(TOKENIZE, chat))
    assert {n: list(map(list, c)) for n, c in found.items()} == {
        n: list(map(list, c)) for n, c in samples.items() if n != "_origin"
    }
    assert report.tokens == sum(len(found[f"{s}_input_ids"].flat) for s in ("chosen", "rejected"))
    with pytest.raises(ValueError, match=r"needs a Ragged column 'input_ids'|pairs are not packed"):
        md.build_dataset("in.json", "out/b", md.compose(TOKENIZE, chat), pack=md.pack(64))


def test_the_sidecar_tells_how_it_was_made():
    write_rows("in.jsonl", 5)
    pack = md.pack(256)
    md.build_dataset("in.jsonl", "out/a", prepare(), pack=pack, settings={"note": 1})
    told = md.indexed.sidecar("out/a")
    assert told["settings"]["note"] == 1
    assert told["settings"]["pack"]["seq_length"] == 256
    assert told["settings"]["files"] == ["in.jsonl"]
    assert "llama2" in json.dumps(told["settings"]["prepare"])
    assert told["counts"]["pack.rows"] == told["rows"]


def test_a_cache_is_used_and_another_input_is_another_key(monkeypatch):
    write_rows("in.jsonl", 20)
    md.build_dataset("in.jsonl", "a/a", prepare(), cache="cache")
    before = {path: path.stat().st_mtime_ns for path in Path("cache").iterdir()}
    monkeypatch.setattr(ByteTokenizer, "encode", None)  # it is not asked again
    md.build_dataset("in.jsonl", "b/a", prepare(), cache="cache", pack=None)
    assert {path: path.stat().st_mtime_ns for path in Path("cache").iterdir()} == before
    with pytest.raises(TypeError):
        md.build_dataset("in.jsonl", "c/a", prepare(), cache="cache", sample=3)


def test_progress_is_told():
    write_rows("in.jsonl", 20)
    seen = []
    report = md.build_dataset(
        "in.jsonl", "a/a", prepare(), pack=md.pack(256), chunk_rows=8,
        progress=lambda *told: seen.append(told),
    )  # fmt: skip
    assert seen == [
        ("rows read", 8, None), ("rows read", 8, None), ("rows read", 4, None),
        ("rows written", report.rows_out, report.rows_out),
    ]  # fmt: skip


def test_a_mindrecord_has_no_segments():
    with pytest.raises(ValueError, match=r"no place for segments.*isolate=False"):
        md.build_dataset("in", "a", prepare(), pack=md.pack(8), format="mindrecord")


def test_a_mindrecord_of_rows_with_one_more_token():
    write_rows("in.jsonl", 20)
    pack = md.pack(257, isolate=False)
    report = md.build_dataset("in.jsonl", "out/a", prepare(), pack=pack, format="mindrecord")
    assert set(report.files) == set(Path("out").iterdir())
    found = md.concat(list(md.mindrecord.read("out/a.mindrecord", seq_length=256)))
    wanted = pack(prepared("in.jsonl", prepare()))
    assert list(map(list, found["labels"])) == wanted["labels"].tolist()


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"pack": md.take(1)}, r"pack must be pack\(seq_length, ...\), got take\(n=1\)"),
        ({"pack": 4096}, "pack must be pack"),
        ({"format": "arrow"}, "format must be one of 'indexed', 'mindrecord', got 'arrow'"),
        ({"sample": 0}, "sample must be an integer >= 1, got 0"),
        ({"workers": 0}, "workers must be an integer >= 1, got 0"),
        ({"chunk_rows": 0}, "chunk_rows must be an integer >= 1, got 0"),
    ],
)
def test_wrong_settings_are_refused(settings, error):
    write_rows("in.jsonl", 1)
    with pytest.raises((ValueError, TypeError), match=error):
        md.build_dataset("in.jsonl", "out/a", prepare(), **settings)


def test_killed_in_the_middle_it_leaves_nothing_that_is_read():
    """Not while it prepares, nor while it writes, nor the workers."""
    write_rows("in.jsonl", 3000)
    code = (
        "import sys, mfunc.data as md\n"
        "from tests.data.building.test_build import prepare\n"
        "if __name__ == '__main__':\n"
        "    stop = sys.argv[1]\n"
        "    def progress(stage, *_):\n"
        "        if stage == stop:\n"
        "            print('there', flush=True); sys.stdin.read()\n"
        "    md.build_dataset('in.jsonl', 'out/a', prepare(), pack=md.pack(256), workers=2,\n"
        "                     patience=0, chunk_rows=64, progress=progress)\n"
    )
    Path("script.py").write_text(code)
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}"}
    for stage in ("rows read", "rows written"):
        child = subprocess.Popen(
            [sys.executable, "script.py", stage], env=environment,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert child.stdout.readline() == "there\n"
        child.kill()
        child.communicate()
        assert [p for p in Path("out").iterdir() if not p.name.startswith(".")] == []
        with pytest.raises(FileNotFoundError):
            md.indexed.read("out/a")


def test_real_rows(shared):
    """2,000 rows of Alpaca: as the transforms make them one by one; two workers as one."""
    rows = json.loads((shared / "data/alpaca/alpaca_51k.json").read_text())[:2000]
    Path("in.json").write_text(json.dumps(rows))
    tokenizer = md.load_tokenizer(shared / "data/tokenizers/llama/tokenizer.model")
    chat = md.chat(style="alpaca", template="llama2")
    function = md.compose(md.tokenize(tokenizer), chat)
    pack = md.pack(2048, pad_id=2)
    for workers in (1, 2):
        out = f"out{workers}/a"
        report = md.build_dataset("in.json", out, function, pack=pack, workers=workers, patience=0)
    assert bytes_of("out1/a") == bytes_of("out2/a")
    read = md.indexed.read("out1/a", verify=True)
    packed = {n: c.values.reshape(-1, 2048) for n, c in read.items()}
    packed["segment_ids"] = packed.pop("attention_mask")
    samples = prepared("in.json", function)
    for name in ("input_ids", "labels"):
        found, wanted = md.unpack()(packed)[name], samples[name]
        digests = [{hashlib.sha256(r.tobytes()).digest() for r in c} for c in (found, wanted)]
        assert len(found) == len(wanted)
        assert digests[0] == digests[1]
    assert report.fill > 0.98
