"""A tree in one safetensors file, strict in both directions.

A leaf is stored under its path (`layers/0/q`). A file is written beside its name and then
renamed, so a reader never meets half of one.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mindspore as ms
import numpy as np
from mindspore.common import np_dtype
from safetensors import SafetensorError, deserialize
from safetensors.numpy import save_file

from mfunc import spec, tree
from mfunc.data.storage.whole import sync
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
    write_arrays(path, {name: as_array(leaf) for name, leaf in by_path(params).items()}, metadata)


def by_path(params: Tree) -> dict[str, Any]:
    """Return the leaves of a tree by their paths.

    Raises:
      ValueError: two leaves have the same path.

    Example:
      >>> by_path({"layers": ({"w": 1}, {"w": 2})})
      {'layers/0/w': 1, 'layers/1/w': 2}
    """
    leaves: dict[str, Any] = {}
    for path, leaf in zip(tree.paths(params), tree.leaves(params), strict=True):
        if path in leaves:
            raise ValueError(f"save: two leaves have the path {path}; use keys without '/'")
        leaves[path] = leaf
    return leaves


def as_array(leaf: Any) -> np.ndarray:
    """Return the numbers of a leaf; for a Tensor they may be its own memory."""
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
    with replacing(path) as part:
        store(part, arrays, metadata, str(path))


def store(
    file: Path, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, Any] | None, where: str
) -> None:
    """Write named arrays to a file as they come, under the name that errors tell."""
    for name, array in arrays.items():
        if array.dtype.name != "bfloat16" and array.dtype not in _DTYPES.values():
            known = ", ".join(["bfloat16", *[np.dtype(kind).name for kind in _DTYPES.values()]])
            raise ValueError(f"{where}: {name} has dtype {array.dtype}; known are {known}")
    header = {
        key: value if isinstance(value, str) else json.dumps(value)
        for key, value in (metadata or {}).items()
    }
    # Not `ascontiguousarray`, which gives a number without shape the shape (1,).
    whole = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    try:
        save_file(whole, file, header or None)
    except SafetensorError as error:  # a full disk, for one
        raise OSError(f"{where}: {error}") from error


def write_whole(path: str | os.PathLike[str], data: bytes) -> None:
    """Write a file, whole or not at all."""
    with replacing(path) as part:
        part.write_bytes(data)


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give another name to write a file under; it gets its own when it is on the disk."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        yield part
        sync(part)
        part.replace(target)
        sync(target.parent)
    finally:
        part.unlink(missing_ok=True)


def load(path: str | os.PathLike[str], like: Tree) -> Tree:
    """Read a tree that `save` wrote.

    Args:
      path: the file.
      like: a tree of specs, arrays or Tensors that says which paths and shapes there must be.

    Returns:
      The containers of `like` with Tensors of the file's dtypes, also of bfloat16.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: it is not a whole safetensors file, or leaves are missing, unexpected or
        misshapen.
    """
    arrays = read_bits(path)
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
    return {name: widened(array) for name, array in read_bits(path).items()}


def widened(array: np.ndarray) -> np.ndarray:
    """Return float32 for bfloat16, the same numbers; anything else as it is."""
    if array.dtype.name != "bfloat16":
        return array
    return (array.view(np.uint16).astype(np.uint32) << 16).view(np.float32)


def read_bits(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Read the named arrays of a safetensors file; bfloat16 has MindSpore's NumPy type.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: it is not a whole safetensors file.
    """
    file = Path(path)
    if not file.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    return decode(file.read_bytes(), str(path))


def decode(data: bytes, where: str) -> dict[str, np.ndarray]:
    """Read what a safetensors file holds; see `read_bits`."""
    try:
        entries = deserialize(data)
    except SafetensorError as error:
        raise ValueError(f"{where}: not a whole safetensors file ({error})") from error
    return {name: _decode(entry, f"{where}: {name}") for name, entry in entries}


def _decode(entry: Mapping[str, Any], where: str) -> np.ndarray:
    """Turn one raw entry into an array."""
    if entry["dtype"] == "BF16":
        return (
            np.frombuffer(entry["data"], np.uint16).view(np_dtype.bfloat16).reshape(entry["shape"])
        )
    if entry["dtype"] not in _DTYPES:
        raise ValueError(
            f"{where} has dtype {entry['dtype']}; known are BF16, {', '.join(_DTYPES)}"
        )
    return np.frombuffer(entry["data"], dtype=_DTYPES[entry["dtype"]]).reshape(entry["shape"])
