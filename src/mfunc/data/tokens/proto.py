"""What a SentencePiece model file says and the package's own interface does not tell.

The package's reader of the format needs protobuf, which it does not bring along; the format is four
kinds of fields, each behind its number.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import attrs

MODEL, NORMALIZER = 2, 3  # fields of ModelProto; 1 is a piece
UNIGRAM, BPE = 1, 2
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED = range(1, 6)  # kinds of pieces; 6 is a byte


@attrs.frozen
class Facts:
    """Of a model: how it encodes, what its normalizer does, its pieces (as messages, unread)."""

    is_bpe: bool
    space_is_suffix: bool
    byte_fallback: bool
    maps_characters: bool
    dummy_prefix: bool
    removes_spaces: bool
    escapes_spaces: bool
    pieces: tuple[bytes, ...]

    def spelt(self, *kinds: int) -> list[str]:
        """Pieces of some kinds, with a plain space for the space symbol."""
        pieces = (dict(_fields(piece)) for piece in self.pieces)
        return [p[1].decode().replace("▁", " ") for p in pieces if p.get(3, NORMAL) in kinds]


def model_facts(content: bytes) -> Facts:
    """Read a model file.

    Raises:
      ValueError: if it is not one.
    """
    merged: dict[int, dict[int, Any]] = {MODEL: {}, NORMALIZER: {}}
    pieces = []
    for number, value in _fields(content):
        if number == 1:
            pieces.append(value)
        elif number in merged:
            merged[number].update(_fields(value))  # messages of one number are merged
    model, normalizer = merged[MODEL], merged[NORMALIZER]
    return Facts(
        is_bpe=model.get(3, UNIGRAM) == BPE,
        space_is_suffix=bool(model.get(24, 0)),
        byte_fallback=bool(model.get(35, 0)),
        maps_characters=bool(normalizer.get(2, b"")),
        dummy_prefix=bool(normalizer.get(3, 1)),
        removes_spaces=bool(normalizer.get(4, 1)),
        escapes_spaces=bool(normalizer.get(5, 1)),
        pieces=tuple(pieces),
    )


def _fields(message: bytes) -> Iterator[tuple[int, Any]]:
    """Number and value of every field of a message: an integer, or bytes."""
    place = 0
    while place < len(message):
        tag, place = _varint(message, place)
        kind = tag & 7
        if kind == 0:
            value, place = _varint(message, place)
            yield tag >> 3, value
            continue
        if kind == 2:
            size, place = _varint(message, place)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
        else:
            raise ValueError(f"model_facts: byte {place} begins a field of unknown kind {kind}")
        if place + size > len(message):
            raise ValueError(f"model_facts: the field at byte {place} goes beyond the end")
        yield tag >> 3, message[place : place + size]
        place += size


def _varint(message: bytes, place: int) -> tuple[int, int]:
    """An integer of 7 bits a byte, the lowest first, and the place behind it."""
    value = 0
    for i, byte in enumerate(message[place : place + 10]):
        value |= (byte & 127) << (7 * i)
        if byte < 128:
            return value, place + i + 1
    raise ValueError(f"model_facts: the number at byte {place} does not end")
