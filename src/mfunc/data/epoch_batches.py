"""Batches for training: shuffled anew in every epoch, and reached again from their number alone."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import attrs
import numpy as np

from mfunc.data.batch import random_order
from mfunc.data.check import flag, integer, philox_key
from mfunc.data.columns import Columns, num_rows, take_rows
from mfunc.data.compose import Transform
from mfunc.data.packing.pack import pack
from mfunc.data.packing.plan import shuffle_rows
from mfunc.data.packing.steps import packing


class _Epoch(NamedTuple):
    """How many rows an epoch has, and how to make those from one number to another."""

    rows: int
    build: Callable[[int, int], Columns]


_Plan = Callable[[np.random.Philox], _Epoch]


def epochs(
    columns: Columns,
    *,
    seed: Any,
    size: int,
    prepare: Callable[[Columns], Columns] | None = None,
    collate: Callable[[Columns], Columns] | None = None,
    epochs: int | None = None,
    start: int = 0,
    drop_remainder: bool = True,
) -> Iterator[Columns]:
    """Yield batches of rows in random order, epoch after epoch, from any batch on.

        rows   --shuffled-->   prepare   --its rows shuffled-->   size at a time   -->   collate

    The position in this stream is one integer, the number of batches taken: that many in, a run
    that is resumed with `start` gets the batches that it would have got.

    Args:
      columns: the rows of the data.
      seed: an integer or a key.
      size: rows in a batch.
      prepare: makes the rows of an epoch from the rows of the data, as `pack(...)` does. A bare
        `pack` is only planned: a batch builds its own rows, and an epoch that is skipped none.
        (What its `overlong` does is then done once, before the first epoch.) Another function is
        called in every epoch, also in those that are skipped.
      collate: what is done to a batch, as `pad_to_divisor(...)`.
      epochs: how many; by default without end.
      start: how many batches have been taken before.
      drop_remainder: leave out the last batch of an epoch if it has fewer rows.

    Yields:
      Columns of `size` rows. At most one epoch is in memory, beside the data.

    Raises:
      TypeError, ValueError: at once for a wrong setting or no rows; at the first batch if an epoch
        has fewer rows than a batch, or there are fewer batches than `start`.

    Laws:
      an epoch is a function of (columns, settings, seed, its number); `start=n` gives what is left
      of the stream after n batches; every row stands in an epoch once (but for a remainder).

    Example:
      >>> columns = {"n": np.arange(5)}
      >>> [batch["n"].tolist() for batch in epochs(columns, seed=0, size=2, epochs=2)]
      [[0, 2], [1, 4], [3, 2], [4, 1]]
      >>> next(epochs(columns, seed=0, size=2, start=3))["n"].tolist()
      [4, 1]

    Source:
      Philox4x64-10 as in `shuffle`: the key's low word is the seed, its high word the epoch, so
      that the rows of epoch 0 are those of `shuffle(seed)`.
    """
    key = philox_key("epochs", "seed", seed)
    integer("epochs", "size", size, least=1)
    integer("epochs", "start", start, least=0)
    flag("epochs", "drop_remainder", drop_remainder)
    if epochs is not None:
        integer("epochs", "epochs", epochs, least=1)
    for name, function in (("prepare", prepare), ("collate", collate)):
        if function is not None and not callable(function):
            raise TypeError(f"epochs: {name} must be a function of columns, got {function!r}")
    if not num_rows("epochs", columns):
        raise ValueError("epochs: there are no rows, so there are no batches")
    planned = _plan_of(columns, prepare)
    if prepare is None and drop_remainder:
        _count(num_rows("epochs", columns), size, 0, drop_remainder)
    numbers = itertools.count() if epochs is None else range(epochs)
    return _stream(planned, key, numbers, size, collate, start, drop_remainder)


def count_batches(
    columns: Columns,
    *,
    seed: Any,
    size: int,
    epochs: int,
    prepare: Callable[[Columns], Columns] | None = None,
    drop_remainder: bool = True,
) -> int:
    """Return how many batches `epochs` yields with the same settings; it plans every epoch.

    Raises:
      TypeError, ValueError: as `epochs`.

    Laws:
      `count_batches(x, **given) == len(list(epochs(x, **given)))`.

    Example:
      >>> count_batches({"n": np.arange(5)}, seed=0, size=2, epochs=2)
      4
    """
    key = philox_key("count_batches", "seed", seed)
    integer("count_batches", "size", size, least=1)
    integer("count_batches", "epochs", epochs, least=1)
    planned = _plan_of(columns, prepare)
    rows = (planned(np.random.Philox(key=n << 64 | key)).rows for n in range(epochs))
    return sum(_count(count, size, n, drop_remainder) for n, count in enumerate(rows))


def _stream(
    planned: _Plan,
    key: int,
    numbers: Any,
    size: int,
    collate: Callable[[Columns], Columns] | None,
    start: int,
    drop_remainder: bool,
) -> Iterator[Columns]:
    left = start
    for number in numbers:
        epoch = planned(np.random.Philox(key=number << 64 | key))
        count = _count(epoch.rows, size, number, drop_remainder)
        for i in range(min(left, count), count):
            batch = epoch.build(i * size, min((i + 1) * size, epoch.rows))
            yield batch if collate is None else collate(batch)
        left = max(0, left - count)
        del epoch  # before the next one is made
    if left:
        raise ValueError(
            f"epochs: start={start}, but {len(numbers)} epochs have {start - left} batches"
        )


def _count(rows: int, size: int, number: int, drop_remainder: bool) -> int:
    """The number of batches of an epoch, which has one."""
    if rows == 0 or (drop_remainder and rows < size):
        raise ValueError(
            f"epochs: epoch {number} has {rows} rows but size={size}, so it has no batch; take a "
            "smaller size, or drop_remainder=False"
        )
    return rows // size if drop_remainder else -(-rows // size)


def _plan_of(columns: Columns, prepare: Callable[[Columns], Columns] | None) -> _Plan:
    rows = num_rows("epochs", columns)
    if isinstance(prepare, Transform) and prepare.builder is pack:
        return _packed(columns, prepare.settings)

    def plan(random: np.random.Philox) -> _Epoch:
        order = random_order(random, rows)
        if prepare is None:
            return _Epoch(rows, lambda start, stop: take_rows(columns, order[start:stop]))
        made = prepare(take_rows(columns, order))
        again = random_order(random, num_rows("epochs: the result of prepare", made))
        return _Epoch(len(again), lambda start, stop: take_rows(made, again[start:stop]))

    return plan


def _packed(columns: Columns, settings: Mapping[str, Any]) -> _Plan:
    """The same, with no row built before its batch."""
    steps = packing(**settings)
    samples, _ = steps.shorten(columns)
    lengths = samples["input_ids"].lengths

    def plan(random: np.random.Philox) -> _Epoch:
        order = random_order(random, len(lengths))
        made = steps.plan(lengths[order])
        made = shuffle_rows(attrs.evolve(made, order=order[made.order]), random)
        return _Epoch(len(made), lambda start, stop: steps.build(made, samples, start, stop))

    return plan
