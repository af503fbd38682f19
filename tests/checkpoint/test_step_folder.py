from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from mfunc.checkpoint import step_folder
from mfunc.checkpoint.step_folder import (
    folder_name,
    folders,
    read_about,
    read_state,
    remove,
    sweep,
    write,
)

ARRAYS = {"params/w": np.float32([[1, 2, 3]]), "key": np.uint32([0, 7]), "count": np.int32(5)}


def written(parent, step=100, arrays=ARRAYS, **metrics):
    return write(parent, step, arrays, {"step": step, **metrics}, {"rate": 0.1})


def test_a_folder_tells_all_of_itself(tmp_path):
    folder = written(tmp_path, loss=0.5)
    assert folder == tmp_path / "step_00000100"
    assert sorted(path.name for path in folder.iterdir()) == [
        "checkpoint.json", "state.safetensors",
    ]  # fmt: skip
    about = json.loads((folder / "checkpoint.json").read_text())
    assert about["leaves"] == {
        "params/w": {"dtype": "float32", "shape": [1, 3]},
        "key": {"dtype": "uint32", "shape": [2]},
        "count": {"dtype": "int32", "shape": []},
    }
    assert (about["format"], about["step"]) == (1, 100)
    assert (about["metrics"], about["config"]) == ({"step": 100, "loss": 0.5}, {"rate": 0.1})
    assert about["versions"].keys() == {"mfunc", "mindspore", "numpy", "safetensors"}
    assert read_about(folder) == about
    arrays = read_state(folder, about)
    assert {n: (a.dtype, a.shape, a.tobytes()) for n, a in arrays.items()} == {
        n: (a.dtype, a.shape, a.tobytes()) for n, a in ARRAYS.items()
    }
    assert [path.name for path in tmp_path.iterdir()] == ["step_00000100"]


def test_metrics_that_are_no_finite_numbers_are_kept(tmp_path):
    metrics = read_about(written(tmp_path, loss=float("nan"), best=float("-inf")))["metrics"]
    assert metrics["loss"] != metrics["loss"]
    assert metrics["best"] == -np.inf


@pytest.mark.parametrize("file", ["checkpoint.json", "state.safetensors"])
def test_a_flip_anywhere_is_seen_and_named(tmp_path, file):
    folder = written(tmp_path)
    content = (folder / file).read_bytes()
    flips = np.random.default_rng(0).integers(0, 8, len(content))
    for i, bit in enumerate(flips.tolist()):
        changed = content[:i] + bytes([content[i] ^ 1 << bit]) + content[i + 1 :]
        (folder / file).write_bytes(changed)
        with pytest.raises(ValueError, match=rf"step_00000100/{file}: damaged, its"):
            read_state(folder, read_about(folder))


@pytest.mark.parametrize("file", ["checkpoint.json", "state.safetensors"])
@pytest.mark.parametrize("change", ["cut", "longer", "gone", "empty"])
def test_files_that_are_not_whole(tmp_path, file, change):
    folder = written(tmp_path)
    content = (folder / file).read_bytes()
    new = {"cut": content[:-1], "longer": content + b"\0", "gone": b"", "empty": b""}[change]
    (folder / file).write_bytes(new)
    if change == "gone":
        (folder / file).unlink()
    with pytest.raises(ValueError, match=rf"{file}: (damaged|no such file, so this checkpoint is)"):
        read_state(folder, read_about(folder))


def test_another_format_is_no_damage(tmp_path, monkeypatch):
    monkeypatch.setattr(step_folder, "FORMAT", 2)
    folder = written(tmp_path)
    monkeypatch.undo()
    with pytest.raises(ValueError, match=r"checkpoint.json: format 2; this mfunc reads 1"):
        read_about(folder)


def test_only_whole_names_are_checkpoints(tmp_path):
    whole = ("step_00000020", "step_00000003", "step_123456789")
    others = ("step_7", "step_00000004.aside", ".step_00000005.x.part", "steps", "step_0000000x")
    for name in (*whole, *others):
        (tmp_path / name).mkdir()
    assert list(folders(tmp_path)) == [3, 20, 123456789]
    assert folders(tmp_path / "none") == {}
    assert folder_name(123456789) == "step_123456789"


def test_what_is_later_is_set_aside_not_deleted(tmp_path):
    """A run that goes on from step 20 has left what was at 30."""
    for step in (10, 20, 30):
        written(tmp_path, step, {"w": np.float32([step])})
    (tmp_path / "step_00000030.aside").mkdir()
    written(tmp_path, 20, {"w": np.float32([0])})
    assert list(folders(tmp_path)) == [10, 20]
    aside = {path.name for path in tmp_path.glob("*aside*")}
    assert aside == {"step_00000020.aside", "step_00000030.aside", "step_00000030.aside1"}
    old = tmp_path / "step_00000020.aside"
    assert read_state(old, read_about(old))["w"] == [20]


def test_the_same_state_again_takes_the_place_of_the_old(tmp_path):
    written(tmp_path, 10, loss=1.0)
    written(tmp_path, 10, loss=2.0)
    assert [path.name for path in tmp_path.iterdir()] == ["step_00000010"]
    assert read_about(tmp_path / "step_00000010")["metrics"]["loss"] == 2.0


@pytest.mark.parametrize("moment", ["store", "digest_of", "_render", "sync", "_set_aside"])
def test_an_error_at_any_moment_leaves_what_was_there(tmp_path, monkeypatch, moment):
    written(tmp_path, 10)
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(step_folder, moment, fail)
    with pytest.raises(OSError, match="disk full"):
        written(tmp_path, 10, {"w": np.zeros(2)})
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before


def test_the_name_comes_after_everything_is_on_the_disk(tmp_path, monkeypatch):
    order = []
    real_sync, real_rename = step_folder.sync, type(tmp_path).rename
    monkeypatch.setattr(step_folder, "sync", lambda p: (order.append(p.name), real_sync(p)))
    monkeypatch.setattr(
        type(tmp_path), "rename", lambda p, q: (order.append(f"-> {q.name}"), real_rename(p, q))[1]
    )
    written(tmp_path)
    name = "step_00000100"
    files = ["state.safetensors", "checkpoint.json"]
    assert order == [*files, name, f"-> {name}", tmp_path.name]


def test_sweeping_and_removing(tmp_path):
    folder = written(tmp_path, 10)
    for name in (".step_00000010.abc.part", ".step_00000020.deleted.part"):
        shutil.copytree(folder, tmp_path / name)
    sweep(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["step_00000010"]
    remove(folder)
    assert list(tmp_path.iterdir()) == []


def test_a_removal_that_is_cut_short_leaves_no_half_of_a_checkpoint(tmp_path, monkeypatch):
    folder = written(tmp_path, 10)

    def fail(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(shutil, "rmtree", fail)
    with pytest.raises(KeyboardInterrupt):
        remove(folder)
    assert folders(tmp_path) == {}
    monkeypatch.undo()
    sweep(tmp_path)
    assert list(tmp_path.iterdir()) == []
