"""The same LoRA step in PyTorch, as one would write it: transformers, PEFT, torch.optim.AdamW.

Needs torch, transformers and peft, which the project does not list. On a machine that has other
work set OMP_WAIT_POLICY=PASSIVE before Python starts: waiting threads would spin.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from peers.weights import RMS_EPS, ROPE_THETA, adapter, tokens, weights
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

TARGETS = [f"{name}_proj" for name in ("q", "k", "v", "o", "gate", "up", "down")]


def make(
    size: dict[str, int], seed: int, *, rank: int = 8, full: bool = False, compiled: bool = False
) -> Callable[[], float]:
    """A step of training on fixed data; `compiled` uses torch.compile."""
    config = LlamaConfig(
        vocab_size=size["vocab"], hidden_size=size["hidden"],
        intermediate_size=size["intermediate"], num_hidden_layers=size["layers"],
        num_attention_heads=size["heads"], num_key_value_heads=size["kv_heads"],
        rms_norm_eps=RMS_EPS, rope_parameters={"rope_type": "default", "rope_theta": ROPE_THETA},
        tie_word_embeddings=bool(size.get("tied")), use_cache=False,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    state = {name: torch.from_numpy(array) for name, array in weights(size, seed).items()}
    if size.get("tied"):
        state["lm_head.weight"] = state["model.embed_tokens.weight"]
    model.load_state_dict(state)
    if not full:
        settings = LoraConfig(
            r=rank, lora_alpha=2 * rank, target_modules=TARGETS, lora_dropout=0.0
        )  # fmt: skip
        model = get_peft_model(model, settings)
        pairs = {
            f"base_model.model.{name}.default.weight": torch.from_numpy(array)
            for name, array in adapter(size, rank, seed).items()
        }
        unknown = model.load_state_dict(pairs, strict=False).unexpected_keys
        assert not unknown, unknown
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, 1e-3, weight_decay=0.0)
    ids = torch.from_numpy(tokens(size, seed)).long()
    run = torch.compile(model) if compiled else model

    def step() -> float:
        optimizer.zero_grad(set_to_none=True)
        loss = run(input_ids=ids, labels=ids).loss
        loss.backward()
        optimizer.step()
        return loss.item()

    return step
