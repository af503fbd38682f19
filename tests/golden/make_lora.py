"""Writes lora.npz: LoRA, rsLoRA and DoRA adapters on the tiny LLaMA of llama_tiny_untied.npz.

The reference is Hugging Face PEFT on transformers, on the CPU, computed in float64. README.md
describes every array. Needs: peft, torch, transformers, numpy (versions in README.md). Run:

    python make_lora.py --out <folder>
    python make_lora.py --read <folder>     # an adapter that mfunc wrote, beside logits.npy

The file is the same to the byte, run after run.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
import peft
import torch
from make_llama import TINY, build, deviation, forward, tiny_batches, tiny_weights
from safetensors.numpy import load_file

SEED = 22
SETTINGS = {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"], "lora_dropout": 0.0}
# What a key of the file begins with -> settings.
VARIANTS = {
    "": SETTINGS,
    "rslora/": SETTINGS | {"use_rslora": True, "target_modules": ["down_proj", "k_proj"]},
    "dora/": SETTINGS | {"use_dora": True, "target_modules": ["o_proj", "v_proj"]},
}


def adapted(settings: dict, dtype: torch.dtype) -> peft.PeftModel:
    """The tiny LLaMA with an adapter whose A and B are both random, and magnitudes about a norm."""
    config = peft.LoraConfig(**settings, task_type="CAUSAL_LM")
    model = peft.get_peft_model(build(TINY, tiny_weights(TINY), dtype), config).to(dtype)
    rng = np.random.default_rng(SEED)
    noise = {
        name: torch.from_numpy((0.1 * rng.standard_normal(tuple(p.shape))).astype(np.float32))
        for name, p in sorted(peft.get_peft_model_state_dict(model).items())
    }
    norms = peft.get_peft_model_state_dict(model)
    for name in noise:
        if name.endswith("lora_magnitude_vector"):
            noise[name] = norms[name].float() * (1 + noise[name])
    peft.set_peft_model_state_dict(model, noise)
    return model.to(dtype)


def results(settings: dict, dtype: torch.dtype) -> dict:
    """`logits`, `loss` and the gradients, with the adapter beside the weights; all as float64."""
    model = adapted(settings, dtype)
    logits, loss = forward(model, tiny_batches(TINY["vocab_size"])["plain"])
    loss.backward()
    trained = {name for name, p in model.named_parameters() if p.grad is not None}
    if any("lora_" not in name for name in trained):
        raise ValueError(f"results: the base model has gradients too: {sorted(trained)}")
    grads = {
        f"grad/{in_file(name)}": p.grad.double().numpy()
        for name, p in model.named_parameters()
        if name in trained
    }
    return {"logits": logits.detach().double().numpy(), "loss": loss.double().item()} | grads


def in_file(name: str) -> str:
    """A parameter's name in the model -> in an adapter file."""
    return name.replace(".default", "").replace("magnitude_vector.weight", "magnitude_vector")


def merged(settings: dict) -> dict[str, np.ndarray]:
    """The weights that the adapter changes, after PEFT has merged it, in float64."""
    base = tiny_weights(TINY)
    state = adapted(settings, torch.float64).merge_and_unload().state_dict()
    changed = {name: w.numpy() for name, w in state.items() if not np.array_equal(w, base[name])}
    if len(changed) != TINY["num_hidden_layers"] * len(settings["target_modules"]):
        raise ValueError(f"merged: unexpected weights changed: {sorted(changed)}")
    return changed


def saved(settings: dict) -> tuple[str, dict[str, np.ndarray]]:
    """The text of PEFT's `adapter_config.json`, and what its file of weights holds."""
    with tempfile.TemporaryDirectory() as folder:
        adapted(settings, torch.float32).save_pretrained(folder)
        arrays = load_file(Path(folder) / "adapter_model.safetensors")
        config = json.loads((Path(folder) / "adapter_config.json").read_text())
    config["target_modules"].sort()  # a set, in an order of its own
    return json.dumps(config, sort_keys=True), arrays


def variant(prefix: str, settings: dict) -> dict[str, np.ndarray]:
    """The arrays of one adapter."""
    single, double = results(settings, torch.float32), results(settings, torch.float64)
    deviation(prefix or "lora", single, double)
    text, adapter = saved(settings)
    arrays = {"config": np.array(json.dumps(settings)), "adapter_config": np.array(text)}
    arrays |= {f"adapter/{name}": w for name, w in sorted(adapter.items())}
    arrays |= {f"merged/{name}": w.astype(np.float32) for name, w in merged(settings).items()}
    arrays |= {"loss": np.float64(double.pop("loss")), "loss_float32": np.float32(single["loss"])}
    arrays |= {name: x.astype(np.float32) for name, x in double.items()}
    return {f"{prefix}{name}": x for name, x in arrays.items()}


class Masked(torch.nn.Module):
    """Dropout with a mask that is given."""

    def __init__(self, mask: torch.Tensor) -> None:
        super().__init__()
        self.mask = mask

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Multiply by the mask, which has the scale in it."""
        return x * self.mask


def dropped() -> dict[str, np.ndarray]:
    """One linear layer in training, with DoRA and without: where PEFT's dropout goes."""
    rng = np.random.default_rng(SEED + 1)
    x, weight = (rng.standard_normal(shape) for shape in ((5, 6), (3, 6)))
    mask = (rng.random((5, 6)) < 0.5) * 2.0
    torch.manual_seed(SEED)  # A starts at random
    arrays = {"x": x, "mask": mask, "weight": weight}
    for kind, dora in (("lora", False), ("dora", True)):
        model = torch.nn.Sequential(torch.nn.Linear(6, 3, bias=False)).double()
        with torch.no_grad():
            model[0].weight.copy_(torch.from_numpy(weight))
        config = peft.LoraConfig(r=2, lora_alpha=3, target_modules=["0"], lora_dropout=0.5)
        config.use_dora = dora
        model = peft.get_peft_model(model, config).double()
        layer = model.base_model.model[0]
        layer.lora_dropout["default"] = Masked(torch.from_numpy(mask))
        with torch.no_grad():
            for name, p in model.named_parameters():
                if p.requires_grad:
                    p += torch.from_numpy(rng.standard_normal(tuple(p.shape)))
                    arrays[f"{kind}/{in_file(name).split('.0.')[-1]}"] = p.detach().numpy().copy()
        arrays[f"{kind}/y"] = model.train()(torch.from_numpy(x)).detach().numpy()
    return {f"dropout/{name}": array.astype(np.float32) for name, array in arrays.items()}


def read(folder: Path) -> None:
    """PEFT reads an adapter that mfunc wrote, and computes the logits that mfunc computed."""
    base = build(TINY, tiny_weights(TINY), torch.float32)
    model = peft.PeftModel.from_pretrained(base, folder)
    logits, _ = forward(model, tiny_batches(TINY["vocab_size"])["plain"])
    worst = np.abs(logits.detach().numpy() - np.load(folder / "logits.npy")).max()
    print(f"{folder.name}: max |PEFT - mfunc| = {worst:.1e}")
    if worst > 5e-6:
        raise ValueError(f"read: {folder} computes other logits in PEFT")


def main() -> None:
    """Reads the arguments and writes the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    parser.add_argument("--read", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.read:
        read(args.read)
        return
    arrays: dict[str, np.ndarray] = {}
    for prefix, settings in VARIANTS.items():
        arrays |= variant(prefix, settings)
    np.savez(args.out / "lora.npz", **arrays, **dropped())


if __name__ == "__main__":
    main()
