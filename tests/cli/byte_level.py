"""A folder with a Hugging Face tokenizer of bytes: one token a byte, so lengths can be counted."""

from __future__ import annotations

import json
from pathlib import Path

import tokenizers

BOS, EOS, PAD = 256, 257, 258


def folder(path: Path) -> Path:
    """Write `tokenizer.json` and the config, in which special tokens have either form."""
    letters = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    model = tokenizers.Tokenizer(tokenizers.models.BPE({c: i for i, c in enumerate(letters)}, []))
    model.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    model.decoder = tokenizers.decoders.ByteLevel()
    model.add_special_tokens(["<s>", "</s>", "<pad>"])
    path.mkdir(parents=True, exist_ok=True)
    model.save(str(path / "tokenizer.json"))
    config = {"bos_token": "<s>", "eos_token": {"content": "</s>"}, "pad_token": "<pad>"}
    (path / "tokenizer_config.json").write_text(json.dumps(config))
    return path
