from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import mfunc.data as md
from mfunc.data import Ragged
from mfunc.data.storage import indexed

SAMPLES = {
    "input_ids": Ragged.from_rows([[1, 2, 3], [4, 5]]),
    "labels": Ragged.from_rows([[-100, 2, 3], [-100, 5]]),
}
PREFIXES = ("input_ids", "attention_mask", "labels")


def content(prefix: str, folder: Path = Path()) -> dict[str, bytes]:
    """Every pair's bytes."""
    return {p.name: p.read_bytes() for p in sorted(folder.glob(f"{prefix}*.[bi][id][nx]"))}


def lists(columns) -> dict[str, list]:
    return {name: [row.tolist() for row in column] for name, column in columns.items()}


def test_the_six_files_of_packed_rows():
    packed = md.pack(6)(SAMPLES)
    told = indexed.write("d/x", packed)
    names = [f"x_packed_{name}_document" for name in PREFIXES]
    files = sorted(f"{name}.{end}" for name in names for end in ("bin", "idx"))
    assert sorted(p.name for p in Path("d").iterdir()) == sorted([*files, "x_packed_document.json"])
    assert told["columns"].keys() == {*PREFIXES}
    assert lists(indexed.read("d/x")) == {
        "input_ids": packed["input_ids"].tolist(),
        "attention_mask": packed["segment_ids"].tolist(),
        "labels": packed["labels"].tolist(),
    }


@pytest.mark.parametrize(
    ("columns", "mode", "mask"),
    [
        (SAMPLES, "segments", [[1, 1, 1], [1, 1]]),
        (
            {**SAMPLES, "segment_ids": Ragged.from_rows([[1, 1, 2], [1, 0]])},
            "ones",
            [[1] * 3, [1] * 2],
        ),
        (
            {**SAMPLES, "segment_ids": Ragged.from_rows([[1, 1, 2], [1, 0]])},
            "segments",
            [[1, 1, 2], [1, 0]],
        ),
        (
            {**SAMPLES, "attention_mask": Ragged.from_rows([[1, 1, 0], [1, 1]])},
            "segments",
            [[1, 1, 0], [1, 1]],
        ),
    ],
)
def test_what_stands_for_the_mask(columns, mode, mask):
    indexed.write("x", columns, attention_mask=mode)
    assert lists(indexed.read("x"))["attention_mask"] == mask


def test_a_part_of_a_larger_set_has_its_own_mask():
    indexed.write("x", {name: column[1:] for name, column in SAMPLES.items()})
    assert lists(indexed.read("x")) == {
        "input_ids": [[4, 5]],
        "attention_mask": [[1, 1]],
        "labels": [[-100, 5]],
    }


def test_golden_sets_are_written_again(shared):
    """Triples, preference pairs, pretraining text: what we read of them, written, is the same."""
    cases = sorted((shared / "golden/mindspeed/e2e").glob("*/v210"))
    assert len(cases) >= 25
    for folder in cases:
        packed = not folder.parent.name.startswith("pretrain")
        columns = indexed.read(folder / "ds", packed=packed)
        pair = indexed.read_pair(next(folder.glob("*.idx")).with_suffix(""))
        documents = pair.document_indices  # one case has empty ones, of rows that were skipped
        told = indexed.write("again/ds", columns, packed=packed, document_indices=documents)
        assert content("ds", Path("again")) == content("ds", folder), folder
        names = json.loads((folder.parent / "expected_v210.json").read_text())["fields"]
        assert {f"ds{'_packed' * packed}_{n}_document" for n in columns} == names.keys()
        for name, field in names.items():
            column = columns[name.removeprefix("ds_").removeprefix("packed_")[: -len("_document")]]
            assert [row.tolist() for row in column] == field["sequences"]
        assert told["rows"] == len(next(iter(columns.values())))
        for path in Path("again").iterdir():
            path.unlink()


def test_chunks_equal_the_whole():
    indexed.write("whole", md.concat([SAMPLES] * 3))
    indexed.write("parts", (SAMPLES for _ in range(3)))
    whole, parts = content("whole"), content("parts")
    assert [*whole.values()] == [*parts.values()]
    assert len(whole) == 6
    one, other = indexed.sidecar("whole"), indexed.sidecar("parts")
    assert one == other
    assert one["rows"] == 6


def test_counts_of_chunks_are_added():
    cut = md.truncate(2, policy="tail")
    told = indexed.write("x", (md.counted(cut, SAMPLES) for _ in range(2)))
    assert told["counts"]["truncate.cut"] == 2
    assert told["counts"]["truncate.tokens_lost"] == 2
    assert indexed.sidecar("x") == told


def test_the_sidecar_says_how_the_data_were_made():
    steps = md.compose(md.pack(6), md.truncate(6, policy="tail"))
    template = md.TEMPLATES["qwen"]
    told = indexed.write("x", steps(SAMPLES), settings={"steps": steps, "template": template})
    assert told == indexed.sidecar("x")
    assert told["format"] == 1
    assert told["rows"] == 1
    assert told["columns"]["labels"].keys() == {"dtype", "values", "digest"}
    assert [step["transform"] for step in told["settings"]["steps"]] == [
        "mfunc.data.packing.cut.truncate",
        "mfunc.data.packing.pack.pack",
    ]
    assert told["settings"]["steps"][1]["seq_length"] == 6
    assert told["settings"]["template"]["assistant"] == template.assistant


def test_empty_sets():
    indexed.write("x", iter([]))
    assert lists(indexed.read("x", verify=True)) == {name: [] for name in PREFIXES}
    indexed.write("y", md.pack(4)({name: column[:0] for name, column in SAMPLES.items()}))
    assert [*content("x").values()] == [*content("y").values()]
    with pytest.raises(ValueError, match="got no chunks, so which columns is not known"):
        indexed.write("x", iter([]), packed=False)


def test_pretraining_columns():
    text = {"text": Ragged.from_rows([[1, 2]]), "title": Ragged.from_rows([[3]])}
    indexed.write("x", text, packed=False, dtype="uint16")
    assert lists(indexed.read("x", packed=False)) == {"text": [[1, 2]], "title": [[3]]}
    Path("x_document.json").unlink()
    assert list(indexed.read("x", packed=False)) == ["text"]
    assert list(indexed.read("x", packed=False, columns=["title"])) == ["title"]
    assert indexed.read("x", packed=False)["text"].dtype == np.uint16


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({}, "got no columns"),
        ({"_origin": []}, "got no columns"),
        ({**SAMPLES, "labels": SAMPLES["labels"][:1]}, "columns differ in length: input_ids 2, l"),
        (
            {**SAMPLES, "labels": Ragged.from_rows([[1, 2, 3], [4]])},
            "row 1 has 2 input_ids, but 1 labels; they must agree",
        ),
        (
            {"rejected_labels": SAMPLES["labels"], "rejected_input_ids": SAMPLES["labels"][[1, 0]]},
            "row 0 has 2 rejected_input_ids, but 3 rejected_labels",
        ),
        (
            {**SAMPLES, "attention_mask": SAMPLES["labels"], "segment_ids": SAMPLES["labels"]},
            "remove attention_mask or segment_ids",
        ),
        ([SAMPLES, {"input_ids": SAMPLES["input_ids"]}], r"a chunk has \['input_ids', 'attention"),
        (
            [SAMPLES, {**SAMPLES, "labels": Ragged.from_rows([[1, 2, 3], [4, 2**40]], np.int64)}],
            "labels: row 3 holds 1099511627776, which int32 cannot",
        ),
    ],
)
def test_wrong_columns(columns, message):
    with pytest.raises(ValueError, match=message):
        indexed.write("d/x", columns)
    assert list(Path("d").iterdir()) == []


def test_wrong_settings():
    with pytest.raises(
        TypeError, match=r"input_ids: needs a Ragged or an array \[n, S\].*got list"
    ):
        indexed.write("x", {"input_ids": [[1]]})
    with pytest.raises(ValueError, match="attention_mask must be one of 'segments', 'ones'"):
        indexed.write("x", SAMPLES, attention_mask="one")
    with pytest.raises(TypeError, match=r"settings\.tokenizer: <.*> has no stable identity"):
        indexed.write("x", SAMPLES, settings={"tokenizer": object()})
    assert list(Path().iterdir()) == []


def test_documents_of_skipped_rows():
    indexed.write("x", SAMPLES, document_indices=np.cumsum([0, True, False, True]))
    pair = indexed.read_pair("x_packed_labels_document")
    assert [row.tolist() for row in pair.documents] == [[-100, 2, 3], [], [-100, 5]]
    with pytest.raises(ValueError, match=r"document indices \[0, 1\] must rise from 0 to 2"):
        indexed.write("x", SAMPLES, document_indices=[0, 1])


def test_a_smaller_set_leaves_no_column_of_the_larger():
    """Upstream takes whatever lies under the prefix."""
    indexed.write("x", SAMPLES)
    indexed.write("x", {"input_ids": SAMPLES["input_ids"]})
    assert len(content("x")) == 4
    assert list(indexed.read("x")) == ["input_ids", "attention_mask"]


def test_what_is_not_there():
    with pytest.raises(FileNotFoundError, match=r"there is no x_packed_input_ids_document\.idx; f"):
        indexed.read("x")
    indexed.write("xy", SAMPLES)
    with pytest.raises(
        FileNotFoundError, match=r"did you mean 'xy_packed_input_ids_document\.idx'"
    ):
        indexed.read("x")
    with pytest.raises(ValueError, match=r"lists no column 'segment_ids', but \['input_ids'"):
        indexed.read("xy", columns=["segment_ids"])
    with pytest.raises(FileNotFoundError, match=r"there is no file x_packed_document\.json"):
        indexed.sidecar("x")


def test_mixed_writings_are_refused():
    """A column of another run, by rows; a run by another program, by the sidecar; by content."""
    indexed.write("x", SAMPLES)
    indexed.write("y", md.concat([SAMPLES, SAMPLES]))
    for end in ("bin", "idx"):
        os.replace(f"y_packed_labels_document.{end}", f"x_packed_labels_document.{end}")
    with pytest.raises(ValueError, match="columns differ in length: input_ids 2, attention_mask 2"):
        indexed.read("x")
    with pytest.raises(ValueError, match="tells of rows 2 in 'labels', but the files hold 4"):
        indexed.read("x", columns=["labels"])

    indexed.write("z", SAMPLES)
    indexed.write("w", SAMPLES, dtype="int64")
    for path in Path().glob("w_*_document.[bi]*"):
        path.replace(path.name.replace("w_", "z_"))
    with pytest.raises(ValueError, match=r"tells of dtype 'int32' in 'input_ids', but .* 'int64'"):
        indexed.read("z")


def test_verify_reads_every_value():
    indexed.write("x", SAMPLES)
    assert indexed.read("x", verify=True) == indexed.read("x")
    path = Path("x_packed_labels_document.bin")
    data = bytearray(path.read_bytes())
    data[4] ^= 1
    path.write_bytes(data)
    indexed.read("x")
    with pytest.raises(ValueError, match=r"tells of digest '.*' in 'labels', but the files hold"):
        indexed.read("x", verify=True)
    Path("x_packed_document.json").unlink()
    with pytest.raises(ValueError, match=r"verify=True needs the sidecar x_packed_document\.json"):
        indexed.read("x", verify=True)


def test_a_killed_writer_leaves_all_or_nothing():
    """At every change of a name, and at random moments; new files, or over others."""
    script = Path(__file__).with_name("kill_writer.py")
    source = str(Path(md.__file__).resolve().parents[2])
    environment = {**os.environ, "PYTHONPATH": source}
    done = subprocess.run(
        [sys.executable, str(script)], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    fresh, over, random = (line.split()[1:] for line in done.stdout.splitlines())
    assert fresh == ["nothing"] * (len(fresh) - 1) + ["b"]
    assert over == ["a", *["nothing"] * (len(over) - 2), "b"]
    assert len(fresh) > 7, "three data files, three indices, the sidecar"
    assert len(random) == 50
    assert {*random} <= {"a", "b", "nothing", "cached", "uncached"}


def test_there_need_be_no_mask():
    columns = {name: SAMPLES[name] for name in ("input_ids", "labels")}
    indexed.write("x", columns, attention_mask="none")
    assert indexed.read("x") == columns
    packed = {**columns, "segment_ids": columns["labels"]}
    with pytest.raises(ValueError, match="segment_ids become the attention_mask"):
        indexed.write("x", packed, attention_mask="none")
