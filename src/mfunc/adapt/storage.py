"""An adapter in a file of its own, with the name of its method and its config."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import attrs
from safetensors import SafetensorError, safe_open

from mfunc import checkpoint
from mfunc.tree import Tree


def save(path: str | os.PathLike[str], adapter: Tree, config: Any) -> None:
    """Write an adapter to a safetensors file, whole or not at all.

    Args:
      path: the file; its folder is made when it is missing.
      adapter: the tree.
      config: of the method, such as `lora.Config`.

    Laws:
      `load(path, specs(params, config), config) == adapter` to the bit.

    Example:
      >>> import tempfile
      >>> from mindspore import Tensor
      >>> from mfunc.adapt import bitfit
      >>> file = Path(tempfile.mkdtemp()) / "adapter.safetensors"
      >>> save(file, {"w": None, "bias": Tensor([2.0])}, bitfit.Config())
      >>> read_config(file)
      ('bitfit', {'targets': ['*bias']})
    """
    method, settings = _described(config)
    # One entry of the header: the order of several is by chance, and the same file has other bytes.
    checkpoint.save(path, adapter, metadata={"adapter": {"method": method, "config": settings}})


def load(path: str | os.PathLike[str], specs: Tree, config: Any) -> Tree:
    """Read an adapter that `save` wrote.

    Args:
      path: the file.
      specs: `method.specs(params, config)`.
      config: must be the one that it was saved with.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: it is not a whole file of an adapter, or is of another method, another config
        (each setting that differs is named) or another model.

    Example:
      >>> import tempfile
      >>> from mindspore import Tensor
      >>> from mfunc.adapt import ptuning
      >>> file = Path(tempfile.mkdtemp()) / "adapter.safetensors"
      >>> save(file, {"embed": Tensor([[1.0, 2.0]])}, ptuning.Config(pre_seq_len=1))
      >>> load(file, {}, ptuning.Config(pre_seq_len=2)) # doctest: +ELLIPSIS
      Traceback (most recent call last):
      ...
      ValueError: ...adapter.safetensors: pre_seq_len is 1 in the file, the config says 2
    """
    method, settings = read_config(path)
    wanted, expected = _described(config)
    if method != wanted:
        raise ValueError(f"{path}: holds an adapter of {method}, the config is of {wanted}")
    names = sorted(settings.keys() | expected.keys())
    faults = [
        f"{name} is {_said(settings, name)} in the file, the config says {_said(expected, name)}"
        for name in names
        if _said(settings, name) != _said(expected, name)
    ]
    if faults:
        raise ValueError(f"{path}: {'; '.join(faults)}")
    return checkpoint.load(path, specs)


def _said(settings: dict[str, Any], name: str) -> str:
    return json.dumps(settings[name]) if name in settings else "absent"


def _described(config: Any) -> tuple[str, dict[str, Any]]:
    """Return the method's name, which is that of its module, and the settings as JSON has them."""
    method = type(config).__module__.rpartition(".")[2]
    return method, json.loads(json.dumps(attrs.asdict(config)))


def read_config(path: str | os.PathLike[str]) -> tuple[str, dict[str, Any]]:
    """Return the method's name and the settings that an adapter was saved with.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: it is not a whole safetensors file, or not one of an adapter.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        with safe_open(path, framework="np") as file:
            header = file.metadata() or {}
    except SafetensorError as error:
        raise ValueError(f"{path}: not a whole safetensors file ({error})") from error
    try:
        said = json.loads(header["adapter"])
        return str(said["method"]), dict(said["config"].items())
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(
            f"{path}: not a file of adapt.storage.save: its header has no method and config"
        ) from error
