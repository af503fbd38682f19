"""A tiny model with its tokenizer in a folder, rows in a file, and a recipe of both."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import sentencepiece

import mfunc as mf
import mfunc.data as md
from mfunc.nn import llama
from mfunc.recipe import build
from mfunc.recipe.settings import Recipe

ROWS = [
    {"instruction": f"Say {word} {n} times.", "input": "", "output": " ".join([word] * n)}
    for n in range(1, 5)
    for word in ("yes", "no", "maybe", "never", "red", "green")
]


def write_model(folder: Path) -> Path:
    """A fresh LLaMA, 16 wide, with a byte-fallback SentencePiece model."""
    writer = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([json.dumps(row) for row in ROWS]), model_writer=writer,
        vocab_size=320, model_type="bpe", byte_fallback=True, hard_vocab_limit=False,
        minloglevel=2, pad_id=3,
    )  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.model").write_bytes(writer.getvalue())
    tokenizer = md.sentencepiece(folder / "tokenizer.model")
    config = llama.Config(
        vocab_size=tokenizer.vocab_size, hidden_size=16, intermediate_size=32,
        num_hidden_layers=2, num_attention_heads=2,
    )  # fmt: skip
    params = llama.init(mf.random.key(0), config)
    mf.save_pretrained(folder, mf.Pretrained(llama, config, params, tokenizer))
    return folder


def write_rows(path: Path) -> Path:
    """Alpaca rows."""
    path.write_text(json.dumps(ROWS))
    return path


def tiny_recipe(folder: Path, table: dict[str, Any] | None = None, **top: Any) -> Recipe:
    """The recipe of a run in `folder/runs` that takes a second or two."""
    model, rows = folder / "model", folder / "rows.json"
    if not model.exists():
        write_model(model)
        write_rows(rows)
    whole: dict[str, Any] = {
        "output": str(folder / "runs"),
        "model": {"path": str(model)},
        "data": {"train": [str(rows)], "held_out": 4, "seq_length": 192},
        "adapter": {"name": "lora", "rank": 2, "alpha": 4},
        "optimizer": {"name": "adamw", "learning_rate": 1e-2},
        "train": {"batch_size": 2, "steps": 6},
        "evaluate": {"batch_size": 2, "max_new_tokens": 4},
        "log": {"progress": False, "plot": False},
        **top,
    }
    for section, settings in (table or {}).items():
        # Another function takes other settings.
        whole[section] = settings if "name" in settings else {**whole.get(section, {}), **settings}
    return build(whole)
