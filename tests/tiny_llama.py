"""The tiny LLaMA of the golden files: its config, its weights in our tree, and its numbers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mfunc import checkpoint
from mfunc.nn import llama
from mfunc.nn.names import llama as names

GOLDEN = Path(__file__).parent / "golden"


class Tiny(NamedTuple):
    config: llama.Config
    params: Any
    numbers: dict[str, np.ndarray]


def tiny_llama(name: str = "llama_tiny_untied") -> Tiny:
    """Hidden 32, 2 layers, 4 heads on 2 key/value heads, vocabulary 64."""
    with np.load(GOLDEN / f"{name}.npz") as file:
        numbers = {key: file[key] for key in file.files}
    config = names.from_hf(json.loads(str(numbers["config"])))
    weights = {
        key.removeprefix("weights/"): array
        for key, array in numbers.items()
        if key.startswith("weights/")
    }
    params = checkpoint.from_names(weights, names.names(config), llama.specs(config), name)
    return Tiny(config, params, numbers)
