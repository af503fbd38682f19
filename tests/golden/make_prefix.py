"""Writes prefix.npz: prefixes on the tiny LLaMA of llama_tiny_untied.npz.

The reference is Hugging Face PEFT on transformers, on the CPU, computed in float64. README.md
describes every array. Needs: peft, torch, transformers, numpy (versions in README.md). Run:

    python make_prefix.py --out <folder>

The file is the same to the byte, run after run.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import peft
import torch
from make_llama import TINY, build, deviation, forward, tiny_batches, tiny_weights

SEED = 23
# "projected": a table and a network of two layers; "plain": keys and values themselves.
SETTINGS = {
    "projected": {"num_virtual_tokens": 5, "prefix_projection": True, "encoder_hidden_size": 12},
    "plain": {"num_virtual_tokens": 3, "prefix_projection": False},
}


def adapted(kind: str, dtype: torch.dtype) -> peft.PeftModel:
    """The tiny LLaMA with a prefix of random numbers."""
    config = peft.PrefixTuningConfig(**SETTINGS[kind], task_type="CAUSAL_LM")
    model = peft.get_peft_model(build(TINY, tiny_weights(TINY), dtype), config).to(dtype)
    rng = np.random.default_rng(SEED)
    with torch.no_grad():
        for _, p in sorted(model.prompt_encoder.named_parameters()):
            p.copy_(torch.from_numpy((0.5 * rng.standard_normal(p.shape)).astype(np.float32)))
    return model.train()


def results(kind: str, dtype: torch.dtype) -> dict:
    """`logits`, `loss` and the gradients of the prefix; all as float64."""
    model = adapted(kind, dtype)
    logits, loss = forward(model, tiny_batches(TINY["vocab_size"])["plain"])
    loss.backward()
    trained = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    if any("prompt_encoder." not in name for name in trained):
        raise ValueError(f"results: the base model has gradients too: {sorted(trained)}")
    grads = {f"grad/{short(name)}": grad.double().numpy() for name, grad in trained.items()}
    return {"logits": logits.detach().double().numpy(), "loss": loss.double().item()} | grads


def short(name: str) -> str:
    """prompt_encoder.default.embedding.weight -> embedding.weight."""
    return name.removeprefix("prompt_encoder.default.").removeprefix("default.")


def main() -> None:
    """Reads the arguments and writes the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    args = parser.parse_args()
    torch.set_num_threads(1)
    arrays = {"config": np.array(json.dumps(SETTINGS))}
    for kind in SETTINGS:
        single, double = results(kind, torch.float32), results(kind, torch.float64)
        deviation(f"prefix {kind}", single, double)
        encoder = adapted(kind, torch.float32).prompt_encoder.named_parameters()
        arrays |= {f"{kind}/adapter/{short(n)}": p.detach().numpy() for n, p in encoder}
        arrays |= {f"{kind}/loss": np.float64(double.pop("loss"))}
        arrays |= {f"{kind}/{name}": x.astype(np.float32) for name, x in double.items()}
    np.savez(args.out / "prefix.npz", **arrays)


if __name__ == "__main__":
    main()
