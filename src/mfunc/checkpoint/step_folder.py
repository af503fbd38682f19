"""One checkpoint of a run: a folder that is there whole or not at all, and knows when it is not.

    step_00000100/state.safetensors   every leaf under its path
    step_00000100/checkpoint.json     step, metrics, config, leaves, checksums, versions

A flipped bit in either is seen. `.step_*.part` is what a killed process left, written or deleted
in part.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import re
import shutil
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import mindspore as ms
import numpy as np
import safetensors

from mfunc.checkpoint.arrays import decode, store
from mfunc.data.storage.whole import staged, sync

STATE, ABOUT = "state.safetensors", "checkpoint.json"
FORMAT = 1


def folder_name(step: int) -> str:
    """Return the name of a step's folder.

    Example:
      >>> folder_name(100)
      'step_00000100'
    """
    return f"step_{step:08d}"


def folders(parent: Path) -> dict[int, Path]:
    """Return the checkpoints in a folder by step, oldest first; half-written ones are none."""
    found = parent.glob("step_*") if parent.is_dir() else ()
    named = {path: re.fullmatch(r"step_(\d{8,})", path.name) for path in found}
    return dict(sorted((int(match[1]), path) for path, match in named.items() if match))


def write(
    parent: Path,
    step: int,
    arrays: Mapping[str, np.ndarray],
    metrics: Mapping[str, Any],
    config: Mapping[str, Any],
) -> Path:
    """Write a checkpoint, whole or not at all.

    What is there of this step and of later ones belongs to a past that the run has left: it is set
    aside under another name (`step_00000100.aside`), unless it is this very state.
    """
    target = parent / folder_name(step)
    with staged(target) as hidden:
        made = hidden / target.name  # `hidden` itself is for this user only
        made.mkdir()
        store(made / STATE, arrays, None, str(target / STATE))
        with ThreadPoolExecutor(1) as other:  # who reads while the disk writes
            digest = other.submit(digest_of, made / STATE)
            sync(made / STATE)
        content: dict[str, Any] = {
            "format": FORMAT,
            "step": step,
            "metrics": metrics,
            "config": config,
            "leaves": {
                path: {"dtype": array.dtype.name, "shape": list(array.shape)}
                for path, array in arrays.items()
            },
            "state": {"bytes": (made / STATE).stat().st_size, "blake2b": digest.result()},
            "versions": _versions(),
        }
        (made / ABOUT).write_text(_render(content), encoding="utf-8")
        sync(made / ABOUT)
        sync(made)
        aside = [_set_aside(path) for at, path in folders(parent).items() if at >= step]
        made.rename(target)
        sync(parent)
    for path in aside:
        if _is_state(path, content["state"]):
            remove(path)
    return target


def read_about(folder: Path) -> dict[str, Any]:
    """Read what a checkpoint tells of itself.

    Raises:
      ValueError: the file is missing, damaged, or of another format.
    """
    path = folder / ABOUT
    try:
        text = path.read_bytes().decode("utf-8")
        content = json.loads(text)
        whole = isinstance(content, dict) and _render(content) == text
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file, so this checkpoint is not whole") from None
    except ValueError:
        whole = False
    if not whole:
        raise ValueError(f"{path}: damaged, its bytes are not those that were written")
    if content.get("format") != FORMAT:
        raise ValueError(f"{path}: format {content.get('format')!r}; this mfunc reads {FORMAT}")
    return content


def read_state(folder: Path, about: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Read the leaves of a checkpoint.

    Raises:
      ValueError: the file is missing or damaged.
    """
    path = folder / STATE
    if not path.is_file():
        raise ValueError(f"{path}: no such file, so this checkpoint is not whole")
    data = path.read_bytes()
    if len(data) != about["state"]["bytes"]:
        raise ValueError(
            f"{path}: damaged, it has {len(data)} bytes and {about['state']['bytes']} were written"
        )
    seen = hashlib.blake2b(data, digest_size=32).hexdigest()
    if seen != about["state"]["blake2b"]:
        raise ValueError(
            f"{path}: damaged, its blake2b is {seen[:16]}... and "
            f"{about['state']['blake2b'][:16]}... was written"
        )
    return decode(data, str(path))


def sweep(parent: Path) -> None:
    """Remove what killed processes left; only for who holds the folder's lock."""
    for path in parent.glob(".step_*.part"):
        shutil.rmtree(path, ignore_errors=True)


def remove(folder: Path) -> None:
    """Delete a checkpoint: it is gone at once, or there whole."""
    gone = folder.with_name(f".{folder.name}.deleted.part")
    folder.rename(gone)
    sync(folder.parent)
    shutil.rmtree(gone)


def digest_of(path: Path) -> str:
    """Return the checksum of a file, which need not fit into memory."""
    hashed = hashlib.blake2b(digest_size=32)
    with path.open("rb") as file:
        while block := file.read(1 << 22):
            hashed.update(block)
    return hashed.hexdigest()


def _render(content: Mapping[str, Any]) -> str:
    """Write JSON in the one form that `read_about` accepts, with its own checksum in it."""
    told = {key: value for key, value in content.items() if key != "blake2b"}
    text = json.dumps(told, indent=1, sort_keys=True)
    told["blake2b"] = hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
    return json.dumps(told, indent=1, sort_keys=True) + "\n"


def _set_aside(path: Path) -> Path:
    names = (f"{path.name}.aside{n or ''}" for n in range(10**6))
    free = next(name for name in names if not path.with_name(name).exists())
    return path.rename(path.with_name(free))


def _is_state(folder: Path, state: Mapping[str, Any]) -> bool:
    try:
        return read_about(folder)["state"] == state
    except ValueError:
        return False


def _versions() -> dict[str, str]:
    try:
        own = importlib.metadata.version("mfunc")
    except importlib.metadata.PackageNotFoundError:
        own = "not installed"
    return {
        "mfunc": own,
        "mindspore": ms.__version__,
        "numpy": np.__version__,
        "safetensors": safetensors.__version__,
    }
