from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import mfunc.data as md
from mfunc.data import Ragged
from mfunc.data.storage import mindrecord
from mfunc.data.storage.sidecar import digest

SAMPLES = {
    "input_ids": Ragged.from_rows([[1, 2, 3], [4, 5], [6]]),
    "labels": Ragged.from_rows([[-100, 2, 3], [-100, 5], [-100]]),
}
PATH = "x.mindrecord"


def test_there_and_back():
    told = mindrecord.write("d/x.mindrecord", {**SAMPLES, "_origin": ["a", "b", "c"]})
    assert sorted(p.name for p in Path("d").iterdir()) == [PATH, f"{PATH}.db", f"{PATH}.json"]
    assert md.concat(list(mindrecord.read("d/x.mindrecord"))) == SAMPLES
    chunks = list(mindrecord.read("d/x.mindrecord", chunk_rows=2))
    assert [len(chunk["input_ids"]) for chunk in chunks] == [2, 1]
    assert md.concat(chunks)["labels"].dtype == np.int32
    assert told == mindrecord.sidecar("d/x.mindrecord")
    assert told["rows"] == 3
    assert told["columns"]["labels"]["digest"] == digest(SAMPLES["labels"])


def test_mindspore_reads_what_we_write():
    from mindspore.dataset import MindDataset

    mindrecord.write(PATH, (SAMPLES for _ in range(700)))
    names = ["input_ids", "labels"]
    rows = MindDataset(PATH, columns_list=names, shuffle=False).create_dict_iterator(
        num_epochs=1, output_numpy=True
    )
    count = 0
    for i, row in enumerate(rows):
        for name in names:
            assert row[name].dtype == np.int32
            assert row[name].tolist() == SAMPLES[name][i % 3].tolist()
        count += 1
    assert count == 2100


def test_we_read_what_mindspore_writes():
    from mindspore.mindrecord import FileWriter

    writer = FileWriter(PATH, 1)
    schema = {"input_ids": {"type": "int32", "shape": [-1]}, "id": {"type": "int64"}}
    writer.add_schema(schema, "tokens")
    writer.write_raw_data([{"input_ids": np.array([i, 7], np.int32), "id": i} for i in range(4)])
    writer.commit()
    (columns,) = mindrecord.read(PATH)
    assert {name: [r.tolist() for r in c] for name, c in columns.items()} == {
        "input_ids": [[0, 7], [1, 7], [2, 7], [3, 7]]
    }
    with pytest.raises(FileNotFoundError, match=r"there is no file x\.mindrecord\.json"):
        mindrecord.sidecar(PATH)


def test_other_columns_are_not_ids():
    from mindspore.mindrecord import FileWriter

    writer = FileWriter(PATH, 1)
    writer.add_schema({"data": {"type": "int32", "shape": [-1]}}, "tokens")
    writer.write_raw_data([{"data": np.array([7], np.int32)}])
    writer.commit()
    with pytest.raises(ValueError, match=r"x\.mindrecord has no input_ids, but data"):
        mindrecord.read(PATH)


def test_rows_of_one_more_than_the_sequence():
    columns = {"input_ids": np.arange(10, dtype=np.int32).reshape(2, 5)}
    mindrecord.write(PATH, columns, seq_length=4)
    assert next(mindrecord.read(PATH, seq_length=4))["input_ids"][1].tolist() == [5, 6, 7, 8, 9]
    with pytest.raises(ValueError, match="row 0 has 5 tokens, but seq_length=5 needs 6: the model"):
        list(mindrecord.read(PATH, seq_length=5))
    chunks = [columns, SAMPLES]
    with pytest.raises(ValueError, match=r"a chunk has \['input_ids', 'labels'\], the first has"):
        mindrecord.write("y.mindrecord", chunks)
    short = {"input_ids": SAMPLES["input_ids"]}
    with pytest.raises(ValueError, match="row 2 has 3 tokens, but seq_length=4 needs 5"):
        mindrecord.write("y.mindrecord", [columns, short], seq_length=4)
    assert not list(Path().glob("*y*"))


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"labels": SAMPLES["labels"]}, "needs a Ragged column 'input_ids'"),
        ({"input_ids": Ragged.from_rows([[1], [], [2]])}, "row 1 is empty, and MindRecord would"),
        (
            {**SAMPLES, "labels": SAMPLES["labels"][[1, 0, 2]]},
            "row 0 has 3 input_ids but 2 labels",
        ),
        ({"input_ids": Ragged.from_rows([[2**31]], np.int64)}, "input_ids holds int64, not all 32"),
        (iter([]), "got no chunks"),
    ],
)
def test_wrong_columns(columns, message):
    with pytest.raises(ValueError, match=message):
        mindrecord.write(PATH, columns)
    assert list(Path().iterdir()) == []


def test_wrong_paths():
    with pytest.raises(ValueError, match=r"x\.rec must end with \.mindrecord"):
        mindrecord.write("x.rec", SAMPLES)
    with pytest.raises(FileNotFoundError, match=r"there is no file x\.mindrecord"):
        mindrecord.read(PATH)


def test_an_empty_set():
    mindrecord.write(PATH, {name: column[:0] for name, column in SAMPLES.items()})
    assert list(mindrecord.read(PATH)) == []


def test_what_is_not_whole_is_refused():
    mindrecord.write(PATH, SAMPLES)
    Path(f"{PATH}.db").rename("db")
    with pytest.raises(
        ValueError, match=r"not a whole MindRecord .*; it needs its x\.mindrecord\.db"
    ):
        mindrecord.read(PATH)
    Path("db").rename(f"{PATH}.db")
    data = Path(PATH).read_bytes()
    Path(PATH).write_bytes(b"x" * len(data))
    with pytest.raises(ValueError, match="is not a whole MindRecord"):
        list(mindrecord.read(PATH))
    for end in ("", ".db"):
        Path(PATH + end).rename("y.mindrecord" + end)
    Path("y.mindrecord").write_bytes(data)
    with pytest.raises(ValueError, match="the name that it was written under"):
        mindrecord.read("y.mindrecord")


def test_another_writing_than_the_sidecars():
    mindrecord.write(PATH, SAMPLES)
    json = Path(f"{PATH}.json").read_text()
    mindrecord.write(PATH, (SAMPLES for _ in range(2)))
    Path(f"{PATH}.json").write_text(json)
    with pytest.raises(ValueError, match="tells of 3 rows, but the file has 6"):
        mindrecord.read(PATH)
