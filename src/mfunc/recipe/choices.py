"""What a recipe may call by name: adapters, optimizers, schedules, with defaults of ours."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

from mfunc import optim, schedule
from mfunc.adapt import adapter, bitfit, lora, prefix, ptuning

Choice = tuple["Callable[..., Any] | None", Mapping[str, Any]]

ADAPTERS: Mapping[str, ModuleType | None] = {
    "none": None, "lora": lora, "prefix": prefix, "ptuning": ptuning, "adapter": adapter,
    "bitfit": bitfit,
}  # fmt: skip
_DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "lora": {"rank": 8, "alpha": 16.0, "targets": ("*/q", "*/k", "*/v", "*/o")},
    "prefix": {"num_virtual_tokens": 16},
}
_RATE = {"learning_rate": 1e-4}

# Section -> name -> the function, and what it is called with if the recipe says nothing.
CHOICES: Mapping[str, Mapping[str, Choice]] = {
    "adapter": {
        name: (getattr(module, "Config", None), _DEFAULTS.get(name, {}))
        for name, module in ADAPTERS.items()
    },
    "optimizer": {
        "adamw": (optim.adamw, _RATE),
        "adam": (optim.adam, _RATE),
        "sgd": (optim.sgd, _RATE),
        "lion": (optim.lion, _RATE),
        "lamb": (optim.lamb, _RATE),
        "adafactor": (optim.adafactor, _RATE),
        "muon": (optim.muon, _RATE),
    },
    "schedule": {
        "cosine": (schedule.cosine, {}),
        "constant": (schedule.constant, {}),
        "linear": (schedule.linear, {}),
        "polynomial": (schedule.polynomial, {"power": 1.0}),
        "cosine_with_restarts": (schedule.cosine_with_restarts, {"cycles": 1}),
        "inverse_sqrt": (schedule.inverse_sqrt, {}),
        "wsd": (schedule.wsd, {}),
    },
}
