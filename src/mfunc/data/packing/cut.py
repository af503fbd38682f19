"""Bring samples to a length: cut those that are too long, by one policy, and count it."""

from __future__ import annotations

import numpy as np

from mfunc.data.check import choice, integer
from mfunc.data.columns import IGNORED_LABEL, Columns, row_name, take_rows, token_columns
from mfunc.data.compose import Apply, Counts, transform
from mfunc.data.ragged import Ragged, offsets_of

POLICIES = ("error", "drop", "tail", "source_first", "proportional", "per_turn", "split")


@transform
def truncate(max_length: int, *, policy: str) -> Apply:
    """Make every sample at most `max_length` tokens long, in a way that is said, and counted.

    Source are the tokens with label -100, target those that are trained.

        max_length 6     source s1 s2 s3 s4 s5, target t1 t2 eos
        "tail"           s1 s2 s3 s4 s5 eos
        "source_first"   s1 s2 s5 t1 t2 eos      the source gives way first, in its middle
        "proportional"   s1 s2 s4 s5 t1 eos      both give way in proportion
        "split"          s1 s2 s3 s4 s5 t1 | t2 eos
        "per_turn"       s1 s2 s3 t1 t2 eos      MindSpeed's

    A cut sample keeps its last token (its eos). The source is cut in its middle, so that its
    beginning (bos, system) and its end (the header of the answer) stay; the target loses its tail.

    `"per_turn"` is there to agree with MindSpeed's `--neat-pack` and keeps none of these promises:
    each turn (a source and its target: the tokens whose label they are) is cut by `infer_seqlen`
    to `max_length`, both parts at their end; then the whole, at its end.

    Args:
      max_length: most tokens in a sample, at least 1.
      policy: `"error"`, `"drop"`, `"tail"`, `"source_first"`, `"proportional"` (a part that is
        less than half of `max_length` stays whole), `"per_turn"` or `"split"` (into consecutive
        samples).

    Returns:
      A transform of columns; all Ragged columns are cut alike. `counted` tells
      `samples, cut, dropped, split, tokens_lost`.

    Raises:
      ValueError: when built, for a setting out of range; on a longer sample with `"error"`; if
        `labels` are missing where the policy needs them.

    Laws:
      idempotent; no sample longer than `max_length`; shorter samples are unchanged; what is kept
      keeps its order; `"source_first"` loses no trained token while they fit.

    Example:
      >>> from mfunc.data import Ragged
      >>> long = {"input_ids": Ragged.from_rows([[5, 6, 7, 8, 2], [9, 2]])}
      >>> [row.tolist() for row in truncate(3, policy="tail")(long)["input_ids"]]
      [[5, 6, 2], [9, 2]]

    Source:
      the lengths of `"proportional"` are those of LLaMA-Factory >= 0.8.3 `infer_seqlen`;
      `"per_turn"` with `max_length = seq_length - 1` is MindSpeed-LLM v2.1.0 `--neat-pack`.
    """
    integer("truncate", "max_length", max_length, least=1)
    choice("truncate", "policy", policy, POLICIES)

    def apply(columns: Columns) -> tuple[Columns, Counts]:
        lengths = token_columns("truncate", columns)["input_ids"].lengths
        over = lengths > max_length
        counts = {"samples": len(lengths), "cut": 0, "dropped": 0, "split": 0, "tokens_lost": 0}
        if not over.any():
            return dict(columns), counts
        first, many = int(over.argmax()), int(over.sum())
        if policy == "error":
            raise ValueError(
                f"truncate: {row_name(columns, first)} has {lengths[first]} tokens but "
                f'max_length={max_length}; choose policy="drop", "tail", "source_first", '
                '"proportional", "per_turn" or "split"'
            )
        if policy == "drop":
            kept = take_rows(columns, ~over)
            return kept, {**counts, "dropped": many, "tokens_lost": int(lengths[over].sum())}
        if policy == "split":
            return _split(columns, lengths, max_length), {**counts, "split": many}
        lost = int((lengths[over] - max_length).sum())
        return _cut(columns, over, max_length, policy), {**counts, "cut": many, "tokens_lost": lost}

    return apply


def infer_seqlen(source: int, target: int, max_length: int) -> tuple[int, int]:
    """Tokens that stay of a source and of its target, `max_length` at most in both together.

    A part of less than half of `max_length` stays whole, else both give way in proportion.

    Laws:
      the sum is `min(source + target, max_length)`; no part grows.

    Example:
      >>> infer_seqlen(90, 20, 100), infer_seqlen(300, 100, 100)
      ((80, 20), (75, 25))

    Source:
      LLaMA-Factory >= 0.8.3 `infer_seqlen`, MindSpeed-LLM v2.1.0; their floating-point product.
    """
    if 2 * target < max_length:
        most = max_length
    elif 2 * source < max_length:
        most = max_length - source
    else:
        most = int(max_length * (target / (source + target)))
    kept = min(most, target)
    return min(max(max_length - kept, 0), source), kept


def infer_max_len(
    source: int, target: int, max_length: int, *, reserved: int = 1
) -> tuple[int, int]:
    """Bounds for a source and for its target, in proportion: the older formula.

    Args:
      source: tokens before.
      target: tokens that are trained.
      max_length: bound of both together.
      reserved: least bound of the target.

    Returns:
      most tokens of the source, most tokens of the target; what stays is the lesser of each.

    Example:
      >>> infer_max_len(90, 20, 100), infer_max_len(300, 100, 100)
      ((82, 18), (75, 25))

    Source:
      LLaMA-Factory < 0.8.3 `infer_max_len`, MindSpeed-LLM v2.1.0 (where its bound is 1,000,000).
    """
    most = max(int(max_length * (target / (source + target or 1))), reserved)
    return max_length - min(most, target), most


def _split(columns: Columns, lengths: np.ndarray, most: int) -> Columns:
    """Consecutive samples of at most `most` tokens; the other columns are repeated."""
    pieces = np.maximum(-(-lengths // most), 1)
    sample = np.repeat(np.arange(len(lengths)), pieces)
    begins = (np.arange(len(sample)) - np.repeat(offsets_of(pieces)[:-1], pieces)) * most
    sizes = np.minimum(lengths[sample] - begins, most)
    return {
        name: Ragged.from_windows(column.values, column.starts[sample] + begins, sizes)
        if isinstance(column, Ragged)
        else take_rows({name: column}, sample)[name]
        for name, column in columns.items()
    }


def _cut(columns: Columns, over: np.ndarray, most: int, policy: str) -> Columns:
    """Remove tokens of the samples that are over, all others unchanged."""
    if policy != "tail" and "labels" not in columns:
        raise ValueError(f"truncate: policy={policy!r} needs 'labels' to tell source from target")
    bounds = offsets_of(columns["input_ids"].lengths)
    keep = np.ones(bounds[-1], bool)
    for row in np.flatnonzero(over).tolist():
        kept = keep[bounds[row] : bounds[row + 1]]
        kept[:] = False
        if policy == "tail":
            kept[: most - 1] = kept[-1] = True
        elif policy == "per_turn":
            ids, labels = columns["input_ids"][row], columns["labels"][row]
            kept[_kept_per_turn(ids, labels, most)] = True
        else:
            trained = columns["labels"][row] != IGNORED_LABEL
            kept[_kept_tokens(trained, most, policy)] = True
    offsets = offsets_of(np.where(over, most, np.diff(bounds)))
    return {
        name: Ragged(column.flat[keep], offsets) if isinstance(column, Ragged) else column
        for name, column in columns.items()
    }


def _kept_tokens(trained: np.ndarray, most: int, policy: str) -> np.ndarray:
    """Places of the tokens that stay: the ends of the source, the head of the target, the last."""
    source, target = np.flatnonzero(~trained), np.flatnonzero(trained)
    last_is_target = int(trained[-1])
    wanted = _target_length(len(source), len(target), most, policy)
    targets = min(max(wanted, last_is_target), most - 1 + last_is_target)
    sources = most - targets
    tail = max(sources // 2, 1 - last_is_target)
    return np.concatenate(
        [
            source[: sources - tail],
            source[len(source) - tail :],
            target[: max(targets - 1, 0)],
            target[len(target) - min(targets, 1) :],
        ]
    )


def _target_length(source: int, target: int, most: int, policy: str) -> int:
    """How many trained tokens stay of a sample with `source + target > most` tokens."""
    return min(target, most) if policy == "source_first" else infer_seqlen(source, target, most)[1]


def _kept_per_turn(ids: np.ndarray, labels: np.ndarray, most: int) -> np.ndarray:
    """Places of the tokens that stay: the heads of both parts of every turn, the first `most`.

    A turn begins behind a target, and with a token whose label is another (see `efficient_eos`),
    which tells even where the answer before is empty.
    """
    target = ids == labels
    falls = np.flatnonzero(np.diff(target.astype(np.int8), prepend=1) == -1)
    begins = np.union1d([0, *falls], np.flatnonzero((labels != IGNORED_LABEL) & ~target))
    kept = []
    for begin, end in zip(begins.tolist(), [*begins[1:].tolist(), len(target)], strict=True):
        targets = int(target[begin:end].sum())
        sources = end - begin - targets
        source, tail = infer_seqlen(sources, targets, most)
        kept += [*range(begin, begin + source), *range(begin + sources, begin + sources + tail)]
    return np.array(kept[:most])
