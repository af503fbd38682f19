"""GGUF files, in which llama.cpp keeps models: metadata, and named arrays in quantised blocks.

    "GGUF"  version  how many arrays, how many entries
    entries   name, kind, value
    arrays    name, sizes, kind of block, where
    the blocks, each array at a multiple of `general.alignment`

The blocks are undone by the package `gguf`. The header is read here: the package's reader takes 20
times as long for it, and walks through every number that a list is said to have, though the file
ends before.
"""

from __future__ import annotations

import math
import os
import struct
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

_VERSIONS = (2, 3)
# Kinds of metadata by their numbers, as NumPy has them; and the two that are not numbers.
_NUMBERS = {
    0: "<u1", 1: "<i1", 2: "<u2", 3: "<i2", 4: "<u4", 5: "<i4", 6: "<f4", 7: "?", 10: "<u8",
    11: "<i8", 12: "<f8",
}  # fmt: skip
_STRING, _ARRAY = 8, 9
_MOST_SIZES = 4  # of an array


class Blocks(NamedTuple):
    """An array as the file has it.

    Attributes:
      shape: its sizes, outermost first.
      kind: number of its `GGMLQuantizationType`.
      data: its bytes, uint8, mapped from the file.
    """

    shape: tuple[int, ...]
    kind: int
    data: np.ndarray


class GGUF(NamedTuple):
    """What a file holds.

    Attributes:
      metadata: name -> number, text, or list of them.
      arrays: name -> blocks; `numbers` makes float32 of them.
    """

    metadata: dict[str, Any]
    arrays: dict[str, Blocks]


def read_gguf(path: str | os.PathLike[str]) -> GGUF:
    """Read the header of a GGUF file and map its arrays.

    Args:
      path: the file, version 2 or 3, little-endian.

    Raises:
      ImportError: without the extra `gguf`.
      FileNotFoundError: there is no such file.
      ValueError: it is not a whole GGUF file, or one of a kind that is not read.

    Source:
      The specification in ggml, docs/gguf.md; equal to `gguf.GGUFReader` 0.19.
    """
    _package()
    file = Path(path)
    if not file.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    data = np.memmap(file, np.uint8, "r") if file.stat().st_size else np.zeros(0, np.uint8)
    try:
        return _parse(data)
    except (ValueError, struct.error) as error:  # UnicodeDecodeError is a ValueError
        raise ValueError(f"{path}: not a whole GGUF file: {error}") from error


def numbers(blocks: Blocks, where: str) -> np.ndarray:
    """Undo the blocks of an array.

    Args:
      blocks: from `read_gguf`.
      where: file and name, for errors.

    Returns:
      float32, of `blocks.shape`; float32 and float16 to the bit.

    Raises:
      ValueError: the package cannot undo this kind.
    """
    package = _package()
    kind = package.GGMLQuantizationType(blocks.kind)
    block, size = package.GGML_QUANT_SIZES[kind]
    rows = blocks.data.reshape((*blocks.shape[:-1], blocks.shape[-1] // block * size))
    try:
        return np.asarray(package.dequantize(rows, kind), np.float32)
    except NotImplementedError as error:
        raise ValueError(f"{where}: blocks of kind {kind.name} are not read ({error})") from error


def _package() -> Any:
    try:
        import gguf
    except ImportError as error:
        raise ImportError("GGUF files need the package gguf: pip install 'mfunc[gguf]'") from error
    return gguf


def _parse(data: np.ndarray) -> GGUF:
    """Read all but the blocks."""
    if data[:4].tobytes() != b"GGUF":
        raise ValueError(f"it begins with {data[:4].tobytes()!r}, not with b'GGUF'")
    view = memoryview(data.data)
    version, arrays, entries = struct.unpack_from("<IQQ", view, 4)
    if version not in _VERSIONS:
        order = ", as of a big-endian file" if version & 0xFFFF == 0 else ""
        raise ValueError(f"version {version}{order}; versions 2 and 3, little-endian, are read")
    metadata: dict[str, Any] = {}
    at = 24
    for _ in range(entries):
        name, at = _text(view, at)
        (kind,) = struct.unpack_from("<I", view, at)
        value, at = _value(view, at + 4, kind, name)
        _add(metadata, name, value)
    placed: dict[str, tuple[tuple[int, ...], int, int]] = {}
    for _ in range(arrays):
        name, at = _text(view, at)
        (count,) = struct.unpack_from("<I", view, at)
        if not 1 <= count <= _MOST_SIZES:
            raise ValueError(f"array {name!r} has {count} sizes; 1 to {_MOST_SIZES} can be")
        *sizes, kind, offset = struct.unpack_from(f"<{count}QIQ", view, at + 4)
        _add(placed, name, (tuple(reversed(sizes)), kind, offset))
        at += 8 * count + 16
    alignment = metadata.get("general.alignment", 32)
    if not (isinstance(alignment, int) and alignment > 0):
        raise ValueError(f"general.alignment is {alignment!r}")
    start = -(-at // alignment) * alignment
    return GGUF(metadata, {n: _blocks(data, n, start + p[2], *p[:2]) for n, p in placed.items()})


def _add(into: dict[str, Any], name: str, value: Any) -> None:
    if name in into:
        raise ValueError(f"it has {name!r} twice")
    into[name] = value


def _text(view: memoryview, at: int) -> tuple[str, int]:
    (count,) = struct.unpack_from("<Q", view, at)
    begin, end = at + 8, at + 8 + count
    if end > len(view):
        raise ValueError(f"a text of {count} bytes at {at} reaches beyond its end")
    return str(view[begin:end], "utf-8"), end


def _value(view: memoryview, at: int, kind: int, name: str) -> tuple[Any, int]:
    """A value of metadata, and where the next thing begins."""
    if kind == _STRING:
        return _text(view, at)
    if kind != _ARRAY:
        (value,), at = _numbers(view, at, kind, 1, name)
        return value, at
    kind, count = struct.unpack_from("<IQ", view, at)
    at += 12
    if kind != _STRING:
        return _numbers(view, at, kind, count, name)
    texts = []
    for _ in range(count):
        text, at = _text(view, at)
        texts.append(text)
    return texts, at


def _numbers(view: memoryview, at: int, kind: int, count: int, name: str) -> tuple[list[Any], int]:
    if kind not in _NUMBERS:
        raise ValueError(f"{name!r} is of the unknown kind {kind}")
    form = np.dtype(_NUMBERS[kind])
    end = at + count * form.itemsize
    if end > len(view):
        raise ValueError(f"{name!r} has {count} numbers, which reach beyond its end")
    return np.frombuffer(view[at:end], form).tolist(), end


def _blocks(data: np.ndarray, name: str, at: int, shape: tuple[int, ...], kind: int) -> Blocks:
    package = _package()
    try:
        block, size = package.GGML_QUANT_SIZES[package.GGMLQuantizationType(kind)]
    except (ValueError, KeyError):
        raise ValueError(f"array {name!r} is of the unknown kind {kind}") from None
    if shape[-1] % block:
        raise ValueError(f"array {name!r} has rows of {shape[-1]} numbers in blocks of {block}")
    end = at + math.prod(shape) // block * size
    if end > len(data):
        raise ValueError(f"array {name!r} ends at {end}, the file at {len(data)}")
    return Blocks(shape, kind, data[at:end])
