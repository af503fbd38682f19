"""Pretrained models: a folder in Hugging Face's layout <-> model, config, params, tokenizer.

config.json
model.safetensors, or shards with model.safetensors.index.json
tokenizer.model or tokenizer.json

A GGUF file is read too: all of these in one.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from mfunc import checkpoint, gguf_file
from mfunc.data import gguf_tokenizer, load_tokenizer
from mfunc.nn import llama
from mfunc.nn.names import llama as llama_names
from mfunc.nn.names import llama_gguf
from mfunc.tree import Tree

# model_type of config.json -> the family and its names.
TOKENIZERS = ("tokenizer.model", "tokenizer.json")
FAMILIES: dict[str, tuple[ModuleType, ModuleType]] = {"llama": (llama, llama_names)}
# general.architecture of a GGUF file -> the same.
ARCHITECTURES: dict[str, tuple[ModuleType, ModuleType]] = {"llama": (llama, llama_gguf)}


class Pretrained(NamedTuple):
    """What a folder holds: `model, config, params, tokenizer = from_pretrained(folder)`.

    Attributes:
      model: the family, a module with `apply`, `decode` and so on (`mfunc.nn.llama`).
      config: its sizes.
      params: its parameters.
      tokenizer: has `encode` and `decode`; `None` if the folder has none.
    """

    model: ModuleType
    config: Any
    params: Tree
    tokenizer: Any = None


def from_pretrained(folder: str | os.PathLike[str]) -> Pretrained:
    """Read a model in Hugging Face's layout, or from a GGUF file.

    Args:
      folder: holds `config.json`, the weights as safetensors, and usually a tokenizer. Or a file
        `*.gguf`, which needs the extras `gguf` and `hf`.

    Returns:
      Model, config, params and tokenizer; bfloat16, float16 and quantised weights come as float32.

    Raises:
      ImportError: an extra is missing.
      FileNotFoundError: the folder, its config or its weights are missing.
      ValueError: the family or a key of the config is unknown; tensors are missing, unexpected or
        misshapen; the tokenizer is of an unknown kind, or has more tokens than the model.

    Laws:
      What a GGUF file gives, saved by `save_pretrained`, is read back to the bit.
    """
    root = Path(folder)
    if root.suffix == ".gguf":
        return _from_gguf(root)
    settings = _settings(root / "config.json")
    model, names = _family(settings, root)
    config = names.from_hf(settings, str(root / "config.json"))
    arrays = _weights(root)
    if config.tie_word_embeddings:
        # Some writers store the tied head as well.
        arrays.pop("lm_head.weight", None)
    params = checkpoint.from_names(arrays, names.names(config), model.specs(config), str(root))
    tokenizer = _tokenizer(root)
    check_vocabulary(tokenizer, config, str(root))
    return Pretrained(model, config, params, tokenizer)


def _from_gguf(path: Path) -> Pretrained:
    """Read all of a model from one file."""
    found = gguf_file.read_gguf(path)
    _check_general(found.metadata, path)
    model, names = ARCHITECTURES[found.metadata["general.architecture"]]
    arrays = {
        name: gguf_file.numbers(blocks, f"{path}: {name}") for name, blocks in found.arrays.items()
    }
    config = names.from_gguf(found.metadata, arrays, str(path))
    params = checkpoint.from_names(
        names.to_halves(arrays, config), names.names(config), model.specs(config), str(path)
    )
    tokenizer = gguf_tokenizer(found.metadata, str(path))
    check_vocabulary(tokenizer, config, str(path))
    return Pretrained(model, config, params, tokenizer)


def _check_general(metadata: dict[str, Any], path: Path) -> None:
    """Refuse other architectures, and files that are not a whole model."""
    kind = metadata.get("general.architecture")
    if kind not in ARCHITECTURES:
        raise ValueError(
            f"{path}: general.architecture is {kind!r}; known are {', '.join(ARCHITECTURES)}"
        )
    if metadata.get("general.type", "model") != "model":
        raise ValueError(f"{path}: holds a {metadata['general.type']!r}, not a 'model'")
    if metadata.get("split.count", 1) != 1:
        raise ValueError(
            f"{path}: is one of {metadata['split.count']} parts; join them with llama.cpp's "
            "llama-gguf-split --merge"
        )


def check_vocabulary(tokenizer: Any, config: Any, where: str) -> None:
    """Refuse a tokenizer that makes ids which the model has not.

    Raises:
      ValueError: naming both sizes.
    """
    size = getattr(tokenizer, "vocab_size", None)
    if size is not None and size > config.vocab_size:
        raise ValueError(
            f"{where}: the tokenizer has {size} tokens but the model "
            f"vocab_size={config.vocab_size}; use the tokenizer that the model was trained with"
        )


def _settings(path: Path) -> dict[str, Any]:
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path.parent}: no such folder")
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; a model folder has a config.json")
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: not JSON ({error})") from error
    if not isinstance(settings, dict):
        raise ValueError(f"{path}: holds a {type(settings).__name__}, not an object")
    return settings


def _family(settings: dict[str, Any], root: Path) -> tuple[ModuleType, ModuleType]:
    kind = settings.get("model_type")
    if kind not in FAMILIES:
        raise ValueError(
            f"{root}/config.json: model_type is {kind!r}; known are {', '.join(FAMILIES)}"
        )
    return FAMILIES[kind]


def _weights(root: Path) -> dict[str, Any]:
    """Read the one file, or else all shards that the index names."""
    index = root / "model.safetensors.index.json"
    if (root / "model.safetensors").is_file() or not index.is_file():
        return checkpoint.read_arrays(root / "model.safetensors")
    files = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    arrays: dict[str, Any] = {}
    for file in files:
        arrays |= checkpoint.read_arrays(root / file)
    return arrays


def _tokenizer(root: Path) -> Any:
    """The folder's tokenizer, with the special tokens that its configuration names; or nothing."""
    return load_tokenizer(root) if any((root / name).is_file() for name in TOKENIZERS) else None


def save_pretrained(folder: str | os.PathLike[str], pretrained: Pretrained) -> None:
    """Write a model in Hugging Face's layout; other programs can read it.

    Args:
      folder: made when it is missing; each file is whole or absent.
      pretrained: the model, its config, parameters and tokenizer.

    Laws:
      `from_pretrained(folder)` gives back the same config and the same parameters to the bit.
    """
    root = Path(folder)
    names = _names(pretrained.model)
    arrays = checkpoint.to_names(pretrained.params, names.names(pretrained.config))
    checkpoint.write_arrays(root / "model.safetensors", arrays, {"format": "pt"})
    settings = names.to_hf(pretrained.config)
    text = json.dumps(settings, indent=2, sort_keys=True) + "\n"
    checkpoint.write_whole(root / "config.json", text.encode())
    if pretrained.tokenizer is not None:
        _save_tokenizer(root, pretrained.tokenizer)


def _save_tokenizer(root: Path, tokenizer: Any) -> None:
    """Write a tokenizer's file, and beside it what that does not say."""
    name = "tokenizer.model" if hasattr(tokenizer, "model") else "tokenizer.json"
    content = tokenizer.model if hasattr(tokenizer, "model") else tokenizer.content
    checkpoint.write_whole(root / name, content)
    said = {f"{role}_token": token for role, token in tokenizer.roles.items()}
    template = getattr(tokenizer, "chat_template", None)
    if template is not None:
        said["chat_template"] = template
        (root / "chat_template.jinja").unlink(missing_ok=True)  # which would be read instead
    text = json.dumps(said, indent=2, ensure_ascii=False) + "\n"
    checkpoint.write_whole(root / "tokenizer_config.json", text.encode())
    for other in {*TOKENIZERS} - {name}:  # of a model that was saved here before
        (root / other).unlink(missing_ok=True)


def names_of(pretrained: Pretrained) -> dict[str, tuple[str, bool]]:
    """Return our paths -> (name in Hugging Face's files, transposed), as `adapt.peft` takes them.

    Raises:
      ValueError: the family has no names of Hugging Face.
    """
    return _names(pretrained.model).names(pretrained.config)


def _names(model: ModuleType) -> ModuleType:
    for family, names in FAMILIES.values():
        if family is model:
            return names
    raise ValueError(
        f"save_pretrained: {getattr(model, '__name__', model)!r} is no family with names of "
        f"Hugging Face; known are {', '.join(FAMILIES)}"
    )
