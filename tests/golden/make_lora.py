"""Writes lora.npz: a LoRA adapter on the tiny LLaMA of llama_tiny_untied.npz.

The reference is Hugging Face PEFT on transformers, on the CPU, computed in float64. README.md
describes every array. Needs: peft, torch, transformers, numpy (versions in README.md). Run:

    python make_lora.py --out <folder>

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

SEED = 22
SETTINGS = {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"], "lora_dropout": 0.0}


def adapted(dtype: torch.dtype) -> peft.PeftModel:
    """The tiny LLaMA with an adapter whose A and B are both random."""
    config = peft.LoraConfig(**SETTINGS, task_type="CAUSAL_LM")
    model = peft.get_peft_model(build(TINY, tiny_weights(TINY), dtype), config).to(dtype)
    rng = np.random.default_rng(SEED)
    noise = {
        name: torch.from_numpy((0.1 * rng.standard_normal(tuple(p.shape))).astype(np.float32))
        for name, p in sorted(peft.get_peft_model_state_dict(model).items())
    }
    peft.set_peft_model_state_dict(model, noise)
    return model.to(dtype)


def results(dtype: torch.dtype) -> dict:
    """`logits`, `loss` and the gradients, with the adapter beside the weights; all as float64."""
    model = adapted(dtype)
    logits, loss = forward(model, tiny_batches(TINY["vocab_size"])["plain"])
    loss.backward()
    trained = {name for name, p in model.named_parameters() if p.grad is not None}
    if any("lora_" not in name for name in trained):
        raise ValueError(f"results: the base model has gradients too: {sorted(trained)}")
    grads = {
        f"grad/{name.replace('.default', '')}": p.grad.double().numpy()
        for name, p in model.named_parameters()
        if name in trained
    }
    return {"logits": logits.detach().double().numpy(), "loss": loss.double().item()} | grads


def merged() -> dict[str, np.ndarray]:
    """The weights that the adapter changes, after PEFT has merged it, in float64."""
    base = tiny_weights(TINY)
    state = adapted(torch.float64).merge_and_unload().state_dict()
    changed = {name: w.numpy() for name, w in state.items() if not np.array_equal(w, base[name])}
    if len(changed) != TINY["num_hidden_layers"] * len(SETTINGS["target_modules"]):
        raise ValueError(f"merged: unexpected weights changed: {sorted(changed)}")
    return changed


def main() -> None:
    """Reads the arguments and writes the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    args = parser.parse_args()
    torch.set_num_threads(1)
    single, double = results(torch.float32), results(torch.float64)
    deviation("lora", single, double)
    adapter = peft.get_peft_model_state_dict(adapted(torch.float32))
    arrays = {"config": np.array(json.dumps(SETTINGS))}
    arrays |= {f"adapter/{name}": w.numpy() for name, w in adapter.items()}
    arrays |= {f"merged/{name}": w.astype(np.float32) for name, w in merged().items()}
    arrays |= {"loss": np.float64(double.pop("loss")), "loss_float32": np.float32(single["loss"])}
    arrays |= {name: x.astype(np.float32) for name, x in double.items()}
    np.savez(args.out / "lora.npz", **arrays)


if __name__ == "__main__":
    main()
