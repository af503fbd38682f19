"""LoRA in the files of PEFT: `adapter_config.json` and `adapter_model.safetensors` in a folder.

    layers/0/q  a [in, r]   base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight [r, in]
                b [r, out]                                                  .lora_B.weight [out, r]
                magnitude [out]                                             .lora_magnitude_vector

The names come from the family's map, `nn.names.llama.names(config)`. What PEFT can say and this
library does not compute is refused by the name of its setting.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mfunc import checkpoint, tree
from mfunc.adapt import lora
from mfunc.tree import Tree

Names = Mapping[str, tuple[str, bool]]

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "base_model.model."
PARTS = {"a": ("lora_A.weight", True), "b": ("lora_B.weight", True),
         "magnitude": ("lora_magnitude_vector", False)}  # fmt: skip

# Ours -> theirs.
SETTINGS = {"rank": "r", "alpha": "lora_alpha", "dropout": "lora_dropout",
            "use_rslora": "use_rslora", "use_dora": "use_dora"}  # fmt: skip
# Settings with what they must be.
FIXED = {"peft_type": "LORA", "bias": "none", "fan_in_fan_out": False}
# How A and B started does not matter, but for those starts that change W as well.
STARTS = (True, False, "gaussian", "orthogonal")
# Keys that say nothing about what is computed, or only beside others that are refused.
UNUSED = frozenset((
    "auto_mapping", "base_model_name_or_path", "inference_mode", "megatron_core", "peft_version",
    "qalora_group_size", "revision", "runtime_config", "task_type",
))  # fmt: skip


def save(
    folder: str | os.PathLike[str],
    adapter: Tree,
    config: lora.Config,
    names: Names,
    *,
    base_model: str | None = None,
) -> None:
    """Write an adapter so that PEFT reads it: `PeftModel.from_pretrained(model, folder)`.

    Args:
      folder: made when it is missing; each of the two files is whole or absent.
      adapter: from `lora.init`, trained.
      config: the settings it was made with.
      names: our path -> (name in Hugging Face, transposed), `nn.names.llama.names(model_config)`.
      base_model: the folder or name of the model, which PEFT notes.

    Raises:
      ValueError: an adapted weight is no linear layer there, or the adapter is not what the config
        says.

    Laws:
      `load` gives back the same adapter to the bit, and a config that computes the same.

    Source:
      PEFT 0.21, `LoraConfig` and `get_peft_model_state_dict`.
    """
    modules, kinds = _modules(names), _kinds(config)
    paths = _checked(adapter, config, modules)
    arrays = checkpoint.to_names(adapter, _tensors(paths, modules, kinds))
    settings: dict[str, Any] = {theirs: getattr(config, ours) for ours, theirs in SETTINGS.items()}
    settings |= FIXED | {
        "base_model_name_or_path": base_model,
        "inference_mode": True,
        "init_lora_weights": True,
        "target_modules": _grouped({modules[path] for path in paths}, set(modules.values()), _last),
        "task_type": "CAUSAL_LM",
    }
    text = json.dumps(settings, indent=2, sort_keys=True) + "\n"
    checkpoint.write_arrays(Path(folder) / WEIGHTS, arrays, {"format": "pt"})
    checkpoint.write_whole(Path(folder) / CONFIG, text.encode())


def _checked(adapter: Tree, config: lora.Config, modules: dict[str, str]) -> list[str]:
    """Return the paths of the adapted weights, if the parts belong together."""
    leaves = dict(zip(tree.paths(adapter), tree.leaves(adapter), strict=True))
    paths = sorted({path.rpartition("/")[0] for path in leaves})
    wanted = {f"{path}/{kind}" for path in paths for kind in _kinds(config)}
    for odd in sorted(wanted ^ leaves.keys()):
        place = "missing in" if odd in wanted else "in"
        raise ValueError(f"peft.save: use_dora={config.use_dora}, but {odd} is {place} the adapter")
    for path in paths:
        rank = leaves[f"{path}/a"].shape[1]
        if rank != config.rank:
            raise ValueError(f"peft.save: rank={config.rank}, but {path}/a has rank {rank}")
        if path not in modules:
            raise ValueError(
                f"peft.save: {path} is no linear layer in Hugging Face's names; those are "
                f"{', '.join(sorted({_general(known) for known in modules}))}"
            )
    return paths


def _kinds(config: lora.Config) -> tuple[str, ...]:
    return ("a", "b", "magnitude") if config.use_dora else ("a", "b")


def load(folder: str | os.PathLike[str], params: Tree, names: Names) -> tuple[Tree, lora.Config]:
    """Read an adapter that PEFT or `save` wrote.

    Args:
      folder: holds `adapter_config.json` and `adapter_model.safetensors`.
      params: the weights of the model, or its specs.
      names: our path -> (name in Hugging Face, transposed), `nn.names.llama.names(model_config)`.

    Returns:
      The adapter in float32, and its config; its targets are written as `layers/*/q` where a weight
      is adapted in every layer.

    Raises:
      FileNotFoundError: the folder or one of its files is missing.
      ValueError: a setting asks for what is not computed here, or is unknown and not neutral
        (`null`, `false`, empty); tensors are missing, unexpected or misshapen. Each is named.
    """
    root = Path(folder)
    settings = _settings(root / CONFIG)
    if not (root / WEIGHTS).is_file() and (root / "adapter_model.bin").is_file():
        raise FileNotFoundError(
            f"{root}: adapter_model.bin is a pickle, which is not read; save it with PEFT as "
            f"{WEIGHTS} (safe_serialization=True)"
        )
    arrays = checkpoint.read_arrays(root / WEIGHTS)
    modules = _modules(names)
    found = _targeted(settings["target_modules"], set(modules.values()), root / CONFIG)
    adapted = [path for path in sorted(modules) if modules[path] in found]
    config = _config(settings, tuple(_grouped(set(adapted), set(names), _general)), root / CONFIG)
    specs = lora.specs(params, config)
    tensors = _tensors(adapted, modules, _kinds(config))
    if tensors.keys() != set(tree.paths(specs)):
        odd = sorted(tensors.keys() ^ set(tree.paths(specs)))
        raise ValueError(f"{root}: names and params are of two models; only one has {odd[0]}")
    return checkpoint.from_names(arrays, tensors, specs, str(root / WEIGHTS)), config


def _config(settings: dict[str, Any], targets: tuple[str, ...], where: Path) -> lora.Config:
    given = {ours: settings[key] for ours, key in SETTINGS.items() if settings.get(key) is not None}
    try:
        return lora.Config(**given, targets=targets)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where}: {error.args[0]}") from error


def _modules(names: Names) -> dict[str, str]:
    """Return path -> name of the module, for linear layers, whose weights are [out, in] there."""
    return {path: name.removesuffix(".weight") for path, (name, turned) in names.items() if turned}


def _tensors(paths: list[str], modules: dict[str, str], kinds: tuple[str, ...]) -> Names:
    """Return path in the adapter -> (name of the tensor in the file, transposed)."""
    return {
        f"{path}/{kind}": (f"{PREFIX}{modules[path]}.{PARTS[kind][0]}", PARTS[kind][1])
        for path in paths
        for kind in kinds
    }


def _last(module: str) -> str:
    """'model.layers.0.self_attn.q_proj' -> 'q_proj', which PEFT takes for every such module."""
    return module.rpartition(".")[2]


def _general(path: str) -> str:
    """'layers/0/q' -> 'layers/*/q'."""
    return re.sub(r"(?<=/)\d+(?=/)", "*", path)


def _grouped(chosen: set[str], every: set[str], general: Any) -> list[str]:
    """Name a set by general names where all that bear one are in it, and one by one elsewhere."""
    partly = {general(name) for name in every - chosen}
    return sorted({name if general(name) in partly else general(name) for name in chosen})


def _targeted(targets: Any, modules: set[str], where: Path) -> set[str]:
    """Return the modules that `target_modules` names: a regular expression, or ends of names."""
    if isinstance(targets, str):
        found = {module for module in modules if re.fullmatch(targets, module)}
    else:
        found = {m for m in modules for end in targets if f".{m}".endswith(f".{end}")}
    if not found:
        raise ValueError(
            f"{where}: target_modules={targets!r} names nothing in this model; its linear layers "
            f"are {', '.join(sorted({_last(module) for module in modules}))}"
        )
    return found


def _settings(path: Path) -> dict[str, Any]:
    """Read `adapter_config.json` and refuse what this library does not compute."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; a folder of PEFT has one")
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: not JSON ({error})") from error
    if not isinstance(settings, dict):
        raise ValueError(f"{path}: holds a {type(settings).__name__}, not an object")
    for key in ("peft_type", "r", "lora_alpha", "target_modules"):
        if settings.get(key) is None:
            raise ValueError(f"{path}: {key} is missing")
    for key, only in FIXED.items():
        if settings.get(key, only) != only:
            raise ValueError(f"{path}: {key}={settings[key]!r}; only {only!r} is computed here")
    start = settings.get("init_lora_weights", True)
    if start not in STARTS:
        raise ValueError(
            f"{path}: init_lora_weights={start!r} changes the weights of the model too; save it "
            "with PEFT as a plain LoRA (path_initial_model_for_weight_conversion)"
        )
    known = {*SETTINGS.values(), *FIXED, *UNUSED, "init_lora_weights", "target_modules"}
    for key in sorted(settings.keys() - known):
        if settings[key] not in (None, False, "", [], {}):
            raise ValueError(
                f"{path}: {key}={settings[key]!r} is not computed here; only its neutral value "
                "(null, false or empty) is read"
            )
    return settings
