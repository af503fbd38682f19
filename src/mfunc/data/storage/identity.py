"""What a value is, as plain data: for sidecars to tell, and for keys to be made of.

Two values with one description do the same. A value that cannot promise this, such as a function
or an object without `digest`, is refused by name.
"""

from __future__ import annotations

import datetime
import hashlib
import json
from collections.abc import Mapping
from typing import Any

import attrs
import numpy as np
from toolz.functoolz import Compose

from mfunc.data.columns import ORIGIN, num_rows
from mfunc.data.compose import Transform
from mfunc.data.ragged import Ragged


def plain(value: Any, where: str = "value") -> Any:
    """A value as JSON has it: None, bool, int, float, str, lists, and dicts with text keys.

    Args:
      value: plain data, paths apart; a time; an array; a transform or a composition of them; a
        frozen attrs value such as a `Template` (by the fields that its equality compares); anything
        else that has a `digest`, such as a tokenizer.
      where: how errors call it.

    Raises:
      TypeError: naming the part that has no stable identity.

    Laws:
      equal transforms have equal descriptions, and `json.loads(json.dumps(d)) == d`.

    Example:
      >>> from mfunc.data import truncate
      >>> plain(truncate(8, policy="drop"))
      {'transform': 'mfunc.data.packing.cut.truncate', 'max_length': 8, 'policy': 'drop'}
      >>> plain({"key": len})
      Traceback (most recent call last):
      TypeError: value.key: <built-in function len> has no stable identity; use plain data, a
      transform, a frozen attrs value, or an object with a text `digest`
    """
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Compose):
        return [plain(step, where) for step in (value.first, *value.funcs)]
    if isinstance(value, Transform):
        return {"transform": _name(value.builder), **_fields(value.settings, where)}
    if isinstance(value, Mapping):
        return _fields(value, where)
    if isinstance(value, (list, tuple)):
        return [plain(item, f"{where}[{i}]") for i, item in enumerate(value)]
    if isinstance(value, (set, frozenset)):
        return sorted((plain(item, where) for item in value), key=repr)
    if isinstance(value, datetime.datetime):
        return value.isoformat()
    if isinstance(value, np.generic):
        return plain(value.item(), where)
    return _described(value, where)


def fingerprint(columns: Mapping[str, Any]) -> str:
    """What rows hold, as 32 hexadecimal digits: in a run's config it refuses other data by name.

    Args:
      columns: any; the column of origins does not count.

    Raises:
      TypeError: for a value in a list that is not plain data.

    Laws:
      equal columns have equal fingerprints, however they lie in memory.

    Example:
      >>> fingerprint({"n": np.arange(3)}) == fingerprint({"n": np.arange(6)[:3]})
      True
      >>> fingerprint({"n": np.arange(3)}) == fingerprint({"n": np.arange(4)})
      False
    """
    rows = num_rows("fingerprint", columns)
    told = {
        name: [{"lengths": column.lengths, "values": column.flat}, "Ragged"]
        if isinstance(column, Ragged)
        else column
        for name, column in sorted(columns.items())
        if name != ORIGIN
    }
    text = json.dumps([rows, plain(told, "fingerprint")], sort_keys=True)
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def _described(value: Any, where: str) -> Any:
    """What is not plain data."""
    if isinstance(value, (np.ndarray, bytes)):
        array = np.frombuffer(value, np.uint8) if isinstance(value, bytes) else value
        if array.dtype.kind != "O":
            digest = hashlib.blake2b(array.tobytes(), digest_size=16).hexdigest()
            return {"array": array.dtype.str, "shape": list(array.shape), "digest": digest}
    elif attrs.has(type(value)):
        compared = {f.name: getattr(value, f.name) for f in attrs.fields(type(value)) if f.eq}
        if compared:
            return {"class": _name(type(value)), **_fields(compared, where)}
    elif isinstance(getattr(value, "digest", None), str):
        return {"class": _name(type(value)), "digest": value.digest}
    raise TypeError(
        f"{where}: {value!r} has no stable identity; use plain data, a transform, a frozen attrs "
        "value, or an object with a text `digest`"
    )


def _fields(fields: Mapping[Any, Any], where: str) -> dict[str, Any]:
    for name in fields:
        if not isinstance(name, str):
            raise TypeError(f"{where}: the key {name!r} is not text, so it has no place in JSON")
    return {name: plain(value, f"{where}.{name}") for name, value in fields.items()}


def _name(thing: Any) -> str:
    return f"{thing.__module__}.{thing.__qualname__}"
