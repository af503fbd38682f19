r"""One `.bin`/`.idx` pair, the token file of Megatron: read, written and merged, byte for byte.

    .bin  values of all sequences back to back, little-endian
    .idx  at  0  "MMIDIDX\0\0"
              9  u64 version, 1
             17  u8  code of the value type
             18  u64 N, sequences
             26  u64 M, document indices
             34  i32 [N] lengths, in values
                 i64 [N] where each sequence begins, in bytes
                 i64 [M] document indices: 0, then the sequences up to the end of each document
                 i8  [N] modes, in multimodal sets only

A sequence is a row. A document is a group of sequences, perhaps of none; in a packed set, and
wherever else a chunk is a plain `Ragged`, every sequence is a document.
"""

from __future__ import annotations

import os
import shutil
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import attrs
import numpy as np

from mfunc.data.check import choice
from mfunc.data.ragged import Ragged, offsets_of
from mfunc.data.storage.whole import publish, staged

MAGIC = b"MMIDIDX\x00\x00"
HEADER = struct.Struct("<9sQBQQ")
CODES = {
    "uint8": 1, "int8": 2, "int16": 3, "int32": 4, "int64": 5, "float64": 6, "float32": 7,
    "uint16": 8,
}  # fmt: skip
NAMES = {code: name for name, code in CODES.items()}
BLOCK = 1 << 20  # values converted at once

PathLike = str | os.PathLike[str]


@attrs.frozen(eq=False)
class Pair:
    """What a pair holds.

    Args:
      sequences: the rows; read from a file, they are mapped and cost memory only where looked at.
      document_indices: int64 [documents + 1]; document d is the sequences
        `document_indices[d]..document_indices[d + 1]`.
      modes: int8, one of every sequence, in multimodal sets; else None.
    """

    sequences: Ragged
    document_indices: np.ndarray
    modes: np.ndarray | None = None

    @property
    def documents(self) -> Ragged:
        """The rows by documents: the sequences of each, joined. A view."""
        return Ragged(self.sequences.values, self.sequences.offsets[self.document_indices])


def read_pair(prefix: PathLike) -> Pair:
    """Map the pair `{prefix}.bin`, `{prefix}.idx`.

    The index is read and checked, 20 bytes a sequence; values are mapped, so that a row costs what
    it holds.

    Raises:
      FileNotFoundError: if neither file exists.
      ValueError: if one is missing, cut off or longer than the other says, or the index does not
        agree with itself. Memory is never more than the files warrant.

    Laws:
      `read_pair(p)` gives what `write_pair(p, ...)` was given, for every dtype.

    Example:
      >>> write_pair("tokens", Ragged.from_rows([[7, 8, 9], [4, 5]]))
      >>> read_pair("tokens").sequences[1].tolist()
      [4, 5]

    Source:
      Megatron-core 0.16 `indexed_dataset.py`.
    """
    index, binary = Path(f"{prefix}.idx"), Path(f"{prefix}.bin")
    _refuse_missing(index, binary)
    dtype, lengths, document_indices, modes = _read_index(index)
    offsets = offsets_of(lengths)
    expected, seen = int(offsets[-1]) * dtype.itemsize, binary.stat().st_size
    if seen != expected:
        raise ValueError(
            f"indexed: {binary} has {seen} bytes, but {index.name} tells of {offsets[-1]} values "
            f"of {dtype}, {expected} bytes; is it cut off, or of another set?"
        )
    values = np.memmap(binary, dtype, "r").view(np.ndarray) if seen else np.empty(0, dtype)
    return Pair(Ragged(values, offsets), document_indices, modes)


def write_pair(prefix: PathLike, chunks: Any, *, dtype: str = "int32") -> None:
    """Write the pair `{prefix}.bin`, `{prefix}.idx`, whole or not at all.

    Args:
      prefix: the path without suffix; its folder is made if it is missing.
      chunks: a Ragged or an array [n, S] (every row a document), a `Pair`, or an iterable of these;
        one chunk at a time is in memory.
      dtype: type of a value in the file: int8 to int64, uint8, uint16, float32, float64.

    Raises:
      ValueError: naming the row, if a value does not fit the type.
    """
    prefix = Path(prefix)
    choice("indexed.write_pair", "dtype", dtype, CODES)
    with staged(prefix) as folder:
        with (folder / f"{prefix.name}.bin").open("wb") as file:
            pairs = [_appended(file, p, dtype, row) for p, row in _numbered(_as_pairs(chunks))]
        write_index(folder / f"{prefix.name}.idx", pairs, dtype)
        publish_pairs(folder, prefix.parent, [prefix.name])


def merge_pairs(prefixes: Iterable[PathLike], out: PathLike) -> None:
    """Join pairs of one dtype into one, in order: documents behind documents.

    The `.bin` files are copied in blocks, so the size of the sets does not matter.

    Raises:
      ValueError: if there is none, or they differ in dtype, or only some are multimodal.

    Source:
      Megatron-core 0.16 `IndexedDatasetBuilder.add_index`.
    """
    prefixes, out = list(prefixes), Path(out)
    if not prefixes:
        raise ValueError("indexed.merge_pairs: got no prefixes")
    pairs = [read_pair(prefix) for prefix in prefixes]
    dtype = pairs[0].sequences.dtype
    for prefix, pair in zip(prefixes, pairs, strict=True):
        if pair.sequences.dtype != dtype:
            raise ValueError(
                f"indexed.merge_pairs: {prefix} holds {pair.sequences.dtype}, but {prefixes[0]} "
                f"{dtype}; write them with one dtype"
            )
    with staged(out) as folder:
        with (folder / f"{out.name}.bin").open("wb") as file:
            for prefix in prefixes:
                with Path(f"{prefix}.bin").open("rb") as part:
                    shutil.copyfileobj(part, file, 1 << 20)
        parts = [(p.sequences.lengths, p.document_indices, p.modes) for p in pairs]
        write_index(folder / f"{out.name}.idx", parts, str(dtype))
        publish_pairs(folder, out.parent, [out.name])


Part = tuple[np.ndarray, np.ndarray, np.ndarray | None]  # lengths, document indices, modes


def publish_pairs(
    folder: Path, into: Path, names: Sequence[str], *, beside: Sequence[str] = (), stale: Any = ()
) -> None:
    """Move staged pairs to their place: the `.idx` files are the marks that they are whole."""
    files = [*(f"{name}.bin" for name in names), *beside]
    marks = [f"{name}.idx" for name in names]
    publish(folder, into, files=files, marks=marks, stale=stale)


def append(
    file: BinaryIO,
    sequences: Ragged,
    dtype: str,
    *,
    where: str,
    row: int = 0,
    seen: Callable[[Any], object] = len,
) -> None:
    """Write values behind one another in the type of the file.

    Args:
      file: open for writing.
      sequences: the rows.
      dtype: type of the file.
      where: the file, for errors.
      row: number of the first row, for errors.
      seen: is given every block of bytes written, as a digest's `update`.
    """
    flat, target = sequences.flat, np.dtype(dtype).newbyteorder("<")
    if sequences.lengths.max(initial=0) > np.iinfo(np.int32).max:
        raise ValueError(f"{where}: a row has more than 2**31 - 1 values, which .idx cannot tell")
    for start in range(0, len(flat), BLOCK):
        block = flat[start : start + BLOCK]
        wrong = _unfit(block, target)
        if wrong.any():
            at = int(wrong.argmax()) + start + sequences.offsets[0]
            found = row + int(np.searchsorted(sequences.offsets, at, side="right")) - 1
            raise ValueError(
                f"{where}: row {found} holds {block[wrong][0]}, which {dtype} cannot; "
                "choose a wider dtype (labels of -100 need a signed one)"
            )
        data = np.ascontiguousarray(block, target).data.cast("B")
        file.write(data)
        seen(data)


def write_index(path: Path, parts: Iterable[Part], dtype: str) -> None:
    """Write the `.idx` of parts that follow one another."""
    parts = list(parts)
    lengths = np.concatenate([np.zeros(0, "<i4"), *(part[0] for part in parts)]).astype("<i4")
    shifts = offsets_of([len(part[0]) for part in parts])
    ends = [part[1][1:] + shift for part, shift in zip(parts, shifts[:-1], strict=True)]
    documents = np.concatenate([np.zeros(1, "<i8"), *ends]).astype("<i8")
    modes = [part[2] for part in parts if part[2] is not None]
    if modes and sum(map(len, modes)) != len(lengths):
        raise ValueError(f"indexed: {path.name}: only some of the parts have modes")
    begins = offsets_of(lengths)[:-1].astype("<i8") * np.dtype(dtype).itemsize
    with path.open("wb") as file:
        file.write(HEADER.pack(MAGIC, 1, CODES[dtype], len(lengths), len(documents)))
        for array in (lengths, begins, documents, *(np.asarray(m, "i1") for m in modes)):
            file.write(array.tobytes())


def as_ragged(where: str, column: Any) -> Ragged:
    """Rows of an array [n, S] as a Ragged; a Ragged as it is."""
    if isinstance(column, np.ndarray) and column.ndim == 2:
        offsets = np.arange(column.shape[0] + 1, dtype=np.int64) * column.shape[1]
        column = Ragged(column.reshape(-1), offsets)
    if not isinstance(column, Ragged) or column.dtype.kind not in "iufb":
        seen = getattr(column, "dtype", type(column).__name__)
        raise TypeError(f"{where}: needs a Ragged or an array [n, S] of numbers, got {seen}")
    return column


def _as_pairs(chunks: Any) -> Iterator[Pair]:
    """Every chunk with its documents."""
    single = isinstance(chunks, (Ragged, np.ndarray, Pair))
    for chunk in [chunks] if single else chunks:
        if isinstance(chunk, Pair):
            yield chunk
        else:
            sequences = as_ragged("indexed.write_pair", chunk)
            yield Pair(sequences, np.arange(len(sequences) + 1))


def _numbered(pairs: Iterable[Pair]) -> Iterator[tuple[Pair, int]]:
    """Every chunk, and the number of its first row."""
    row = 0
    for pair in pairs:
        yield pair, row
        row += len(pair.sequences)


def _appended(file: BinaryIO, pair: Pair, dtype: str, row: int) -> Part:
    """Write a chunk's values; what the index must know of it."""
    where = "indexed.write_pair"
    documents = np.asarray(pair.document_indices)
    check_documents(where, documents, len(pair.sequences))
    if pair.modes is not None and len(pair.modes) != len(pair.sequences):
        raise ValueError(f"{where}: {len(pair.modes)} modes of {len(pair.sequences)} sequences")
    append(file, pair.sequences, dtype, where=where, row=row)
    return pair.sequences.lengths, documents, pair.modes


def _unfit(block: np.ndarray, target: np.dtype) -> np.ndarray:
    """Which values the type cannot hold."""
    if target.kind in "iu" and block.dtype.kind in "iub":
        bounds = np.iinfo(target)
        return (block < bounds.min) | (block > bounds.max)
    with np.errstate(invalid="ignore", over="ignore"):
        back = block.astype(target).astype(block.dtype)
    return (back != block) & ~((back != back) & (block != block))  # a NaN is a NaN


def _refuse_missing(index: Path, binary: Path) -> None:
    """Both files, or none, or a writer that did not finish."""
    if not index.is_file() and not binary.is_file():
        raise FileNotFoundError(f"indexed: there is neither {index} nor {binary}")
    for missing, present in ((index, binary), (binary, index)):
        if not missing.is_file():
            raise ValueError(
                f"indexed: there is {present}, but no {missing.name}; its writer did not finish, "
                "or it was not copied: write or copy both"
            )


def _read_index(path: Path) -> tuple[np.dtype, np.ndarray, np.ndarray, np.ndarray | None]:
    """(type, lengths, document indices, modes), which agree with one another."""
    size = path.stat().st_size
    with path.open("rb") as file:
        dtype, count, documents = _header(path, file.read(HEADER.size))
        whole = HEADER.size + 12 * count + 8 * documents
        if size not in (whole, whole + count):
            raise ValueError(
                f"indexed: {path} has {size} bytes, but {count} sequences and {documents} document "
                f"indices take {whole}, or {whole + count} with modes; is it cut off?"
            )
        lengths = np.fromfile(file, "<i4", count)
        begins = np.fromfile(file, "<i8", count)
        indices = np.fromfile(file, "<i8", documents)
        modes = np.fromfile(file, "i1", count) if size > whole else None
    if (lengths < 0).any():
        row = int((lengths < 0).argmax())
        raise ValueError(f"indexed: {path}: sequence {row} has the length {lengths[row]}")
    wrong = begins != offsets_of(lengths)[:-1] * dtype.itemsize
    if wrong.any():
        row = int(wrong.argmax())
        raise ValueError(
            f"indexed: {path}: sequence {row} begins at byte {begins[row]}, but those before it "
            f"end at {int(lengths[:row].sum(dtype=np.int64)) * dtype.itemsize}"
        )
    check_documents(f"indexed: {path}", indices, count)
    return dtype, lengths, indices, modes


def _header(path: Path, header: bytes) -> tuple[np.dtype, int, int]:
    """(type, sequences, document indices)."""
    if len(header) < HEADER.size:
        raise ValueError(
            f"indexed: {path} has {len(header)} bytes, but a header has {HEADER.size}; "
            "is it cut off?"
        )
    magic, version, code, count, documents = HEADER.unpack(header)
    for what, seen, allowed in (
        ("begins with", magic, [MAGIC]),
        ("is of version", version, [1]),
        ("has the type code", code, list(NAMES)),
    ):
        if seen not in allowed:
            listed = ", ".join(map(repr, allowed))
            raise ValueError(
                f"indexed: {path} {what} {seen!r}, not {listed}; is it an .idx of Megatron?"
            )
    return np.dtype(NAMES[code]).newbyteorder("<"), count, documents


def check_documents(where: str, indices: np.ndarray, count: int) -> None:
    """From 0 to the number of sequences, never back."""
    if not len(indices) or indices[0] != 0 or indices[-1] != count or (np.diff(indices) < 0).any():
        shown = np.array2string(indices, threshold=6, edgeitems=3, separator=", ")
        raise ValueError(
            f"{where}: document indices {shown} must rise from 0 to {count}, "
            "the number of sequences"
        )
