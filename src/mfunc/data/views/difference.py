"""Where two sets of tokens differ, and why: alignment of ours with another program's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Any

import attrs
import numpy as np

from mfunc.data.check import integer
from mfunc.data.columns import IGNORED_LABEL
from mfunc.data.ragged import Ragged
from mfunc.data.views.cause import (
    Change,
    Row,
    Special,
    change,
    content,
    decoded,
    ids_cause,
    labels_cause,
    mask_cause,
)
from mfunc.data.views.token_set import NAMES, TokenSet, token_set

EXPLAINED = 1000  # rows whose cause is looked for
AROUND = (6, 10)  # tokens shown before and behind the first that differs


@attrs.frozen
class RowDifference:
    """One row that differs.

    Args:
      row: its number.
      column: the first of `input_ids`, `labels`, `mask` that differs.
      position: of the first token that differs.
      cause: the one mistake that explains the row, or "unknown".
      tokens: of a and of b: what stands around the position in that column.
      texts: of a and of b: the ids around it, decoded; None without a tokenizer.
    """

    row: int
    column: str
    position: int
    cause: str
    tokens: tuple[tuple[int, ...], tuple[int, ...]]
    texts: tuple[str | None, str | None]


@attrs.frozen
class Difference:
    """What `diff` found; `str(difference)` is a page, and it is false if there is none.

    Args:
      names: of a and of b.
      rows: how many a has, and b.
      differ: rows that differ in `input_ids`, `labels`, `mask`; only columns that both have.
      causes: how often each cause explains one of the first 1,000 rows that differ.
      first: the first rows that differ.
    """

    names: tuple[str, str]
    rows: tuple[int, int]
    differ: Mapping[str, int]
    causes: Mapping[str, int]
    first: tuple[RowDifference, ...]

    @property
    def compared(self) -> int:
        """Rows that both have."""
        return min(self.rows)

    @property
    def missing(self) -> tuple[int, int]:
        """Rows that a lacks, and b."""
        return max(self.rows[1] - self.rows[0], 0), max(self.rows[0] - self.rows[1], 0)

    def __bool__(self) -> bool:
        return any(self.differ.values()) or self.rows[0] != self.rows[1]

    def __str__(self) -> str:
        counted = ", ".join(f"{name} in {count}" for name, count in self.differ.items())
        lines = [
            *(f"{s}: {n}, {r} rows" for s, n, r in zip("ab", self.names, self.rows, strict=True)),
            f"{self.compared} rows compared; rows that differ: {counted}",
            *(f"{s} lacks {m} rows" for s, m in zip("ab", self.missing, strict=True) if m),
        ]
        if self.causes:
            looked = sum(self.causes.values())
            lines.append(f"causes of the first {looked} rows that differ:")
            lines += [f"  {count:>6}  {cause}" for cause, count in self.causes.items()]
        for found in self.first:
            where = f"row {found.row}, {found.column}, position {found.position}"
            lines += ["", f"{where}: {found.cause}"]
            for side, tokens, text in zip("ab", found.tokens, found.texts, strict=True):
                lines.append(f"  {side}  {' '.join(map(str, tokens))}")
                lines += [] if text is None else [f"     {text!r}"]
        return "\n".join(lines)


def diff(a: Any, b: Any, tokenizer: Any = None, *, limit: int = 5) -> Difference:
    """Compare two sets of tokens, row by row, and name the likely cause of what differs.

        a  1 450 322 2     b  450 322 2      ->  row 0, input_ids, position 0: bos missing in b

    A cause is named only if undoing that one mistake makes the whole row equal. Named are: bos or
    eos missing, extra or doubled; another system text; spaces; another pad, extra padding; what is
    trained; labels shifted by one; another kind of mask; truncated rows; rows in another order.

    Args:
      a: columns with `input_ids`, and perhaps `labels` and `segment_ids` or `attention_mask`
        (Ragged or [n, S]); or a path: the prefix of `.bin/.idx` files, one `.idx`, a `.mindrecord`,
        or a `.json` or `.jsonl` of id lists or of rows `{"input_ids": [...], "labels": [...]}`.
      b: the same.
      tokenizer: tells special tokens and decodes; without it spaces and texts are not compared, and
        bos and eos are what all rows begin and end with.
      limit: how many of the rows that differ are shown.

    Returns:
      A `Difference`.

    Raises:
      ValueError: if a side has no ids, or its columns do not agree.

    Laws:
      `diff(x, x)` is false; `diff(a, b).differ == diff(b, a).differ`.

    Example:
      >>> a = {"input_ids": Ragged.from_rows([[1, 7, 8, 2], [1, 9, 2]])}
      >>> b = {"input_ids": Ragged.from_rows([[7, 8, 2], [9, 2]])}
      >>> found = diff(a, b)
      >>> dict(found.differ), dict(found.causes)
      ({'input_ids': 2}, {'bos missing in b': 2})
    """
    integer("diff", "limit", limit, least=0)
    (name_a, side_a), (name_b, side_b) = token_set("diff: a", a), token_set("diff: b", b)
    columns = [name for name in NAMES if name in side_a and name in side_b]
    rows = len(side_a["ids"]), len(side_b["ids"])
    wrong = {name: _differing(side_a[name], side_b[name]) for name in columns}
    any_wrong = np.unique(np.concatenate(list(wrong.values())))
    explained = any_wrong[: max(EXPLAINED, limit)].tolist()
    causes = dict(zip(explained, _causes(side_a, side_b, explained, tokenizer), strict=True))
    early = {name: set(found[: len(causes)].tolist()) for name, found in wrong.items()}
    first = {r: next(name for name in columns if r in early[name]) for r in explained[:limit]}
    return Difference(
        names=(name_a, name_b),
        rows=rows,
        differ={NAMES[name]: len(found) for name, found in wrong.items()},
        causes=dict(Counter(causes[row] for row in explained[:EXPLAINED]).most_common()),
        first=tuple(
            _shown(side_a, side_b, row, name, causes[row], tokenizer) for row, name in first.items()
        ),
    )


def _causes(a: TokenSet, b: TokenSet, rows: list[int], tokenizer: Any) -> Iterator[str]:
    """The cause of every row that differs."""
    if not rows:
        return
    special = _special(a, b, rows[0], tokenizer)
    pairs = [_samples(_row(a, row), _row(b, row)) for row in rows]
    common = _system_changes(pairs, special)
    elsewhere = _elsewhere(a["ids"], b["ids"])
    repacked = _same_samples(a, b)
    for row, (row_a, row_b) in zip(rows, pairs, strict=True):
        if not np.array_equal(row_a.ids, row_b.ids):
            moved = "" if _same_tokens(_row(a, row), _row(b, row)) else elsewhere(row) or repacked
            yield moved or ids_cause(row_a, row_b, special, tokenizer, common)
        elif row_a.labels is not None and not np.array_equal(row_a.labels, row_b.labels):
            yield labels_cause(row_a, row_b, special)
        else:
            yield mask_cause(row_a, row_b)


def _same_tokens(a: Row, b: Row) -> bool:
    """Whether the rows differ in padding alone, as their masks tell."""
    if a.mask is None or b.mask is None or not np.array_equal(a.mask, b.mask):
        return False
    return np.array_equal(a.ids[a.mask != 0], b.ids[b.mask != 0])


def _samples(a: Row, b: Row) -> tuple[Row, Row]:
    """Of two packed rows the sample in which the ids first differ; other rows as they are."""
    for row in (a, b):
        if row.mask is None or len(row.mask) != len(row.ids) or row.mask.max(initial=0) < 2:
            return a, b
    at = change(a.ids, b.ids).at
    if at >= min(len(a.ids), len(b.ids)) or not (a.mask[at] and b.mask[at]):
        return a, b
    chosen = [row.mask == row.mask[at] for row in (a, b)]
    if chosen[0].argmax() != chosen[1].argmax():
        return a, b
    cut = [
        Row(row.ids[c], None if row.labels is None else row.labels[c], None)
        for row, c in zip((a, b), chosen, strict=True)
    ]
    return cut[0], cut[1]


def _row(side: TokenSet, row: int) -> Row:
    return Row(side["ids"][row], *(side[n][row] if n in side else None for n in ("labels", "mask")))


def _shown(
    a: TokenSet, b: TokenSet, row: int, name: str, cause: str, tokenizer: Any
) -> RowDifference:
    """What a row shows of its first difference."""
    at = change(a[name][row], b[name][row]).at
    window = slice(max(0, at - AROUND[0]), at + AROUND[1])
    texts = [decoded(tokenizer, side["ids"][row][window]) for side in (a, b)]
    return RowDifference(
        row=row,
        column=NAMES[name],
        position=at,
        cause=cause,
        tokens=(tuple(a[name][row][window].tolist()), tuple(b[name][row][window].tolist())),
        texts=(texts[0], texts[1]),
    )


def _differing(a: Ragged, b: Ragged) -> np.ndarray:
    """Numbers of the rows that differ; blocks that are the same cost one comparison."""
    found: list[int] = []
    for start in range(0, min(len(a), len(b)), 4096):
        stop = min(start + 4096, len(a), len(b))
        x, y = a[start:stop], b[start:stop]
        if x != y:
            pairs = zip(x, y, strict=True)
            found += [start + i for i, (r, s) in enumerate(pairs) if not np.array_equal(r, s)]
    return np.array(found, np.int64)


def _system_changes(pairs: list[tuple[Row, Row]], special: Special) -> set[Change]:
    """Changes that are the same, at the same place, in at least half of the rows; not trained."""
    changes: dict[Change, set[bytes]] = {}
    for a, b in pairs:
        if np.array_equal(a.ids, b.ids):
            continue
        x, y = content(a, special), content(b, special)
        found = change(x, y)
        trained = [
            row.labels is not None
            and (row.labels[found.at : found.at + len(part)] != IGNORED_LABEL).any()
            for row, part in ((a, found.a), (b, found.b))
        ]
        bos = found.at == 0 and max(len(found.a), len(found.b)) == 1
        if not bos and not any(trained):
            changes.setdefault(found, set()).add(x.tobytes())
    return {c for c, rows in changes.items() if len(rows) > 1 and 2 * len(rows) >= len(pairs)}


def _special(a: TokenSet, b: TokenSet, row: int, tokenizer: Any) -> Special:
    """What the tokenizer says; without one, the token more in `row` that all rows begin with."""
    if tokenizer is not None:
        return Special(*(_token(tokenizer, name) for name in Special._fields))
    x, y = a["ids"][row].tolist(), b["ids"][row].tolist()
    found: list[int | None] = []
    for end, second in ((0, 1), (-1, -2)):
        token = None
        for side, more, fewer in ((a, x, y), (b, y, x)):
            if len(more) > 1 and fewer and more[second] == fewer[end]:
                rows = [r for r in islice(side["ids"], EXPLAINED) if len(r)]
                if len({r.tobytes() for r in rows}) > 1 and {int(r[end]) for r in rows} == {
                    more[end]
                }:
                    token = more[end]
        found.append(token)
    return Special(found[0], found[1], None)


def _token(tokenizer: Any, name: str) -> int | None:
    """A special token's id, if the tokenizer has it."""
    found = getattr(tokenizer, f"{name}_id", None)
    if found is None and callable(getattr(tokenizer, "token_id", None)):
        try:
            found = tokenizer.token_id(name)
        except (KeyError, ValueError):
            return None
    return found


def _hashes(rows: Ragged) -> np.ndarray:
    return np.fromiter((hash(row.astype(np.int64).tobytes()) for row in rows), np.int64, len(rows))


def _elsewhere(a: Ragged, b: Ragged) -> Callable[[int], str]:
    """A function that says whether the rows of that number stand elsewhere on the other side."""
    of_a, of_b = _hashes(a), _hashes(b)
    sorted_a, sorted_b = np.sort(of_a), np.sort(of_b)

    def within(value: np.int64, values: np.ndarray) -> bool:
        at = int(np.searchsorted(values, value))
        return at < len(values) and values[at] == value

    def cause(row: int) -> str:
        in_b, in_a = within(of_a[row], sorted_b), within(of_b[row], sorted_a)
        if in_a and in_b and len(a[row]) and len(b[row]):
            return "rows in another order"
        if in_a and not in_b and len(a) > len(b) and len(b[row]):
            return "row missing in b"
        if in_b and not in_a and len(b) > len(a) and len(a[row]):
            return "row missing in a"
        return ""

    return cause


def _same_samples(a: TokenSet, b: TokenSet) -> str:
    """Packed rows hold the same samples, in other rows."""
    hashed = []
    for side in (a, b):
        if "mask" not in side or side["mask"].flat.max(initial=0) < 2:
            return ""
        ids, mask = side["ids"], side["mask"].flat
        edges = np.zeros(len(mask), bool)
        edges[1:] = mask[1:] != mask[:-1]
        edges[side["mask"].starts[side["mask"].lengths > 0] - side["mask"].offsets[0]] = True
        starts = np.flatnonzero(edges)
        samples = Ragged(ids.flat, np.append(starts, len(mask)))
        hashed.append(np.sort(_hashes(samples[mask[starts] != 0])))
    return "same samples in other packs" if np.array_equal(hashed[0], hashed[1]) else ""
