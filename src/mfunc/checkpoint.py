"""Checkpoints: a tree in one safetensors file, strict in both directions.

A leaf is stored under its path (`layers/0/q`). A file is written beside its name and then
renamed, so a reader never meets half of one.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mindspore as ms
import numpy as np
from safetensors import SafetensorError, deserialize
from safetensors.numpy import save as to_bytes

from mfunc import spec, tree
from mfunc.tree import Tree

_DTYPES = {
    "F64": np.float64, "F32": np.float32, "F16": np.float16, "I64": np.int64, "I32": np.int32,
    "I16": np.int16, "I8": np.int8, "U64": np.uint64, "U32": np.uint32, "U16": np.uint16,
    "U8": np.uint8, "BOOL": np.bool_,
}  # fmt: skip


def save(
    path: str | os.PathLike[str], params: Tree, *, metadata: Mapping[str, Any] | None = None
) -> None:
    """Write a tree of arrays or Tensors to a safetensors file.

    Args:
      path: the file; its folder is made when it is missing.
      params: the tree; `None` nodes are not stored.
      metadata: strings or plain data that go into the header as JSON.

    Raises:
      ValueError: two leaves have the same path, or a leaf is of a dtype that `load` does not know.

    Laws:
      `load(path, like) == params` to the bit for every `like` of the same paths and shapes.

    Example:
      >>> import tempfile
      >>> file = Path(tempfile.mkdtemp()) / "model.safetensors"
      >>> save(file, {"w": np.float32([1, 2])})
      >>> load(file, {"w": np.zeros(2)})["w"].asnumpy()
      array([1., 2.], dtype=float32)
    """
    arrays: dict[str, np.ndarray] = {}
    for name, leaf in zip(tree.paths(params), tree.leaves(params), strict=True):
        if name in arrays:
            raise ValueError(f"save: two leaves have the path {name}; use keys without '/'")
        arrays[name] = _array(leaf)
    write_arrays(path, arrays, metadata)


def _array(leaf: Any) -> np.ndarray:
    return leaf.asnumpy() if isinstance(leaf, ms.Tensor) else np.asarray(leaf)


def write_arrays(
    path: str | os.PathLike[str],
    arrays: Mapping[str, np.ndarray],
    metadata: Mapping[str, Any] | None = None,
) -> None:
    """Write named arrays to a safetensors file, whole or not at all.

    Raises:
      ValueError: an array is of a dtype that `read_arrays` does not know.
    """
    for name, array in arrays.items():
        if array.dtype.name != "bfloat16" and array.dtype not in _DTYPES.values():
            known = ", ".join(["bfloat16", *[np.dtype(kind).name for kind in _DTYPES.values()]])
            raise ValueError(f"{path}: {name} has dtype {array.dtype}; known are {known}")
    header = {
        key: value if isinstance(value, str) else json.dumps(value)
        for key, value in (metadata or {}).items()
    }
    # Not `ascontiguousarray`, which gives a number without shape the shape (1,).
    whole = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    data = to_bytes(whole, header or None)
    write_whole(path, data)


def write_whole(path: str | os.PathLike[str], data: bytes) -> None:
    """Write a file under another name, then rename it."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def load(path: str | os.PathLike[str], like: Tree) -> Tree:
    """Read a tree that `save` wrote.

    Args:
      path: the file.
      like: a tree of specs, arrays or Tensors that says which paths and shapes there must be.

    Returns:
      The containers of `like` with Tensors of the file's dtypes.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: it is not a whole safetensors file, or leaves are missing, unexpected or
        misshapen.
    """
    arrays = read_arrays(path)
    paths, structure = tree.paths(like), tree.flatten(like)[1]
    missing = [name for name in paths if name not in arrays]
    extra = sorted(arrays.keys() - set(paths))
    if missing or extra:
        raise ValueError(f"{path}: {missing_and_extra(missing, extra)}")
    params = tree.unflatten(structure, [ms.Tensor(arrays[name]) for name in paths])
    spec.check(params, like, where=str(path))
    return params


def missing_and_extra(missing: list[str], extra: list[str]) -> str:
    """Put names that are missing and unexpected into words, at most five of each.

    Example:
      >>> missing_and_extra(["w"], [])
      'missing w'
    """
    parts = []
    for word, names in (("missing", missing), ("unexpected", extra)):
        if names:
            more = f" and {len(names) - 5} more" if len(names) > 5 else ""
            parts.append(f"{word} {', '.join(names[:5])}{more}")
    return "; ".join(parts)


def read_arrays(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Read the named arrays of a safetensors file; bfloat16 comes as float32.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: it is not a whole safetensors file.
    """
    file = Path(path)
    if not file.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        entries = deserialize(file.read_bytes())
    except SafetensorError as error:
        raise ValueError(f"{path}: not a whole safetensors file ({error})") from error
    return {name: _decode(entry, f"{path}: {name}") for name, entry in entries}


def _decode(entry: Mapping[str, Any], where: str) -> np.ndarray:
    """Turn one raw entry into an array."""
    if entry["dtype"] == "BF16":
        words = np.frombuffer(entry["data"], dtype=np.uint16).astype(np.uint32)
        return (words << 16).view(np.float32).reshape(entry["shape"])
    if entry["dtype"] not in _DTYPES:
        raise ValueError(
            f"{where} has dtype {entry['dtype']}; known are BF16, {', '.join(_DTYPES)}"
        )
    return np.frombuffer(entry["data"], dtype=_DTYPES[entry["dtype"]]).reshape(entry["shape"])


def from_names(
    arrays: Mapping[str, np.ndarray], names: Mapping[str, tuple[str, bool]], specs: Tree, where: str
) -> Tree:
    """Rename the arrays of a foreign checkpoint into our tree.

    Args:
      arrays: their name -> array.
      names: our path -> (their name, transposed).
      specs: what the model needs.
      where: the file, for errors.

    Returns:
      The tree, in the dtypes of the specs.

    Raises:
      ValueError: arrays are missing, unexpected or misshapen; they are named as in the file.
    """
    theirs = {name for name, _ in names.values()}
    missing = sorted(theirs - arrays.keys())
    extra = sorted(arrays.keys() - theirs)
    if missing or extra:
        raise ValueError(f"{where}: {missing_and_extra(missing, extra)}")
    leaves = []
    for path, leaf in zip(tree.paths(specs), tree.leaves(specs), strict=True):
        name, transposed = names[path]
        array = arrays[name].T if transposed else arrays[name]
        if array.shape != leaf.shape:
            wanted = leaf.shape[::-1] if transposed else leaf.shape
            raise ValueError(
                f"{where}: {name} has shape {arrays[name].shape}, the config asks for {wanted}"
            )
        leaves.append(ms.Tensor(np.ascontiguousarray(array), spec.DTYPES[leaf.dtype]))
    return tree.unflatten(tree.flatten(specs)[1], leaves)


def to_names(params: Tree, names: Mapping[str, tuple[str, bool]]) -> dict[str, np.ndarray]:
    """Rename our tree into the arrays of a foreign checkpoint; the inverse of `from_names`."""
    renamed = {}
    for path, leaf in zip(tree.paths(params), tree.leaves(params), strict=True):
        name, transposed = names[path]
        renamed[name] = _array(leaf).T if transposed else _array(leaf)
    return renamed
