"""Checks of settings: each returns the value, or says what was seen and what is allowed."""

from __future__ import annotations

import difflib
import operator
from collections.abc import Iterable
from typing import Any

import numpy as np


def nearest(name: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` for the closest known name, or nothing.

    Example:
      >>> nearest("seq_lenght", ["seq_length", "pad_id"])
      "; did you mean 'seq_length'?"
    """
    close = difflib.get_close_matches(str(name), list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def integer(where: str, name: str, value: Any, *, least: int, most: int | None = None) -> int:
    """An int in [least, most]; a bool or a float is not one.

    Example:
      >>> integer("pack", "seq_length", 0, least=1)
      Traceback (most recent call last):
      ValueError: pack: seq_length must be an integer >= 1, got 0
    """
    allowed = f">= {least}" if most is None else f"in {least}..{most}"
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or isinstance(value, bool):
        seen = f"a {type(value).__name__}" if isinstance(value, (dict, list)) else repr(value)
        raise TypeError(f"{where}: {name} must be an integer {allowed}, got {seen}")
    if number < least or (most is not None and number > most):
        raise ValueError(f"{where}: {name} must be an integer {allowed}, got {number}")
    return number


def choice(where: str, name: str, value: Any, allowed: Iterable[str]) -> str:
    """One of the allowed names.

    Example:
      >>> choice("pack", "overlong", "cut", ["error", "drop"])
      Traceback (most recent call last):
      ValueError: pack: overlong must be one of 'error', 'drop', got 'cut'
    """
    allowed = list(allowed)
    if not isinstance(value, str) or value not in allowed:
        listed = ", ".join(map(repr, allowed))
        hint = nearest(value, allowed) if isinstance(value, str) else ""
        raise ValueError(f"{where}: {name} must be one of {listed}, got {value!r}{hint}")
    return value


def flag(where: str, name: str, value: Any) -> bool:
    """True or False, nothing that merely behaves like one."""
    if not isinstance(value, bool):
        raise TypeError(f"{where}: {name} must be True or False, got {value!r}")
    return value


def philox_key(where: str, name: str, value: Any) -> int:
    """The 64 bits of a seed (an integer) or of a key (two uint32): `key(seed)` is its seed.

    Example:
      >>> philox_key("shuffle", "key_or_seed", np.array([1, 2], np.uint32)) == (1 << 32 | 2)
      True
    """
    if np.ndim(value) == 0:
        return integer(where, name, value, least=0, most=2**64 - 1)
    words = np.asarray(value)
    if words.shape != (2,) or words.dtype != np.uint32:
        raise ValueError(
            f"{where}: a key is two uint32, as mf.random.key(seed) makes it; "
            f"got {words.dtype} of shape {words.shape}"
        )
    return int(words[0]) << 32 | int(words[1])
