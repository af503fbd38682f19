"""Writes llama_stories.npz, llama_tiny_untied.npz, llama_tiny_tied.npz and llama_rope.npz.

The reference is LlamaForCausalLM of Hugging Face transformers, on the CPU. README.md describes
every array. Needs: torch, transformers, sentencepiece, numpy (versions in README.md). Run:

    python make_llama.py --stories <folder of the stories260K checkpoint> --out <folder>

Without `--stories` the first file is left out. Each file is the same to the byte, run after run.
"""

from __future__ import annotations

import argparse
import json
from copy import deepcopy
from pathlib import Path
from types import MethodType

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812  (its usual name)
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.models.llama.modeling_llama import LlamaRMSNorm, LlamaRotaryEmbedding
from transformers.utils import logging

TINY = {
    "hidden_size": 32,
    "intermediate_size": 56,
    "max_position_embeddings": 128,
    "model_type": "llama",
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
    "vocab_size": 64,
}
# Wavelengths 6, 63, 628 and 6283 positions: one kept, one interpolated, two divided by the factor.
LLAMA3_ROPE = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
PROMPTS = ("Once upon a time", "The little dog ran to the big tree and said")
SEED = 20


def tiny_weights(config: dict) -> dict[str, np.ndarray]:
    """Random float32 weights in Hugging Face names; tied and untied share all but `lm_head`."""
    rng = np.random.default_rng(SEED)
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    kv = hidden // config["num_attention_heads"] * config["num_key_value_heads"]
    shapes = {"model.embed_tokens.weight": (config["vocab_size"], hidden)}
    for i in range(config["num_hidden_layers"]):
        layer = f"model.layers.{i}"
        shapes |= {
            f"{layer}.self_attn.q_proj.weight": (hidden, hidden),
            f"{layer}.self_attn.k_proj.weight": (kv, hidden),
            f"{layer}.self_attn.v_proj.weight": (kv, hidden),
            f"{layer}.self_attn.o_proj.weight": (hidden, hidden),
            f"{layer}.mlp.gate_proj.weight": (inner, hidden),
            f"{layer}.mlp.up_proj.weight": (inner, hidden),
            f"{layer}.mlp.down_proj.weight": (hidden, inner),
            f"{layer}.input_layernorm.weight": (hidden,),
            f"{layer}.post_attention_layernorm.weight": (hidden,),
        }
    shapes["model.norm.weight"] = (hidden,)
    if not config["tie_word_embeddings"]:
        shapes["lm_head.weight"] = (config["vocab_size"], hidden)
    noise = {name: 0.1 * rng.standard_normal(shape) for name, shape in shapes.items()}
    return {n: (x + ("norm" in n)).astype(np.float32) for n, x in noise.items()}


def tiny_batches(vocab: int) -> dict[str, dict[str, np.ndarray]]:
    """`plain`: two rows of one document. `packed`: segments of 5, 4, 3 and of 6, 4 with padding."""
    rng = np.random.default_rng(SEED + 1)
    input_ids = rng.integers(0, vocab, (2, 12))
    labels = input_ids.copy()
    labels[0, :4] = labels[1, 9:] = -100
    plain = {"input_ids": input_ids, "labels": labels}

    segment_ids = np.array([[1] * 5 + [2] * 4 + [3] * 3, [1] * 6 + [2] * 4 + [0] * 2])
    position_ids = np.array([[*range(5), *range(4), *range(3)], [*range(6), *range(4), 0, 0]])
    input_ids = np.where(segment_ids > 0, rng.integers(1, vocab, (2, 12)), 0)
    labels = np.where((segment_ids > 0) & (position_ids > 0), input_ids, -100)
    packed = {
        "input_ids": input_ids,
        "labels": labels,
        "segment_ids": segment_ids,
        "position_ids": position_ids,
    }
    return {
        name: {key: x.astype(np.int32) for key, x in batch.items()}
        for name, batch in (("plain", plain), ("packed", packed))
    }


def build(config: dict, weights: dict[str, np.ndarray], dtype: torch.dtype) -> LlamaForCausalLM:
    """transformers' model with these weights; in float64 it is exact in every part."""
    own = deepcopy(config)  # transformers writes into the nested settings
    model = LlamaForCausalLM(LlamaConfig(**own, attn_implementation="sdpa"))
    state = {name: torch.from_numpy(w) for name, w in weights.items()}
    missing, unexpected = model.load_state_dict(state, strict=False)
    tied = ["lm_head.weight"] if config["tie_word_embeddings"] else []
    if unexpected or set(missing) - set(tied):
        raise ValueError(f"build: missing {missing}, unexpected {unexpected}")
    return exact(model) if dtype == torch.float64 else model


def exact(model: LlamaForCausalLM) -> LlamaForCausalLM:
    """The model in float64, without the casts to float32 inside its norms and its rotary tables."""

    def norm(self: LlamaRMSNorm, x: torch.Tensor) -> torch.Tensor:
        variance = x.pow(2).mean(-1, keepdim=True)
        return self.weight * x * torch.rsqrt(variance + self.variance_epsilon)

    def rotary(self: LlamaRotaryEmbedding, x: torch.Tensor, position_ids: torch.Tensor) -> tuple:
        freqs = position_ids[..., None].double() * self.inv_freq
        angles = torch.cat((freqs, freqs), dim=-1)
        return angles.cos() * self.attention_scaling, angles.sin() * self.attention_scaling

    for module in model.double().modules():
        if isinstance(module, LlamaRMSNorm):
            module.forward = MethodType(norm, module)
        elif isinstance(module, LlamaRotaryEmbedding):
            module.forward = MethodType(rotary, module)
    return model


def segment_attention(segment_ids: np.ndarray) -> torch.Tensor:
    """Block-diagonal causal mask [B, 1, S, S]; True may be attended to."""
    same = segment_ids[:, :, None] == segment_ids[:, None, :]
    causal = np.tril(np.ones(same.shape[1:], dtype=bool))
    return torch.from_numpy(same & causal)[:, None]


def forward(model: LlamaForCausalLM, batch: dict[str, np.ndarray]) -> tuple:
    """Logits and the mean of the next-token cross-entropy over the labels that are not -100."""
    inputs = {"input_ids": torch.from_numpy(batch["input_ids"]).long()}
    if "segment_ids" in batch:
        inputs["attention_mask"] = segment_attention(batch["segment_ids"])
    if "position_ids" in batch:
        inputs["position_ids"] = torch.from_numpy(batch["position_ids"]).long()
    labels = torch.from_numpy(batch["labels"]).long()
    out = model(**inputs, labels=labels)
    # Their own loss casts the logits to float32, so it cannot be the exact one.
    vocab = out.logits.shape[-1]
    loss = F.cross_entropy(out.logits[:, :-1].reshape(-1, vocab), labels[:, 1:].reshape(-1))
    torch.testing.assert_close(loss.float(), out.loss.float(), rtol=1e-6, atol=1e-6)
    return out.logits, loss if loss.dtype == torch.float64 else out.loss


def loss_and_gradients(model: LlamaForCausalLM, batch: dict[str, np.ndarray]) -> dict:
    """`logits`, `loss` and `grad/<name>` of every parameter that is trained, as float64 arrays."""
    model.zero_grad()
    logits, loss = forward(model, batch)
    loss.backward()
    grads = {
        f"grad/{name}": p.grad.double().numpy().copy()
        for name, p in model.named_parameters()
        if p.requires_grad
    }
    return {"logits": logits.detach().double().numpy(), "loss": loss.double().item()} | grads


def deviation(name: str, single: dict, double: dict) -> None:
    """Prints the largest difference that float32 makes to each kind of array."""
    for kind, prefix in (("loss", "loss"), ("logits", "logits"), ("gradients", "grad/")):
        keys = [key for key in double if key.startswith(prefix)]
        if keys:
            worst = max(np.abs(single[key] - double[key]).max() for key in keys)
            size = max(np.abs(double[key]).max() for key in keys)
            print(f"{name}: {kind} max |float32 - float64| = {worst:.1e}, largest value {size:.3g}")


def tiny(config: dict) -> dict[str, np.ndarray]:
    """The arrays of one tiny model, tied or untied."""
    weights = tiny_weights(config)
    models = [build(config, weights, dtype) for dtype in (torch.float32, torch.float64)]
    arrays = {"config": np.array(json.dumps(config))}
    arrays |= {f"weights/{name}": w for name, w in weights.items()}
    for name, batch in tiny_batches(config["vocab_size"]).items():
        single, double = (loss_and_gradients(model, batch) for model in models)
        deviation(f"tied={config['tie_word_embeddings']} {name}", single, double)
        if name == "packed":
            check_packing(models[1], batch, double["logits"])
        arrays |= {f"{name}/{key}": x for key, x in batch.items()}
        arrays[f"{name}/loss"] = np.float64(double["loss"])
        arrays[f"{name}/loss_float32"] = np.float32(single["loss"])
        kept = {key: x for key, x in double.items() if key != "loss"}
        arrays |= {f"{name}/{key}": x.astype(np.float32) for key, x in kept.items()}
    check_gradient(models[1], tiny_batches(config["vocab_size"])["packed"])
    return arrays


def check_packing(model: LlamaForCausalLM, batch: dict, logits: np.ndarray) -> None:
    """Each segment alone has the logits that it has in its row: the mask is what we think."""
    for row, segment_ids in enumerate(batch["segment_ids"]):
        for segment in range(1, segment_ids.max() + 1):
            (where,) = np.nonzero(segment_ids == segment)
            alone = model(torch.from_numpy(batch["input_ids"][None, row, where]).long()).logits
            np.testing.assert_allclose(
                alone[0].detach().numpy(), logits[row, where], rtol=0, atol=1e-12
            )


def check_gradient(model: LlamaForCausalLM, batch: dict) -> None:
    """A central difference agrees with the gradient far below float32: the model is exact."""
    weight = model.model.layers[0].self_attn.k_proj.weight
    gradient = loss_and_gradients(model, batch)["grad/model.layers.0.self_attn.k_proj.weight"]
    losses = []
    with torch.no_grad():
        for step in (1e-5, -2e-5):
            weight[3, 7] += step
            losses.append(forward(model, batch)[1].item())
        weight[3, 7] += 1e-5
    np.testing.assert_allclose((losses[0] - losses[1]) / 2e-5, gradient[3, 7], rtol=0, atol=1e-9)


def rope() -> dict[str, np.ndarray]:
    """Logits of the untied tiny model under llama3's rotary scaling, at near and far positions."""
    config = TINY | {"rope_scaling": LLAMA3_ROPE}
    batch = dict(tiny_batches(config["vocab_size"])["plain"])
    batch["position_ids"] = np.stack([np.arange(12), 9 * np.arange(12)]).astype(np.int32)
    weights = tiny_weights(config)
    models = [build(config, weights, dtype) for dtype in (torch.float32, torch.float64)]
    single, double = (forward(model, batch)[0].detach().double().numpy() for model in models)
    deviation("llama3 rope", {"logits": single}, {"logits": double})
    return {
        "config": np.array(json.dumps(config)),
        "input_ids": batch["input_ids"],
        "position_ids": batch["position_ids"],
        "inv_freq": models[0].model.rotary_emb.inv_freq.numpy(),
        "logits": double.astype(np.float32),
    }


def stories(folder: Path) -> dict[str, np.ndarray]:
    """Logits of two prompts and the greedy continuation of the first, by the trained checkpoint."""
    import sentencepiece

    tokenizer = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    models = [LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32) for _ in range(2)]
    models[1] = exact(models[1])
    arrays = {}
    for i, prompt in enumerate(PROMPTS):
        ids = np.array([tokenizer.encode(prompt, add_bos=True)], dtype=np.int32)
        with torch.no_grad():
            single, double = (
                m(torch.from_numpy(ids).long()).logits.double().numpy() for m in models
            )
        deviation(f"stories260K prompt {i}", {"logits": single}, {"logits": double})
        arrays |= {
            f"prompt{i}/input_ids": ids[0],
            f"prompt{i}/logits": single[0].astype(np.float32),
            f"prompt{i}/logits_exact": double[0].astype(np.float32),
        }
    arrays["greedy"], margin = greedy(models[0], arrays["prompt0/input_ids"], 60)
    if not np.array_equal(arrays["greedy"], greedy(models[1], arrays["prompt0/input_ids"], 60)[0]):
        raise ValueError("stories: float32 and float64 continue differently; choose another prompt")
    print(f"stories260K greedy: smallest lead of the chosen logit over the next {margin:.1e}")
    return arrays


def greedy(model: LlamaForCausalLM, prompt: np.ndarray, steps: int) -> tuple[np.ndarray, float]:
    """The `steps` ids after the prompt, and the smallest lead of a chosen logit over the next."""
    ids = torch.from_numpy(prompt).long()[None]
    out = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        do_sample=False,
        max_new_tokens=steps,
        min_new_tokens=steps,
        output_logits=True,
        return_dict_in_generate=True,
    )
    best = torch.stack([x[0].topk(2).values for x in out.logits])
    chosen = torch.stack([x[0].argmax() for x in out.logits])
    new = out.sequences[0, ids.shape[1] :]
    if not torch.equal(new, chosen):
        raise ValueError("greedy: an end-of-sequence id was suppressed; ask for fewer steps")
    return new.numpy().astype(np.int32), (best[:, 0] - best[:, 1]).min().item()


def main() -> None:
    """Reads the arguments and writes the files."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stories", type=Path, help="folder of the stories260K checkpoint")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    args = parser.parse_args()
    torch.set_num_threads(1)
    logging.disable_progress_bar()
    files = {
        "llama_tiny_untied": tiny(TINY),
        "llama_tiny_tied": tiny(TINY | {"tie_word_embeddings": True}),
        "llama_rope": rope(),
    }
    if args.stories:
        files["llama_stories"] = stories(args.stories)
    for name, arrays in files.items():
        np.savez(args.out / f"{name}.npz", **arrays)


if __name__ == "__main__":
    main()
