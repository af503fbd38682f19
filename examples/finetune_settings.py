"""Settings of `finetune.py`: presets, and the command line that may replace any field of one."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import attrs

import mfunc.data as md


@attrs.frozen(kw_only=True)
class Preset:
    """A size of model and the training that suits it; every field is an argument of the script."""

    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    seq_length: int
    batch_size: int
    steps: int
    learning_rate: float
    warmup_steps: int
    lora_steps: int
    lora_learning_rate: float
    lora_rank: int = 16


PRESETS = {
    "demo": Preset(
        hidden_size=128, intermediate_size=384, num_hidden_layers=3, num_attention_heads=4,
        seq_length=128, batch_size=7, steps=1300, learning_rate=2e-3, warmup_steps=100,
        lora_steps=400, lora_learning_rate=3e-3,
    ),
    "tiny": Preset(
        hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=2,
        seq_length=2048, batch_size=1, steps=50, learning_rate=3e-3, warmup_steps=10,
        lora_steps=30, lora_learning_rate=3e-3, lora_rank=8,
    ),
}  # fmt: skip


def parse(arguments: Sequence[str] | None, description: str) -> tuple[argparse.Namespace, Preset]:
    """Read the command line: paths, and a preset with any of its fields replaced."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--data", type=Path, help="alpaca rows, .json or .jsonl (default: school maths)")
    add("--tokenizer", type=Path, help="SentencePiece model (default: trained on the rows)")
    add("--model", type=Path, help="Hugging Face folder (default: a model from scratch)")
    add("--template", default=None, help=f"one of {', '.join(md.TEMPLATES)}")
    add(
        "--field", action="append", default=[], metavar="OURS=THEIRS",
        help="a column by another name",
    )  # fmt: skip
    add("--overlong", choices=("error", "drop", "truncate", "split"), default="error")
    add("--rows", type=int, default=20_000, help="rows of school maths to write")
    add("--held-out", type=int, default=100, help="rows kept for exact match")
    add("--output", type=Path, default=Path("runs/demo"))
    add("--seed", type=int, default=0)
    add("--preset", choices=sorted(PRESETS), default="demo")
    names = [field.name for field in attrs.fields(Preset)]
    for name in names:
        add(f"--{name.replace('_', '-')}", type=type_of(name), default=None)
    options = parser.parse_args(arguments)
    changes = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    options.output.mkdir(parents=True, exist_ok=True)
    return options, attrs.evolve(PRESETS[options.preset], **changes)


def type_of(name: str) -> type:
    """Return the type of a preset's field."""
    return float if name.endswith("learning_rate") else int
