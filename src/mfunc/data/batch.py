"""Order, number and grouping of rows: shuffle, batch, take, skip, repeat_to_multiple."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from mfunc.data.check import flag, integer, philox_key
from mfunc.data.columns import Columns, num_rows, take_rows
from mfunc.data.compose import Apply, Counts, transform


@transform
def shuffle(key_or_seed: Any) -> Apply:
    """Put the rows into a random order that depends on the key and their number alone.

    Args:
      key_or_seed: a seed (an integer 0..2**64 - 1) or a key (two uint32, as `mf.random.key(seed)`
        makes it). `key(seed)` is `[seed >> 32, seed & 0xffffffff]`: both give one order.

    Returns:
      A transform of columns. All columns move together.

    Raises:
      TypeError, ValueError: when built, for what is neither a seed nor a key.

    Laws:
      the same rows as a multiset; the same order in every process and on every platform.

    Example:
      >>> shuffle(0)({"text": ["a", "b", "c", "d"]})
      {'text': ['a', 'c', 'b', 'd']}

    Source:
      Philox4x64-10, Salmon et al. 2011 (doi:10.1145/2063384.2063405), by NumPy's raw bits.
    """
    key = philox_key("shuffle", "key_or_seed", key_or_seed)

    def apply(columns: Columns) -> Columns:
        random = np.random.Philox(key=key)
        return take_rows(columns, random_order(random, num_rows("shuffle", columns)))

    return apply


def random_order(random: np.random.Philox, rows: int) -> np.ndarray:
    """Numbers of rows in random order, the same for ever.

    Raw bits and a stable sort: these NumPy fixes, the methods of its Generator it does not.
    """
    return np.argsort(random.random_raw(rows), kind="stable")


@transform
def batch(size: int, *, drop_remainder: bool = False) -> Apply:
    """Cut columns into batches of `size` rows; the last step of a pipeline.

    Args:
      size: rows in a batch.
      drop_remainder: leave out a last batch of fewer rows. A compiled step recompiles for it
        otherwise.

    Returns:
      A function from columns to an iterator of columns; arrays are views, not copies.

    Raises:
      ValueError: when built, if `size < 1`.

    Laws:
      `concat(batch(k)(x)) == x`; with `drop_remainder`, the first `n // k * k` rows of x.

    Example:
      >>> [b["text"] for b in batch(2)({"text": ["a", "b", "c"]})]
      [['a', 'b'], ['c']]
    """
    integer("batch", "size", size, least=1)
    flag("batch", "drop_remainder", drop_remainder)

    def apply(columns: Columns) -> Iterator[Columns]:
        rows = num_rows("batch", columns)
        end = rows - rows % size if drop_remainder else rows
        return (take_rows(columns, slice(i, min(i + size, end))) for i in range(0, end, size))

    return apply


@transform
def take(n: int) -> Apply:
    """Keep the first n rows, or all if there are fewer.

    Laws:
      `take(n)` and `skip(n)` together are all rows.

    Example:
      >>> take(2)({"text": ["a", "b", "c"]})
      {'text': ['a', 'b']}
    """
    integer("take", "n", n, least=0)
    return lambda columns: take_rows(columns, slice(0, min(n, num_rows("take", columns))))


@transform
def skip(n: int) -> Apply:
    """Leave out the first n rows.

    Example:
      >>> skip(2)({"text": ["a", "b", "c"]})
      {'text': ['c']}
    """
    integer("skip", "n", n, least=0)
    return lambda columns: take_rows(columns, slice(min(n, num_rows("skip", columns)), None))


@transform
def repeat_to_multiple(multiple: int) -> Apply:
    """Repeat rows from the first on until their number is a multiple, so that every batch is full.

    The last step before `batch(multiple)` where dropping the remainder is not wanted. The rows
    that are trained twice are of the same split, and counted.

    Args:
      multiple: usually the global batch: rows of a step over all devices.

    Returns:
      A transform of columns. `counted` tells `rows, repeated`.

    Raises:
      ValueError: when built, if `multiple < 1`.

    Laws:
      idempotent; the rows given come first, unchanged; fewer than `multiple` are added; none to
      none.

    Example:
      >>> repeat_to_multiple(4)({"text": ["a", "b", "c", "d", "e"]})
      {'text': ['a', 'b', 'c', 'd', 'e', 'a', 'b', 'c']}

    Source:
      MindSpeed-LLM v2.1.0 `--padded-samples`, which takes the rows from document 0 for any split.
    """
    integer("repeat_to_multiple", "multiple", multiple, least=1)

    def apply(columns: Columns) -> tuple[Columns, Counts]:
        rows = num_rows("repeat_to_multiple", columns)
        more = -rows % multiple
        counts = {"rows": rows, "repeated": more}
        if not more:
            return dict(columns), counts
        return take_rows(columns, np.arange(rows + more) % rows), counts

    return apply
