from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.cli import byte_level

from mfunc.cli import tokenizer

pytest.importorskip("tokenizers")


def test_a_folder_and_a_file_of_hugging_face(tmp_path):
    folder = byte_level.folder(tmp_path / "bytes")
    for path in (folder, folder / "tokenizer.json"):
        loaded = tokenizer.load(str(path))
        assert (loaded.bos_id, loaded.eos_id, loaded.pad_id) == (256, 257, 258)
    assert loaded.special_ids == {256: "<s>", 257: "</s>", 258: "<pad>"}
    assert loaded.decode(loaded.encode(["数 a"])[0]) == "数 a"


def test_what_the_config_does_not_name_is_not_known(tmp_path):
    folder = byte_level.folder(tmp_path / "bytes")
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"eos_token": "</s>", "pad_token": None})
    )
    loaded = tokenizer.load(str(folder))
    assert (loaded.bos_id, loaded.eos_id, loaded.pad_id) == (None, 257, None)


def test_sentencepiece(shared):
    for path in ("llama/tokenizer.model", "llama", "t5"):
        loaded = tokenizer.load(str(shared / "data/tokenizers" / path))
        assert loaded.special_ids[loaded.eos_id] == "</s>"


def test_nothing_there():
    Path("empty").mkdir()
    with pytest.raises(
        FileNotFoundError, match=r"--tokenizer: empty has none of tokenizer\.model, "
    ):
        tokenizer.load("empty")
    with pytest.raises(FileNotFoundError, match=r"there is no file x\.model"):
        tokenizer.load("x.model")
