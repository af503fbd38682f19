"""Packing as one writes it first, in Python lists."""

from __future__ import annotations


def next_fit(ids: list, labels: list, size: int) -> list:
    """The next sample goes into the open row, or into a new one."""
    packed: list = [([], [], [], [])]
    for one, label in zip(ids, labels, strict=True):
        if len(packed[-1][0]) + len(one) > size:
            packed.append(([], [], [], []))
        segments = packed[-1][2]
        parts = one, label, [1 + (segments[-1] if segments else 0)] * len(one), range(len(one))
        for column, part in zip(packed[-1], parts, strict=True):
            column.extend(part)
    for row in packed:
        for column, fill in zip(row, (0, -100, 0, 0), strict=True):
            column.extend([fill] * (size - len(column)))
    return packed
