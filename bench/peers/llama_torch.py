"""A LLaMA in PyTorch, as one would write it: modules, the fused attention, eager or compiled.

Needs torch, which the project does not list. On a machine that has other work, set
OMP_WAIT_POLICY=PASSIVE before Python starts: waiting threads would spin, and slow a step 8 times.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F  # noqa: N812  (its usual name)
from peers.weights import RMS_EPS, rotary, tokens, weights
from torch import Tensor, nn


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary embedding of x [B, H, S, D] by tables [S, D]."""
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-second, first), dim=-1) * sin


class Attention(nn.Module):
    """Causal attention with grouped key/value heads."""

    def __init__(self, size: dict[str, int]) -> None:
        """Makes the four projections."""
        super().__init__()
        hidden, self.dim = size["hidden"], size["hidden"] // size["heads"]
        kv = self.dim * size["kv_heads"]
        self.grouped = size["kv_heads"] != size["heads"]
        self.q_proj = nn.Linear(hidden, hidden, bias=False)
        self.k_proj = nn.Linear(hidden, kv, bias=False)
        self.v_proj = nn.Linear(hidden, kv, bias=False)
        self.o_proj = nn.Linear(hidden, hidden, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """From [B, S, hidden] to the same."""
        projections = (self.q_proj, self.k_proj, self.v_proj)
        q, k, v = (p(x).unflatten(-1, (-1, self.dim)).transpose(1, 2) for p in projections)
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        attended = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=self.grouped)
        return self.o_proj(attended.transpose(1, 2).flatten(-2))


class MLP(nn.Module):
    """SwiGLU."""

    def __init__(self, size: dict[str, int]) -> None:
        """Makes the three projections."""
        super().__init__()
        self.gate_proj = nn.Linear(size["hidden"], size["intermediate"], bias=False)
        self.up_proj = nn.Linear(size["hidden"], size["intermediate"], bias=False)
        self.down_proj = nn.Linear(size["intermediate"], size["hidden"], bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """From [B, S, hidden] to the same."""
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Block(nn.Module):
    """One transformer layer."""

    def __init__(self, size: dict[str, int]) -> None:
        """Makes the parts."""
        super().__init__()
        self.input_layernorm = nn.RMSNorm(size["hidden"], RMS_EPS)
        self.self_attn = Attention(size)
        self.post_attention_layernorm = nn.RMSNorm(size["hidden"], RMS_EPS)
        self.mlp = MLP(size)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """From [B, S, hidden] to the same."""
        x = x + self.self_attn(self.input_layernorm(x), cos, sin)
        return x + self.mlp(self.post_attention_layernorm(x))


class Llama(nn.Module):
    """From ids [B, S] to the mean cross-entropy of each next id."""

    def __init__(self, size: dict[str, int]) -> None:
        """Makes the parts, under Hugging Face names."""
        super().__init__()
        self.model = nn.Module()
        self.model.embed_tokens = nn.Embedding(size["vocab"], size["hidden"])
        self.model.layers = nn.ModuleList(Block(size) for _ in range(size["layers"]))
        self.model.norm = nn.RMSNorm(size["hidden"], RMS_EPS)
        self.lm_head = nn.Linear(size["hidden"], size["vocab"], bias=False)
        for name, table in zip(("cos", "sin"), rotary(size), strict=True):
            self.register_buffer(name, torch.from_numpy(table), persistent=False)

    def forward(self, ids: Tensor) -> Tensor:
        """The loss."""
        x = self.model.embed_tokens(ids)
        for layer in self.model.layers:
            x = layer(x, self.cos, self.sin)
        logits = self.lm_head(self.model.norm(x))
        return F.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())


def make(size: dict[str, int], seed: int, *, compiled: bool = False) -> Callable[[], float]:
    """A step: one loss and gradient on fixed data; `compiled` uses torch.compile."""
    model = Llama(size)
    model.load_state_dict({n: torch.from_numpy(w) for n, w in weights(size, seed).items()})
    ids = torch.from_numpy(tokens(size, seed)).long()
    loss_of = torch.compile(model) if compiled else model

    def step() -> float:
        model.zero_grad(set_to_none=True)
        loss = loss_of(ids)
        loss.backward()
        return loss.item()

    return step
