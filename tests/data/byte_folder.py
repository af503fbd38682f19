"""A tokenizer's folder as Hugging Face writes it: bytes, some pairs merged, special tokens."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

SPECIAL = ("<s>", "</s>", "<|endoftext|>", "<|im_start|>", "<|im_end|>", "[gMASK]", "sop")
MERGES = (("a", "a"), ("b", "Ċ"), ("Ċ", "a"), ("Ċ", "Ċ"), ("o", ">"))  # Ċ is the newline


def write_folder(
    folder: Path, *, special: Any = SPECIAL, bos_before: bool = False, **config: Any
) -> Path:
    """Write it. Tokens span the places where texts meet, if they are encoded as one."""
    tokenizers = pytest.importorskip("tokenizers")
    bytes_ = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    vocab = {name: i for i, name in enumerate([*bytes_, *("".join(pair) for pair in MERGES)])}
    built = tokenizers.Tokenizer(tokenizers.models.BPE(vocab, list(MERGES)))
    built.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(
        add_prefix_space=False, use_regex=False
    )
    built.decoder = tokenizers.decoders.ByteLevel()
    built.add_special_tokens(list(special))
    if bos_before:
        built.post_processor = tokenizers.processors.TemplateProcessing(
            single="<s> $A", special_tokens=[("<s>", built.token_to_id("<s>"))]
        )
    folder.mkdir(parents=True, exist_ok=True)
    built.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder
