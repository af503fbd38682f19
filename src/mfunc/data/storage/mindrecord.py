"""MindRecord files of `input_ids` and `labels`, as MindFormers reads them.

int32 of any length; a record of a static data set has S + 1 tokens, of which its models feed the
first S and predict the last S. MindSpore is imported when a file is read or written, not before.
A MindRecord is two files, `x.mindrecord` and its index `x.mindrecord.db`; the sidecar
`x.mindrecord.json` (`sidecar.py`) stands beside them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from toolz import merge_with

from mfunc.data.check import integer
from mfunc.data.columns import Columns, token_columns
from mfunc.data.compose import Counts, counted_chunks
from mfunc.data.ragged import Ragged
from mfunc.data.storage import sidecar as side
from mfunc.data.storage.pair import PathLike, as_ragged
from mfunc.data.storage.whole import publish, staged

NAMES = ("input_ids", "labels")
SUFFIX = ".mindrecord"


def write(
    path: PathLike,
    columns: Any,
    *,
    seq_length: int | None = None,
    settings: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Write a MindRecord, whole or not at all, and a sidecar.

    Args:
      path: the file, `*.mindrecord`. MindSpore writes the name into the file, so it can be moved
        but not renamed.
      columns: `input_ids`, and `labels` if there are any: Ragged, or arrays [n, S]. Or an iterable
        of such dicts, or of pairs (columns, counts) as `counted` gives them; one is in memory at a
        time. Other columns are left out.
      seq_length: S; if given, every row must have S + 1 tokens.
      settings: for the sidecar: transforms, templates, tokenizers (by digest), plain data.

    Returns:
      The sidecar: `format, rows, columns, counts, settings`.

    Raises:
      ValueError: naming the row, if it is empty (MindSpore would lose it) or not of S + 1 tokens.

    Source:
      MindFormers `llama_preprocess.py`: the same schema.
    """
    path = Path(path)
    if path.suffix != SUFFIX:
        raise ValueError(f"mindrecord.write: {path} must end with {SUFFIX}")
    if seq_length is not None:
        integer("mindrecord.write", "seq_length", seq_length, least=1)
    with staged(path) as folder:
        content = _write(folder / path.name, columns, seq_length, settings)
        beside, mark = f"{path.name}.json", f"{path.name}.db"
        side.dump(folder / beside, content)
        publish(folder, path.parent, files=[path.name, beside], marks=[mark])
    return content


def read(
    path: PathLike, *, seq_length: int | None = None, chunk_rows: int = 8192
) -> Iterator[Columns]:
    """Read a MindRecord, chunk by chunk; with a sidecar, hold it to that.

    Args:
      path: the file.
      seq_length: S; if given, every row must have S + 1 tokens.
      chunk_rows: rows in a chunk; the last may have fewer.

    Returns:
      Iterator of columns: `input_ids`, and `labels` if there are any, Ragged int32. No rows give no
      chunk.

    Raises:
      FileNotFoundError: at once, if there is no such file.
      ValueError: at once, if it is not a whole MindRecord with `input_ids`, or has another number
        of rows than its sidecar says; while reading, if a row is not of S + 1 tokens.
    """
    path = Path(path)
    integer("mindrecord.read", "chunk_rows", chunk_rows, least=1)
    if seq_length is not None:
        integer("mindrecord.read", "seq_length", seq_length, least=1)
    if not path.is_file():
        raise FileNotFoundError(f"mindrecord.read: there is no file {path}")
    reader = _reader(path)
    schema = reader.schema()
    names = [name for name in NAMES if name in schema]
    if "input_ids" not in names:
        raise ValueError(f"mindrecord.read: {path} has no input_ids, but {', '.join(schema)}")
    content = side.load(Path(f"{path}.json"))
    if content is not None and content.get("rows") != reader.len():
        raise ValueError(
            f"mindrecord.read: {path}.json tells of {content.get('rows')!r} rows, but the file has "
            f"{reader.len()}; they are not of one writing: write again, or delete the JSON"
        )
    return _read(reader, path, names, seq_length, chunk_rows)


def sidecar(path: PathLike) -> dict[str, Any]:
    """What the sidecar of a MindRecord says.

    Raises:
      FileNotFoundError: if there is none.
    """
    content = side.load(Path(f"{path}.json"))
    if content is None:
        raise FileNotFoundError(f"mindrecord.sidecar: there is no file {path}.json")
    return content


def _write(
    path: Path, columns: Any, seq_length: int | None, settings: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Write the two files; the sidecar's content."""
    writer: Any = None
    names: list[str] = []
    digests, lengths = {}, {}
    counts: Counts = {}
    rows = 0
    for chunk, counted in counted_chunks(columns):
        tokens = _tokens(chunk, rows, seq_length)
        counts = merge_with(sum, counts, counted)
        if writer is None:
            names = list(tokens)
            writer = _writer(path, names)
            digests = {name: hashlib.blake2b(digest_size=16) for name in names}
            lengths = {name: [np.zeros(0, "<i4")] for name in names}
        elif list(tokens) != names:
            raise ValueError(f"mindrecord.write: a chunk has {list(tokens)}, the first has {names}")
        for name, column in tokens.items():
            digests[name].update(np.ascontiguousarray(column.flat, "<i4").data)
            lengths[name].append(column.lengths.astype("<i4"))
        pairs = zip(*tokens.values(), strict=True)
        while block := [dict(zip(names, row, strict=True)) for row in islice(pairs, 1024)]:
            writer.write_raw_data(block)
        rows += len(tokens["input_ids"])
    if writer is None:
        raise ValueError("mindrecord.write: got no chunks, so which columns is not known")
    writer.commit()
    told = {}
    for name in names:
        joined = np.concatenate(lengths[name])
        digests[name].update(joined.tobytes())
        values = int(joined.sum(dtype=np.int64))
        told[name] = {"dtype": "int32", "values": values, "digest": digests[name].hexdigest()}
    return side.describe(told, rows, counts, settings)


def _tokens(columns: Columns, row: int, seq_length: int | None) -> dict[str, Ragged]:
    """The columns to be written, checked."""
    where = "mindrecord.write"
    kept = {n: as_ragged(f"{where}: {n}", columns[n]) for n in NAMES if n in columns}
    tokens = token_columns(where, kept)
    lengths = tokens["input_ids"].lengths
    if (lengths == 0).any():
        empty = row + int((lengths == 0).argmax())
        raise ValueError(f"{where}: row {empty} is empty, and MindRecord would lose it; drop it")
    _check_length(where, lengths, row, seq_length)
    return tokens


def _check_length(where: str, lengths: np.ndarray, row: int, seq_length: int | None) -> None:
    """Every row has S + 1 tokens."""
    if seq_length is not None and (lengths != seq_length + 1).any():
        wrong = int((lengths != seq_length + 1).argmax())
        raise ValueError(
            f"{where}: row {row + wrong} has {lengths[wrong]} tokens, but seq_length={seq_length} "
            f"needs {seq_length + 1}: the model feeds all but the last, and predicts all but the "
            "first"
        )


def _read(
    reader: Any, path: Path, names: list[str], seq_length: int | None, size: int
) -> Iterator[Columns]:
    """Columns of so many rows at a time."""
    rows = reader.get_next()
    row = 0
    try:
        while block := list(islice(rows, size)):
            columns = {
                n: Ragged.from_rows([r[n].reshape(-1) for r in block], np.int32) for n in names
            }
            _check_length(f"mindrecord.read: {path}", columns["input_ids"].lengths, row, seq_length)
            row += len(block)
            yield columns
    finally:
        reader.close()


def _writer(path: Path, names: list[str]) -> Any:
    """MindSpore's writer of one file with int32 columns of any length."""
    writer = _mindrecord().FileWriter(str(path), shard_num=1)
    writer.add_schema({name: {"type": "int32", "shape": [-1]} for name in names}, "tokens")
    return writer


def _reader(path: Path) -> Any:
    """MindSpore's reader, or what is wrong with the file."""
    try:
        return _mindrecord().FileReader(str(path))
    except RuntimeError as error:
        reason = next((line for line in str(error).splitlines() if "ERROR" in line), str(error))
        raise ValueError(
            f"mindrecord.read: {path} is not a whole MindRecord ({reason.strip()[:200]}); it needs "
            f"its {path.name}.db beside it, and the name that it was written under"
        ) from error


def _mindrecord() -> Any:
    """MindSpore's module, when it is needed."""
    import mindspore.mindrecord

    return mindspore.mindrecord
