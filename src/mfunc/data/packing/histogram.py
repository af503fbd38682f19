"""Planning on the histogram of lengths: which lengths share a row, and then which samples.

Three ideas make planning nearly free in plain NumPy.

1. Only lengths matter, and there are few distinct ones, so all works on the histogram.
2. Rows that are filled alike are one *operation*: "in each of the rows `first ... first + rows`,
   after `before` samples, put `each` samples of length `length`". Alpaca's 51,000 samples in rows
   of 2,048 are about 1,600 operations. They are spread to samples by `np.repeat`, all at once.
3. The set of lengths (or of free spaces) is one Python integer, bit i set for i. "The largest that
   fits", "the tightest that holds it", "two that add up to r" are then each one shift and mask.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np

from mfunc.data.ragged import offsets_of

# (first row, rows, samples before in each row, samples each, length): see the module's docstring.
Operation = tuple[int, int, int, int, int]


def count_lengths(sizes: np.ndarray) -> dict[int, int]:
    """Count of every length but 0, the longest first."""
    counts = np.bincount(sizes)
    lengths = np.flatnonzero(counts)[::-1]
    return {
        n: count for n, count in zip(lengths.tolist(), counts[lengths].tolist(), strict=True) if n
    }


def best_fit(counts: dict[int, int], capacity: int, most: int) -> list[Operation]:
    """Best-fit-decreasing on groups of identical rows, kept by their free space.

    The fullest row that holds a sample is fuller still with it, so it takes samples of this length
    until the next does not fit: a whole group is filled by one operation.
    """
    groups: dict[int, list[tuple[int, int, int]]] = {}  # free -> (first row, rows, samples in each)
    free_set, rows, operations = 0, 0, []
    for length, count in counts.items():
        left = count
        while left:
            fitting = free_set >> length
            if fitting:
                free = length + (fitting & -fitting).bit_length() - 1
                first, size, held = groups[free].pop()
                if not groups[free]:
                    free_set ^= 1 << free
            else:
                free, first, size, held = capacity, rows, left, 0
            each = min(free // length, most - held)
            used = min(size, left // each)
            if not used:  # fewer than fill one row
                used, each = 1, left
            left -= used * each
            operations.append((first, used, held, each, length))
            rows = max(rows, first + used)
            rest = (first + used, size - used, held) if fitting else (0, 0, 0)
            for space, group in (
                (free, rest),
                (free - each * length, (first, used, held + each)),
            ):
                if group[1] and space and group[2] < most:
                    groups.setdefault(space, []).append(group)
                    free_set |= 1 << space
    return operations


def fill_rows(
    counts: dict[int, int], capacity: int, most: int, choose: Callable[..., dict[int, int]]
) -> list[Operation]:
    """Choose the content of one row, then repeat that row while there are samples for it."""
    counts = dict(counts)
    available = sum(1 << length for length in counts)
    mirror = sum(1 << (capacity - length) for length in counts)
    first, operations = 0, []
    while available:
        row = choose(counts, available, mirror, capacity, most)
        rows = min(counts[length] // each for length, each in row.items())
        before = 0
        for length, each in sorted(row.items(), reverse=True):
            operations.append((first, rows, before, each, length))
            before += each
            counts[length] -= rows * each
            if not counts[length]:
                available ^= 1 << length
                mirror ^= 1 << (capacity - length)
        first += rows
    return operations


def greedy(
    counts: dict[int, int], available: int, mirror: int, free: int, most: int
) -> dict[int, int]:
    """The largest that fits, again and again: first-fit-decreasing, seen from one row."""
    row: dict[int, int] = {}
    while most and (fitting := available & ((2 << free) - 1)):
        length = fitting.bit_length() - 1
        row[length] = each = min(counts[length], free // length, most)
        available ^= 1 << length
        free -= each * length
        most -= each
    return row


def exact(
    counts: dict[int, int], available: int, mirror: int, free: int, most: int
) -> dict[int, int]:
    """The largest that fits until hardly two more would; then two or three that fill the rest."""
    capacity, room = free, 2 * ((available & -available).bit_length() - 1)
    row: dict[int, int] = {}
    while most and (fitting := available & ((2 << free) - 1)):
        length = fitting.bit_length() - 1
        chosen: tuple[int, ...] = ()
        if length < free < length + room:
            pairs = mirror >> (capacity - free)  # bit i: a sample of length free - i exists
            chosen = _close(counts, row, available, pairs, free, most)
        # While more than `room` is left there is nothing to close: all alike are taken at once.
        alike = min(counts[length] - row.get(length, 0), (free - room) // length, most)
        for taken, each in ((n, 1) for n in chosen) if chosen else ((length, max(alike, 1)),):
            row[taken] = row.get(taken, 0) + each
            if row[taken] == counts[taken]:
                available ^= 1 << taken
            free -= each * taken
            most -= each
    return row


def _close(
    counts: dict[int, int], row: dict[int, int], available: int, pairs: int, free: int, most: int
) -> tuple[int, ...]:
    """Two lengths of exactly `free` tokens, or three (with one of the 8 longest); or nothing."""

    def two(total: int, used: int) -> tuple[int, ...]:
        both = available & (pairs >> (free - total))
        while both:
            long = both.bit_length() - 1
            short = total - long
            if short > long:
                break
            wanted = Counter((long, short, used))
            if all(counts.get(n, 0) - row.get(n, 0) >= k for n, k in wanted.items() if n):
                return long, short
            both ^= 1 << long
        return ()

    found = two(free, 0) if most >= 2 else ()
    longest = available & ((1 << free) - 1) if most >= 3 and not found else 0
    for _ in range(8):
        if not longest or found:
            break
        third = longest.bit_length() - 1
        longest ^= 1 << third
        pair = two(free - third, third)
        found = (third, *pair) if pair else ()
    return found


def row_count(operations: list[Operation]) -> int:
    """How many rows the operations fill."""
    return max((first + rows for first, rows, *_ in operations), default=0)


def spread(
    operations: list[Operation], sizes: np.ndarray, capacity: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Give every operation its samples: the longest first, of equals the last sample first.

    Returns:
      the sample of every place, its length, and where rows start among the places.
    """
    narrow = sizes.astype(np.uint16) if capacity < 65_536 else sizes  # 16 bits sort by radix
    ranked = np.argsort(narrow, kind="stable")[::-1][: np.count_nonzero(sizes)]
    index: Any = np.int32 if max(len(sizes), capacity) < 2**31 else np.int64
    table = np.array(operations, index).reshape(-1, 5)
    table = table[np.argsort(-table[:, 4], kind="stable")]
    taken = table[:, 1] * table[:, 3]
    first, _, before, each, length = (np.repeat(column, taken) for column in table.T)
    nth = np.arange(len(ranked), dtype=index)
    nth -= np.repeat(offsets_of(taken)[:-1].astype(index), taken)
    in_row, slot = np.divmod(nth, each)
    row = first + in_row
    row_starts = offsets_of(np.bincount(row))
    place = row_starts.astype(index)[row] + before + slot
    order, lengths = np.empty_like(place), np.empty_like(place)
    order[place], lengths[place] = ranked, length
    return order, lengths, row_starts
