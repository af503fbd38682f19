from __future__ import annotations

import numpy as np
import pytest

import mfunc.data as md
from mfunc.data.building import spill
from mfunc.data.building.spill import packed_windows, windows


@pytest.fixture
def samples(tmp_path):
    rng = np.random.default_rng(0)
    lengths = rng.integers(0, 30, 200)
    ids = md.Ragged.from_rows([rng.integers(0, 999, n) for n in lengths])
    columns = {"input_ids": ids, "labels": md.Ragged(-ids.values, ids.offsets)}
    md.indexed.write(tmp_path / "samples", [(columns, {"x.rows": 200})], attention_mask="none")
    return columns


@pytest.mark.parametrize("window", [1, 64, 1 << 19])
@pytest.mark.parametrize("strategy", ["tightest", "next_fit", "concat"])
@pytest.mark.parametrize("multiple", [1, 4])
def test_windows_joined_are_the_pack(samples, tmp_path, monkeypatch, window, strategy, multiple):
    monkeypatch.setattr(spill, "WINDOW", window)
    pack = md.pack(32, strategy=strategy, segment_multiple=multiple, pad_id=7, seed=3)
    wanted, counts = md.counted(pack, samples)
    made = list(packed_windows(tmp_path, pack))
    joined = md.concat([columns for columns, _, _ in made])
    assert {n: c.tolist() for n, c in joined.items()} == {n: c.tolist() for n, c in wanted.items()}
    assert made[0][1] == {**counts, "x.rows": 200, "pack.segments": made[0][1]["pack.segments"]}
    assert all(not told for _, told, _ in made[1:])
    assert {total for _, _, total in made} == {len(joined["input_ids"])}
    assert window > 64 or len(made) > 9


@pytest.mark.parametrize("window", [1, 64, 1 << 19])
def test_windows_of_single_samples_joined_are_the_samples(samples, tmp_path, monkeypatch, window):
    monkeypatch.setattr(spill, "WINDOW", window)
    made = list(windows(tmp_path))
    assert md.concat([columns for columns, _, _ in made]) == samples
    assert [told for _, told, _ in made] == [{"x.rows": 200}] + [{}] * (len(made) - 1)
    assert window > 64 or len(made) > 9


def test_no_samples_are_one_window_without_rows(tmp_path):
    md.indexed.write(tmp_path / "samples", [], attention_mask="none")
    [(columns, counts, total)] = packed_windows(tmp_path, md.pack(8))
    assert columns["input_ids"].shape == (0, 8)
    assert (counts["pack.rows"], total) == (0, 0)
    [(columns, _, total)] = windows(tmp_path)
    assert (len(columns["labels"]), total) == (0, 0)


def test_pairs_have_no_pack(tmp_path):
    pairs = {"chosen_input_ids": np.ones((2, 3)), "rejected_input_ids": np.ones((2, 3))}
    md.indexed.write(tmp_path / "samples", pairs)
    with pytest.raises(ValueError, match="pack: needs input_ids, got chosen_input_ids, rejected_"):
        next(packed_windows(tmp_path, md.pack(8)))


def test_a_file_that_is_cut_off_meanwhile_is_refused(samples, tmp_path, monkeypatch):
    monkeypatch.setattr(spill, "WINDOW", 64)
    made = windows(tmp_path)
    next(made)
    with (tmp_path / "samples_packed_labels_document.bin").open("r+b") as file:
        file.truncate(1000)
    with pytest.raises(ValueError, match="was cut off while it was read"):
        list(made)
