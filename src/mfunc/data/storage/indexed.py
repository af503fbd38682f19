"""Token sets as Megatron and MindSpeed-LLM keep them: one `.bin`/`.idx` pair for every column.

    {prefix}_packed_{input_ids,attention_mask,labels}_document.{bin,idx}      instruction data
    {prefix}_packed_{chosen,rejected}_{input_ids,labels}_document.{bin,idx}   preference pairs
    {prefix}_{text}_document.{bin,idx}                                        pretraining text

One row is one sequence is one document, in every column. Beside them stands the sidecar
`{prefix}_packed_document.json` (`sidecar.py`), which other programs ignore. `pair.py` has the
layout of one pair.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from toolz import merge_with

from mfunc.data.check import choice, flag, nearest
from mfunc.data.columns import ORIGIN, Columns, num_rows
from mfunc.data.compose import Counts, counted_chunks
from mfunc.data.ragged import Ragged
from mfunc.data.storage import sidecar as side
from mfunc.data.storage.pair import (
    CODES,
    Pair,
    PathLike,
    append,
    as_ragged,
    check_documents,
    merge_pairs,
    publish_pairs,
    read_pair,
    write_index,
    write_pair,
)
from mfunc.data.storage.whole import staged

__all__ = ["Pair", "merge_pairs", "read", "read_pair", "sidecar", "write", "write_pair"]

TRIPLE = ("input_ids", "attention_mask", "labels")
PREFERENCE = tuple(f"{a}_{b}" for a in ("chosen", "rejected") for b in ("input_ids", "labels"))
IDS_OF = {
    "attention_mask": "input_ids",
    "labels": "input_ids",
    "chosen_labels": "chosen_input_ids",
    "rejected_labels": "rejected_input_ids",
}
KNOWN = {True: (*TRIPLE, *PREFERENCE), False: ("text",)}


def write(
    prefix: PathLike,
    columns: Any,
    *,
    packed: bool = True,
    attention_mask: str = "segments",
    dtype: str = "int32",
    document_indices: Any = None,
    settings: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Write columns as pairs, whole or not at all, and a sidecar.

        in   input_ids [1 2 3 0]   labels [-100 2 -100 -100]   segment_ids [1 1 2 0]
        out  x_packed_input_ids_document       1 2 3 0
             x_packed_attention_mask_document  1 1 2 0     (1 1 1 1 with "ones")
             x_packed_labels_document          -100 2 -100 -100

    Data that do not fit in memory come as an iterable of chunks; one chunk is in memory at a time.
    A killed writer leaves nothing that `read` takes for whole; what stood there before is replaced
    at the end, in one go.

    Args:
      prefix: the path that all names begin with; its folder is made if it is missing.
      columns: Ragged columns, or arrays [n, S] as `pack` makes them; or an iterable of such dicts,
        or of pairs (columns, counts) as `counted` gives them, whose counts are added up.
      packed: names with `_packed`, as instruction and preference data have, packed or not. False
        is for pretraining: the column `text` goes to `{prefix}_text_document`.
      attention_mask: what stands for it where there are `input_ids` but no column of that name:
        `"segments"`, the segment ids (upstream's neat pack), if there are any, else ones; `"ones"`
        (its plain pack); `"none"`, no such file. Positions follow from segments and are not
        written.
      dtype: type of a value; upstream's is int32 always, as labels need -100.
      document_indices: integers [documents + 1]: document d is rows `[d]..[d + 1]`; by default
        every row is one. Where upstream skips a row it leaves an empty document:
        `np.cumsum([0, *kept])`.
      settings: for the sidecar: transforms, templates, tokenizers (by digest), plain data.

    Returns:
      The sidecar: `format, rows, columns, counts, settings`.

    Raises:
      TypeError: for a setting without stable identity, or a column that is not of numbers.
      ValueError: if columns differ in length or from chunk to chunk, or a value does not fit.

    Laws:
      `read(prefix)` gives back the rows; chunks written one by one equal them joined.

    Example:
      >>> told = write("x", {"input_ids": np.array([[1, 2]]), "labels": np.array([[-100, 2]])})
      >>> told["rows"], read("x")["labels"][0].tolist()
      (1, [-100, 2])

    Source:
      MindSpeed-LLM v2.1.0 `preprocess_data.py`: the same bytes.
    """
    prefix = Path(prefix)
    flag("indexed.write", "packed", packed)
    choice("indexed.write", "attention_mask", attention_mask, ["segments", "ones", "none"])
    choice("indexed.write", "dtype", dtype, CODES)
    chunks = ((_tokens(c, attention_mask), counts) for c, counts in counted_chunks(columns))
    with staged(prefix) as folder:
        told, counts = _write_columns(folder, prefix, chunks, packed, dtype, document_indices)
        rows = next(iter(told.values()))["rows"]
        described = {name: {k: c[k] for k in c if k != "rows"} for name, c in told.items()}
        content = side.describe(described, rows, counts, settings)
        beside = _sidecar(prefix, packed).name
        side.dump(folder / beside, content)
        names = [_pair(prefix, packed, name).name for name in told]
        others = [name for name in KNOWN[True] if packed and name not in told]
        stale = [f"{_pair(prefix, True, n).name}.{end}" for end in ("idx", "bin") for n in others]
        publish_pairs(folder, prefix.parent, names, beside=[beside], stale=stale)
    return content


def read(
    prefix: PathLike,
    *,
    packed: bool = True,
    columns: Sequence[str] | None = None,
    verify: bool = False,
) -> Columns:
    """Map the pairs of a set, ours or of MindSpeed-LLM; a row costs what it holds.

    Args:
      prefix: the path that all names begin with.
      packed: as in `write`.
      columns: which; by default those of the sidecar, else those of known names that are there.
      verify: hold all values to the sidecar's digests, which reads them once.

    Returns:
      A Ragged for every column, of one row count. `attention_mask` is what was written: segment
      ids, or ones.

    Raises:
      FileNotFoundError: if there is no such set.
      ValueError: if a file is missing, cut off or of another set than the rest or the sidecar.

    Example:
      >>> _ = write("x", {"text": Ragged.from_rows([[7, 8], [9]])}, packed=False)
      >>> read("x", packed=False)
      {'text': Ragged(2 rows, 3 int32 values)}
    """
    prefix = Path(prefix)
    path = _sidecar(prefix, packed)
    content = side.load(path)
    if verify and content is None:
        raise ValueError(f"indexed.read: verify=True needs the sidecar {path}, which is not there")
    there = list(content["columns"]) if content else _present(prefix, packed)
    names = there if columns is None else list(columns)
    if not names:
        raise FileNotFoundError(_nothing(prefix, packed))
    for name in names if content else ():
        if name not in there:
            raise ValueError(f"indexed.read: {path} lists no column {name!r}, but {there}")
    found = {name: read_pair(_pair(prefix, packed, name)).sequences for name in names}
    _check_groups(f"indexed.read: {prefix}", found)
    if content is not None:
        told = {name: c for name, c in content["columns"].items() if name in found}
        side.check(path, {**content, "columns": told}, found, verify=verify)
    return dict(found)


def sidecar(prefix: PathLike, *, packed: bool = True) -> dict[str, Any]:
    """What the sidecar of a set says: `format, rows, columns, counts, settings`.

    Raises:
      FileNotFoundError: if there is none.
    """
    path = _sidecar(Path(prefix), packed)
    content = side.load(path)
    if content is None:
        raise FileNotFoundError(f"indexed.sidecar: there is no file {path}")
    return content


def files_of(prefix: PathLike, columns: Iterable[str], *, packed: bool = True) -> list[Path]:
    """The files of a set of these columns, and its sidecar."""
    pairs = [_pair(Path(prefix), packed, name) for name in columns]
    made = [p.with_name(f"{p.name}.{end}") for p in pairs for end in ("bin", "idx")]
    return [*made, _sidecar(Path(prefix), packed)]


def _write_columns(
    folder: Path,
    prefix: Path,
    chunks: Iterable[tuple[dict[str, Ragged], Counts]],
    packed: bool,
    dtype: str,
    document_indices: Any,
) -> tuple[dict[str, dict[str, Any]], Counts]:
    """Stage a pair for every column. Gives rows, dtype, values and digest of each; the counts."""
    empty = {name: Ragged.from_rows([]) for name in TRIPLE} if packed else {}
    names: list[str] = []
    digests, files = {}, {}
    lengths: dict[str, list[np.ndarray]] = {}
    counts: Counts = {}
    rows = 0
    with ExitStack() as stack:
        for chunk, counted in _or_empty(chunks, empty):
            names = names or list(chunk)
            if list(chunk) != names:
                raise ValueError(f"indexed.write: a chunk has {list(chunk)}, the first has {names}")
            counts = merge_with(sum, counts, counted)
            for name, column in chunk.items():
                if name not in files:
                    path = folder / f"{_pair(prefix, packed, name).name}.bin"
                    files[name] = stack.enter_context(path.open("wb"))
                    digests[name], lengths[name] = hashlib.blake2b(digest_size=16), []
                where = f"indexed.write: {name}"
                append(files[name], column, dtype, where=where, row=rows, seen=digests[name].update)
                lengths[name].append(column.lengths.astype("<i4"))
            rows += len(column)
    documents = np.asarray(np.arange(rows + 1) if document_indices is None else document_indices)
    check_documents("indexed.write", documents, rows)
    told = {}
    for name in names:
        joined = np.concatenate(lengths[name])
        index = folder / f"{_pair(prefix, packed, name).name}.idx"
        write_index(index, [(joined, documents, None)], dtype)
        digests[name].update(joined.tobytes())
        values, digest = int(joined.sum(dtype=np.int64)), digests[name].hexdigest()
        told[name] = {"rows": rows, "dtype": dtype, "values": values, "digest": digest}
    return told, counts


def _or_empty(
    chunks: Iterable[tuple[dict[str, Ragged], Counts]], empty: dict[str, Ragged]
) -> Iterator[tuple[dict[str, Ragged], Counts]]:
    """The chunks; where there is none, an empty set."""
    none = True
    for chunk in chunks:
        none = False
        yield chunk
    if none:
        if not empty:
            raise ValueError("indexed.write: got no chunks, so which columns is not known")
        yield empty, {}


def _tokens(columns: Columns, attention_mask: str) -> dict[str, Ragged]:
    """The columns that go to files, in their names and order there."""
    where = "indexed.write"
    num_rows(where, columns)
    tokens = {
        name: as_ragged(f"{where}: {name}", column)
        for name, column in columns.items()
        if name not in (ORIGIN, "position_ids")
    }
    if not tokens:
        raise ValueError(f"{where}: got no columns")
    segments = tokens.pop("segment_ids", None)
    wanted = attention_mask != "none" and "attention_mask" not in tokens
    if wanted and "input_ids" in tokens:
        ids = tokens["input_ids"]
        if segments is None or attention_mask == "ones":
            segments = Ragged(np.ones(len(ids.flat), np.int32), ids.offsets - ids.offsets[0])
        tokens["attention_mask"] = segments
    elif segments is not None:
        raise ValueError(
            f"{where}: segment_ids become the attention_mask of input_ids; remove attention_mask "
            "or segment_ids"
        )
    _check_groups(where, tokens)
    known = [name for name in KNOWN[True] if name in tokens]
    return {name: tokens[name] for name in (*known, *(n for n in tokens if n not in known))}


def _check_groups(where: str, columns: Mapping[str, Ragged]) -> None:
    """All columns have as many rows, and those of one text as many tokens in every row."""
    num_rows(where, columns)
    for name, ids in IDS_OF.items():
        if name in columns and ids in columns:
            differ = columns[name].lengths != columns[ids].lengths
            if differ.any():
                row = int(differ.argmax())
                raise ValueError(
                    f"{where}: row {row} has {columns[ids].lengths[row]} {ids}, "
                    f"but {columns[name].lengths[row]} {name}; they must agree"
                )


def _present(prefix: Path, packed: bool) -> list[str]:
    """The known names of which there is a file."""
    pairs = {name: _pair(prefix, packed, name) for name in KNOWN[packed]}
    return [
        name for name, p in pairs.items() if any(Path(f"{p}.{e}").exists() for e in ("bin", "idx"))
    ]


def _nothing(prefix: Path, packed: bool) -> str:
    """What there is instead."""
    wanted = _pair(prefix, packed, KNOWN[packed][0])
    there = sorted(p.name for p in prefix.parent.glob("*_document.idx"))
    hint = nearest(f"{wanted.name}.idx", there) or (f"; there is {', '.join(there)}" * bool(there))
    return (
        f"indexed.read: there is no {wanted}.idx{hint}; for pretraining data pass packed=False and "
        "columns=[key]"
    )


def _pair(prefix: Path, packed: bool, name: str) -> Path:
    return prefix.with_name(f"{prefix.name}{'_packed' * packed}_{name}_document")


def _sidecar(prefix: Path, packed: bool) -> Path:
    return prefix.with_name(f"{prefix.name}{'_packed' * packed}_document.json")
