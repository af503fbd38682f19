"""Rows of parquet and arrow files (IPC file or stream) by pyarrow, one record batch at a time."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from mfunc.data.ragged import import_pyarrow
from mfunc.data.sources.streams import on_disk

BATCH = 1024  # rows turned into Python values at once, at most
BUFFER = 1 << 20  # bytes read at once from a column of a parquet file

Batches = Callable[[str, int], Iterator[Any]]


def parquet_rows(path: Path, *, chunk_rows: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """(place, row) of a parquet file; values as pyarrow turns them into Python's, null is None."""
    return _rows(path, _parquet, min(chunk_rows, BATCH))


def arrow_rows(path: Path, *, chunk_rows: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """(place, row) of an arrow file or stream, likewise."""
    return _rows(path, _ipc, min(chunk_rows, BATCH))


def _rows(path: Path, batches: Batches, step: int) -> Iterator[tuple[str, dict[str, Any]]]:
    number = 0
    for names, rows in _parts(path, batches, step):
        twice = [name for name in names if names.count(name) > 1]
        if twice:
            raise ValueError(f"read: {path} has two columns {twice[0]!r}; rename one")
        for row in rows:
            number += 1
            yield f"row {number}", row


def _parts(
    path: Path, batches: Batches, step: int
) -> Iterator[tuple[list[str], list[dict[str, Any]]]]:
    """(column names, at most `step` rows); one kind of error for whatever damage does to pyarrow.

    A batch is validated, as pyarrow itself would follow wrong offsets beyond its memory.
    """
    import_pyarrow()
    with on_disk(path) as name:
        if not os.path.getsize(name):
            raise ValueError(f"read: {path} is empty")
        try:
            for batch in batches(name, step):
                batch.validate(full=True)
                for start in range(0, batch.num_rows, step):
                    yield batch.schema.names, batch.slice(start, step).to_pylist()
        except Exception as error:
            reason = str(error).split("\n")[0] or type(error).__name__
            raise ValueError(
                f"read: {path} cannot be read ({reason}); is it cut off or damaged?"
            ) from error


def _parquet(name: str, step: int) -> Iterator[Any]:
    from pyarrow import parquet

    options = {"pre_buffer": False, "buffer_size": BUFFER, "page_checksum_verification": True}
    with parquet.ParquetFile(name, **options) as file:
        count = 0
        for batch in file.iter_batches(step, use_threads=False):
            count += batch.num_rows
            yield batch
        if count != file.metadata.num_rows:
            raise ValueError(f"{count} rows instead of {file.metadata.num_rows}")


def _ipc(name: str, _step: int) -> Iterator[Any]:
    """The file is mapped: of a batch, only what is used comes into memory."""
    import pyarrow

    with pyarrow.memory_map(name) as source:
        if source.read(6) == b"ARROW1":
            reader = pyarrow.ipc.open_file(source)
            yield from map(reader.get_batch, range(reader.num_record_batches))
        else:
            source.seek(0)
            yield from pyarrow.ipc.open_stream(source)
