"""Any set of tokens as ids, labels and mask: what `diff` compares."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mfunc.data.check import integer
from mfunc.data.columns import Columns, concat, kinds, num_rows, take_rows
from mfunc.data.ragged import Ragged
from mfunc.data.storage import indexed, mindrecord
from mfunc.data.storage.pair import PathLike, as_ragged

COLUMNS = ("input_ids", "labels", "attention_mask", "segment_ids")
NAMES = {"ids": "input_ids", "labels": "labels", "mask": "mask"}

TokenSet = dict[str, Ragged]  # ids, and labels and mask if there are any


def token_set(where: str, value: Any) -> tuple[str, TokenSet]:
    """What to call it, and its columns, of one length in every row.

    Args:
      where: for errors.
      value: columns, or the prefix of `.bin/.idx` files, one `.idx`, a `.mindrecord`, or a `.json`
        or `.jsonl` of id lists or of rows with `input_ids`.

    Raises:
      ValueError: if there are no ids, or the columns do not agree.
    """
    given = isinstance(value, Mapping)
    shown, columns = ("columns", value) if given else (str(value), _load(where, Path(value)))
    num_rows(where, columns)
    if "input_ids" not in columns and len(columns) == 1:  # pretraining text
        columns = {"input_ids": next(iter(columns.values()))}
    if "input_ids" not in columns:
        raise ValueError(f"{where} has no input_ids, but {kinds(columns)}; choose the column")
    masks = [m for m in ("segment_ids", "attention_mask") if m in columns]
    names = {"ids": "input_ids", "labels": "labels", "mask": (masks or ["mask"])[0]}
    side = {key: as_ragged(where, columns[c]) for key, c in names.items() if c in columns}
    for key, column in side.items():
        wrong = column.lengths != side["ids"].lengths
        if wrong.any():
            row = int(wrong.argmax())
            raise ValueError(
                f"{where}: row {row} has {side['ids'].lengths[row]} input_ids, but "
                f"{column.lengths[row]} {names[key]}; they must agree"
            )
    return shown, side


def read_tokens(path: PathLike, *, chunk_rows: int = 1024) -> Iterator[Columns]:
    """Read a file of tokens of any kind, chunk by chunk.

    Args:
      path: the prefix of `.bin/.idx` files, one `.idx`, a `.mindrecord`, or a `.json` or `.jsonl`
        of id lists or of rows with `input_ids`; JSON is read whole.
      chunk_rows: rows in a chunk; the last may have fewer.

    Returns:
      Iterator of columns, Ragged: `input_ids`, and `labels` and `attention_mask` if there are any.
      Of pretraining text its one column is `input_ids`.

    Raises:
      FileNotFoundError: at once, if there is no such file.
      ValueError: at once, if it is damaged, or holds other columns.

    Example:
      >>> _ = indexed.write("x", {"text": Ragged.from_rows([[7, 8], [9]])}, packed=False)
      >>> list(read_tokens("x"))
      [{'input_ids': Ragged(2 rows, 3 int32 values)}]
    """
    path = Path(path)
    integer("read_tokens", "chunk_rows", chunk_rows, least=1)
    if path.suffix == mindrecord.SUFFIX:
        return mindrecord.read(path, chunk_rows=chunk_rows)
    columns = _load("read_tokens", path)
    if "input_ids" not in columns and len(columns) == 1:
        columns = {"input_ids": next(iter(columns.values()))}
    if "input_ids" not in columns:
        raise ValueError(f"read_tokens: {path} has no input_ids, but {kinds(columns)}")
    rows = num_rows("read_tokens", columns)
    return (take_rows(columns, slice(i, i + chunk_rows)) for i in range(0, rows, chunk_rows))


def _load(where: str, path: Path) -> Mapping[str, Any]:
    """Columns of a path, by its suffix."""
    if path.suffix == mindrecord.SUFFIX:
        chunks = list(mindrecord.read(path))
        return concat(chunks) if chunks else {"input_ids": Ragged.from_rows([])}
    if path.suffix in (".json", ".jsonl"):
        return _json(where, path)
    if path.suffix in (".idx", ".bin"):
        return {"input_ids": indexed.read_pair(path.with_suffix("")).sequences}
    try:
        return indexed.read(path)
    except FileNotFoundError:
        return indexed.read(path, packed=False)


def _json(where: str, path: Path) -> Mapping[str, Any]:
    """Rows of ids, or of objects with ids; or one object of columns."""
    try:
        text = path.read_text(encoding="utf-8-sig")
        lines = [line for line in text.splitlines() if line.strip()]
        data = [json.loads(line) for line in lines] if path.suffix == ".jsonl" else json.loads(text)
        if isinstance(data, list) and all(isinstance(row, Mapping) for row in data) and data:
            data = {name: [row[name] for row in data] for name in data[0] if name in COLUMNS}
        columns = data if isinstance(data, Mapping) else {"input_ids": data}
        return {n: Ragged.from_rows(rows) for n, rows in columns.items() if n in COLUMNS}
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(
            f"{where}: {path} is not a list of id lists, nor of rows with input_ids: {error}"
        ) from error
