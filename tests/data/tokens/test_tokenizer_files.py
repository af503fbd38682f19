from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.data import spelling

from mfunc.data import hf_tokenizer, load_tokenizer, sentencepiece


def model(path):
    Path(path).parent.mkdir(exist_ok=True)
    Path(path).write_bytes(spelling.model("identity with symbols"))
    return path


def json_file(path):
    tokenizers = pytest.importorskip("tokenizers")
    words = {"a": 0, "b": 1, "<s>": 2, "</s>": 3}
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="a"))
    Path(path).parent.mkdir(exist_ok=True)
    made.save(str(path))
    return path


def test_the_content_decides_not_the_name():
    assert load_tokenizer(model("x/words.json")) == sentencepiece("x/words.json")
    assert load_tokenizer(json_file("x/a.model"), eos="</s>").eos_id == 3
    assert load_tokenizer("x/a.model") == hf_tokenizer("x/a.model")


def test_a_folder_has_one_and_its_configuration_names_the_roles():
    json_file("f/tokenizer.json")
    config = {"bos_token": {"content": "<s>"}, "eos_token": "</s>", "pad_token": None}
    Path("f/tokenizer_config.json").write_text(json.dumps(config))
    found = load_tokenizer("f")
    assert (found.bos_id, found.eos_id, found.pad_id) == (2, 3, None)
    assert load_tokenizer("f", eos="b", pad="a").eos_id == 1
    assert load_tokenizer("f/tokenizer.json").eos_id is None
    model("f/tokenizer.model")
    assert load_tokenizer("f").eos_id == sentencepiece("f/tokenizer.model").eos_id


def test_what_is_no_tokenizer_is_refused():
    with pytest.raises(FileNotFoundError, match="there is no file or folder absent"):
        load_tokenizer("absent")
    Path("empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"the folder empty has none of tokenizer.model, "):
        load_tokenizer("empty")
    Path("empty/tokenizer.model").write_bytes(b"not a model")
    with pytest.raises(ValueError, match="is not a SentencePiece model"):
        load_tokenizer("empty")
    Path("empty/tokenizer_config.json").write_text("[1]")
    with pytest.raises(ValueError, match=r"empty/tokenizer_config.json is not a JSON object"):
        load_tokenizer("empty")
    model("m/tokenizer.model")
    with pytest.raises(ValueError, match="has no token '<eos>'"):
        load_tokenizer("m", eos="<eos>")
