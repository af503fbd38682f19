from __future__ import annotations

from pathlib import Path

import pytest

from mfunc.data.storage.whole import publish, staged, sync


def test_a_folder_that_goes_away():
    with staged(Path("deep/er/x")) as folder:
        assert folder.parent == Path("deep/er")
        assert folder.name.startswith(".x.")
        (folder / "inside").write_text("1")
    assert list(Path("deep/er").iterdir()) == []


def test_it_goes_away_after_an_error_too():
    with pytest.raises(KeyError), staged(Path("x")):
        raise KeyError
    assert list(Path().iterdir()) == []


def test_marks_go_first_and_come_last(monkeypatch):
    """The order of what can be interrupted is the promise itself."""
    for name in ("a.bin", "a.idx", "old.idx"):
        Path(name).write_text("old")
    steps = []
    unlink, replace = Path.unlink, Path.replace
    monkeypatch.setattr(Path, "unlink", lambda p, **k: (steps.append(f"-{p.name}"), unlink(p, **k)))
    monkeypatch.setattr(Path, "replace", lambda p, q: (steps.append(f"+{q.name}"), replace(p, q)))
    with staged(Path("a")) as folder:
        for name in ("a.bin", "a.json", "a.idx"):
            (folder / name).write_text("new")
        files = ["a.bin", "a.json"]
        publish(folder, Path(), files=files, marks=["a.idx"], stale=["old.idx", "gone"])
    assert steps == ["-a.idx", "-old.idx", "-gone", "+a.bin", "+a.json", "+a.idx"]
    assert {p.name: p.read_text() for p in Path().iterdir()} == {
        "a.bin": "new",
        "a.json": "new",
        "a.idx": "new",
    }


def test_nothing_is_touched_if_a_part_is_missing():
    Path("a.idx").write_text("old")
    with staged(Path("a")) as folder, pytest.raises(FileNotFoundError):
        publish(folder, Path(), files=["a.bin"], marks=["a.idx"])
    assert Path("a.idx").read_text() == "old"


def test_sync_needs_a_file():
    with pytest.raises(FileNotFoundError):
        sync(Path("gone"))
