"""Forty rows, a tokenizer of them, and a comparison that takes seconds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import sentencepiece

from mfunc.comparison import Settings

ROWS = [
    {"instruction": f"Add {n} and {n + 1}.", "input": "", "output": f"{n} + {n + 1} = {2 * n + 1}"}
    for n in range(40)
]


def tiny(folder: Path, **changes: Any) -> Settings:
    """Write the files, once, and name them."""
    rows, prefix = folder / "rows.json", folder / "tokenizer"
    if not rows.exists():
        rows.write_text(json.dumps(ROWS))
        texts = [text for row in ROWS for text in row.values()]
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(texts), model_prefix=str(prefix), vocab_size=400,
            model_type="bpe", byte_fallback=True, minloglevel=2, hard_vocab_limit=False,
        )  # fmt: skip
    small = {
        "seq_length": 512, "batch_size": 4, "tokens": 10, "static_tokens": 10, "hidden_size": 16,
        "layers": 1, "heads": 2,
    }  # fmt: skip
    return Settings(data=rows, tokenizer=prefix.with_suffix(".model"), **{**small, **changes})
