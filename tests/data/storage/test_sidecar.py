from __future__ import annotations

from pathlib import Path

import pytest

from mfunc.data import Ragged
from mfunc.data.storage import sidecar

COLUMNS = {"input_ids": Ragged.from_rows([[1, 2], [3]])}
PATH = Path("x.json")


def told(**changes):
    column = {"dtype": "int32", "values": 3, "digest": sidecar.digest(COLUMNS["input_ids"])}
    return sidecar.describe({"input_ids": {**column, **changes}}, 2, {"n": 1}, {"a": (1, "é")})


def test_there_and_back():
    assert sidecar.load(PATH) is None
    sidecar.dump(PATH, told())
    assert sidecar.load(PATH) == told()
    assert "é" in PATH.read_text(encoding="utf-8")
    sidecar.check(PATH, told(), COLUMNS, verify=True)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dtype": "int64"}, r"x\.json tells of dtype 'int64' in 'input_ids', but .* hold 'int32'"),
        ({"values": 4}, "tells of values 4 in 'input_ids', but the files hold 3"),
        ({"values": None}, "tells of values None"),
        ({"digest": "0"}, "tells of digest '0' in 'input_ids', but the files hold"),
    ],
)
def test_a_mismatch_is_named(changes, message):
    with pytest.raises(ValueError, match=message):
        sidecar.check(PATH, told(**changes), COLUMNS, verify=True)
    with pytest.raises(ValueError, match="tells of rows 9 in 'input_ids', but the files hold 2"):
        sidecar.check(PATH, {**told(), "rows": 9}, COLUMNS, verify=False)


def test_only_verifying_reads_the_values():
    sidecar.check(PATH, told(digest="0"), COLUMNS, verify=False)


def test_the_digest_tells_rows_apart():
    digests = [
        sidecar.digest(Ragged.from_rows(rows))
        for rows in ([[1, 2], [3]], [[1], [2, 3]], [[1, 2, 3]], [[1, 2], [4]])
    ]
    assert len({*digests}) == 4
    assert sidecar.digest(Ragged.from_rows([[9], [1, 2], [3]])[1:]) == digests[0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"x\.json is not JSON"),
        ('{"format": 1', r"x\.json is not JSON"),
        ("[" * 100_000, r"x\.json is not JSON"),
        ("[]", r"x\.json is of format 'list', but 1 is known; write again"),
        ('{"format": 2}', "is of format 2, but 1 is known"),
        ('{"format": 1}', "does not list its columns; delete it"),
        ('{"format": 1, "columns": {"a": 3}}', "does not list its columns"),
    ],
)
def test_what_is_no_sidecar(text, message):
    PATH.write_text(text)
    with pytest.raises(ValueError, match=message):
        sidecar.load(PATH)
