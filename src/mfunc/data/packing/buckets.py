"""Batches of samples of like length, so that padding to the longest of a batch costs little."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import attrs
import numpy as np

from mfunc.data.check import flag, integer, philox_key
from mfunc.data.columns import Columns, take_rows, token_columns
from mfunc.data.compose import Apply, Counts, transform


@attrs.frozen(eq=False, repr=False)
class BatchPlan:
    """Which samples are in which batch: batch i is `order[starts[i]:starts[i + 1]]`.

    Args:
      order: sample numbers, int64.
      starts: where each batch begins in `order`, and where the last ends, int64 [batches + 1].
    """

    order: np.ndarray
    starts: np.ndarray

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, index: int) -> np.ndarray:
        batch = range(len(self))[index]
        return self.order[self.starts[batch] : self.starts[batch + 1]]

    def slots(self, lengths: Any, *, divisor: int = 1, remainder: int = 0) -> int:
        """Tokens and padding of all batches, each as long as its longest sample, rounded up.

        Args:
          lengths: of all samples, as the plan was made for.
          divisor: each length is the smallest `divisor * k + remainder` that holds the longest.
          remainder: 0..divisor - 1.
        """
        integer("slots", "divisor", divisor, least=1)
        integer("slots", "remainder", remainder, least=0, most=divisor - 1)
        if not len(self):
            return 0
        longest = np.maximum.reduceat(np.asarray(lengths)[self.order], self.starts[:-1])
        return int(((longest + (remainder - longest) % divisor) * np.diff(self.starts)).sum())

    def __repr__(self) -> str:
        return f"BatchPlan({len(self.order)} samples in {len(self)} batches)"


def length_batches(
    lengths: Any,
    size: int,
    *,
    key_or_seed: Any,
    window: int | None = None,
    drop_remainder: bool = False,
) -> BatchPlan:
    """Decide which samples share a batch: alike in length, else at random.

    The samples are shuffled, as `shuffle(key_or_seed)` does. Every `window` batches of them are
    sorted by length and cut into batches, and the batches are shuffled.

        lengths [9 8 1 2], size 2   ->   batches [1 0] [2 3]

    Samples that do not fill a batch (the last of the shuffled ones, so as likely short as long)
    make the last one.

    Args:
      lengths: tokens of every sample, integers [n].
      size: samples in a batch.
      key_or_seed: as for `shuffle`; another one each epoch.
      window: batches that are sorted together; None for all. The larger, the less padding, and the
        less random is who meets whom in a batch.
      drop_remainder: leave out the last batch if it is not full.

    Returns:
      A `BatchPlan`: 8 bytes per sample. It is no state: to resume at batch i, begin at `plan[i]`.

    Raises:
      TypeError, ValueError: for a setting out of range, or lengths that are not integers >= 0.

    Laws:
      every sample once, but for those dropped; for whatever divisor and remainder no more `slots`
      than `batch(size)` of `shuffle(key_or_seed)` has; and, if all batches are full and
      `window=None`, no more than any batches of that size.

    Example:
      >>> plan = length_batches([9, 8, 1, 2], 2, key_or_seed=0)
      >>> [batch.tolist() for batch in plan], plan.slots([9, 8, 1, 2])
      ([[1, 0], [2, 3]], 22)

    Source:
      the idea of `group_by_length` in Hugging Face transformers.
    """
    integer("length_batches", "size", size, least=1)
    flag("length_batches", "drop_remainder", drop_remainder)
    if window is not None:
        integer("length_batches", "window", window, least=1)
    key = philox_key("length_batches", "key_or_seed", key_or_seed)
    sizes = np.asarray(lengths)
    if sizes.ndim != 1 or (len(sizes) and (sizes.dtype.kind not in "iu" or sizes.min() < 0)):
        raise ValueError("length_batches: lengths must be integers >= 0 on one axis")
    full = len(sizes) // size
    bits = np.random.Philox(key=key).random_raw(len(sizes) + full)
    order = np.argsort(bits[: len(sizes)], kind="stable")  # that of shuffle
    head = order[: full * size]
    windows = np.arange(len(head)) // (size * (window or max(full, 1)))
    head = head[np.lexsort((sizes[head], windows))].reshape(full, size)
    head = head[np.argsort(bits[len(sizes) :], kind="stable")]
    rest = order[len(order) if drop_remainder else full * size :]
    starts = np.arange(full + 1) * size
    if len(rest):
        starts = np.append(starts, len(order))
    return BatchPlan(np.concatenate([head.reshape(-1), rest]), starts)


@transform
def batch_by_length(
    size: int,
    *,
    key_or_seed: Any,
    window: int | None = None,
    drop_remainder: bool = False,
    start: int = 0,
) -> Apply:
    """Cut samples into batches of like length, in a random order: less padding than by chance.

    Args:
      size: samples in a batch.
      key_or_seed: as for `shuffle`; another one each epoch.
      window: batches that are sorted together, see `length_batches`; None for all.
      drop_remainder: leave out a last batch of fewer samples.
      start: the first batch to give, for going on where a run ended; none before it is built.

    Returns:
      A function from columns with Ragged `input_ids` to an iterator of columns. `counted` tells
      `samples, batches, dropped, tokens, slots` and `shuffled_slots`: tokens and padding of all
      batches when each is padded to its longest, and what `batch` of `shuffle` would have had.

    Raises:
      ValueError: when built, for a setting out of range; if there are no Ragged `input_ids`; if
        there are not `start` batches.

    Laws:
      every sample once; the batches from `start` are the last of all; `slots <= shuffled_slots`.

    Example:
      >>> from mfunc.data import Ragged, counted, pad_to_divisor
      >>> samples = {"input_ids": Ragged.from_rows([[1] * n for n in (9, 8, 1, 2)])}
      >>> batches, counts = counted(batch_by_length(2, key_or_seed=0), samples)
      >>> [pad_to_divisor(4)(batch)["input_ids"].shape for batch in batches]
      [(2, 12), (2, 4)]
      >>> counts["batch_by_length.slots"], counts["batch_by_length.shuffled_slots"]
      (22, 34)
    """
    integer("batch_by_length", "start", start, least=0)
    settings = {"key_or_seed": key_or_seed, "drop_remainder": drop_remainder}
    length_batches([], size, window=window, **settings)  # refuses what is wrong at once

    def apply(columns: Columns) -> tuple[Iterator[Columns], Counts]:
        lengths = token_columns("batch_by_length", columns)["input_ids"].lengths
        plan = length_batches(lengths, size, window=window, **settings)
        if start > len(plan):
            raise ValueError(f"batch_by_length: start={start}, but there are {len(plan)} batches")
        counts = {
            "samples": len(lengths),
            "batches": len(plan),
            "dropped": len(lengths) - len(plan.order),
            "tokens": int(lengths[plan.order].sum()),
            "slots": plan.slots(lengths),
            "shuffled_slots": length_batches(lengths, size, window=1, **settings).slots(lengths),
        }
        return (take_rows(columns, plan[i]) for i in range(start, len(plan))), counts

    return apply
