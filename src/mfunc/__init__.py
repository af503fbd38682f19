"""mfunc: pure transforms for fine-tuning language models on MindSpore.

    import mfunc as mf
    import mfunc.data as md

The names below are resolved when they are first used, so that `import mfunc.data` costs no
MindSpore.
"""

from __future__ import annotations

import importlib
import os
from typing import Any

# MindSpore reads this when it is first imported. Its errors are raised; it need not print them too.
os.environ.setdefault("GLOG_v", "4")

_NAMES = {
    "Checkpointer": "checkpoint",
    "Dim": "dynamic",
    "Optimizer": "optim",
    "Pretrained": "auto",
    "Spec": "spec",
    "block": "depth",
    "custom_vjp": "custom",
    "evaluate": "train",
    "fit": "train",
    "from_pretrained": "auto",
    "generate": "generation",
    "grad": "gradient",
    "init": "spec",
    "jit": "transform",
    "jvp": "products",
    "load": "checkpoint",
    "ravel": "vector",
    "remat": "depth",
    "save": "checkpoint",
    "save_pretrained": "auto",
    "stop_gradient": "gradient",
    "stream": "generation",
    "train_step": "train",
    "unravel": "vector",
    "value_and_grad": "gradient",
    "vjp": "products",
    "vmap": "batching",
}
_MODULES = (
    "adapt", "auto", "batching", "checkpoint", "cli", "comparison", "cross_entropy", "custom",
    "data", "depth", "direct", "donation", "draw", "dynamic", "entry", "explain", "forms",
    "generation", "gguf_file", "gradient", "loss", "metrics", "nn", "optim", "products",
    "purity", "random", "recipe", "schedule", "spec", "staging", "train", "transform", "tree",
    "tree_forms", "vector",
)  # fmt: skip

__all__ = [*_NAMES, *_MODULES]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for."""
    if name in _NAMES:
        # All of them: in a compiled function `mf.grad` is looked up here and nothing is asked.
        for public, module in _NAMES.items():
            globals()[public] = getattr(importlib.import_module(f"mfunc.{module}"), public)
        return globals()[name]
    if name in _MODULES:
        return importlib.import_module(f"mfunc.{name}")
    raise AttributeError(f"module 'mfunc' has no attribute {name!r}")


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
