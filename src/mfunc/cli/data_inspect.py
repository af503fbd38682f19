r"""Look at data: rows, totals, one sample as text, lengths and packs as pictures.

  mfunc data inspect alpaca.json                       raw rows: columns, what is missing
  mfunc data inspect alpaca.json --style alpaca --template qwen \
      --tokenizer qwen/tokenizer.json --seq-length 4096 --plot pictures
  mfunc data inspect belle.mindrecord --tokenizer llama/tokenizer.model --sample 7
  mfunc data inspect finetune_dataset/alpaca           a prefix of .bin/.idx files

With a tokenizer one sample is decoded: on a terminal trained tokens are green and special tokens
inverse; else they stand in brackets, ⟦trained⟧ and ‹special›. --plot writes lengths.png and
pack.png; samples that are no packs are packed for it, if --seq-length says how long.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any


def options(parser: argparse.ArgumentParser) -> None:
    """The flags."""
    add = parser.add_argument
    add(
        "path",
        metavar="PATH",
        help="rows: a file, a folder or a pattern of any format that `read` takes; tokens: a "
        ".mindrecord, one .idx, or a prefix of .bin/.idx files",
    )
    add("--tokenizer", metavar="PATH", help="tokenizer.model, tokenizer.json or their folder")
    add(
        "--style", metavar="NAME", help="of rows: alpaca, sharegpt, openai, pairwise, belle or text"
    )
    add("--template", metavar="NAME", help="of rows: a name in mfunc.data.TEMPLATES, as qwen")
    add(
        "--map-function",
        metavar="NAME",
        help="of rows, in place of style and template: one of MindFormers', as vicuna",
    )
    add("--seq-length", type=int, metavar="S", help="of rows: say how they would pack")
    add(
        "--pad-id",
        type=int,
        metavar="ID",
        help="token of padding, where no mask tells (default: the tokenizer's, or as converted)",
    )
    add("--rows", type=int, default=5, metavar="N", help="rows of the table (default 5)")
    add("--sample", type=int, default=0, metavar="ROW", help="the row that is decoded (default 0)")
    add("--plot", metavar="FOLDER", help="write lengths.png and pack.png there")


def run(args: argparse.Namespace) -> int:
    """Print the page, and draw."""
    import mfunc.data as md

    rows = _is_rows(args.path)
    unused = {"style": args.style, "template": args.template, "map-function": args.map_function}
    if not rows and any(unused.values()):
        name = next(name for name, value in unused.items() if value)
        raise ValueError(f"--{name} is for rows, but {args.path} means tokens")
    if rows and args.tokenizer is None:
        _print_rows(args)
        return 0
    tokenizer = md.load_tokenizer(args.tokenizer) if args.tokenizer else None
    chunks = _tokenized(args, tokenizer) if rows else _tokens(args.path)
    _print_tokens(args, tokenizer, chunks)
    return 0


def _is_rows(path: str) -> bool:
    """Whether a path means rows; else tokens."""
    import glob

    from mfunc.data.sources.read import FORMATS

    if Path(path).suffix in (".mindrecord", ".idx", ".bin"):
        return False
    return (
        os.path.exists(path)
        or glob.has_magic(path)
        or any(suffix in FORMATS for suffix in Path(path).suffixes)
    )


# --- rows ---


def _print_rows(args: argparse.Namespace) -> None:
    """What the columns of rows hold, and how many rows are no conversations."""
    import mfunc.data as md
    from mfunc.cli.table import table

    if args.template or args.map_function or args.plot or args.seq_length:
        raise ValueError("to look at tokens of rows, pass --tokenizer")
    columns: dict[str, list[Any]] = {}
    rows, wrong = 0, []
    for chunk in md.read(args.path):
        for name in chunk:
            columns.setdefault(name, [None] * rows)
        if args.style:
            found = md.invalid_rows(chunk, style=args.style)
            wrong += [(chunk_row.partition("(")[2][:-1], why) for chunk_row, why in found]
        size = len(chunk["_origin"])
        for name, column in columns.items():
            column += [_size(value) for value in chunk.get(name, [None] * size)]
        rows += size
    del columns["_origin"]
    print(f"{args.path}: {rows:,} rows\n")
    lines = [(name, *_column(sizes)) for name, sizes in columns.items()]
    print(table(("column", "missing", "empty", "shortest", "mean", "longest"), lines))
    if args.style:
        print(f"\n{args.style}: {rows - len(wrong):,} conversations, {len(wrong):,} invalid rows")
        for where, reason in wrong[: args.rows]:
            print(f"  {where}: {reason}")


def _size(value: Any) -> int | None:
    """Characters of a text, items of a list; None for what is missing."""
    if value is None:
        return None
    return len(value) if isinstance(value, (str, list, dict)) else len(str(value))


def _column(sizes: list[int | None]) -> tuple[str, ...]:
    """How many are missing and empty, and how long the rest is."""
    there = [size for size in sizes if size is not None]
    full = [size for size in there if size] or [0]
    counts = (len(sizes) - len(there), there.count(0), min(full))
    return (*(f"{n:,}" for n in counts), f"{sum(full) / len(full):,.1f}", f"{max(full):,}")


def _tokenized(args: argparse.Namespace, tokenizer: Any) -> Iterator[Any]:
    """Rows as tokens, chunk by chunk."""
    import mfunc.data as md

    if bool(args.map_function) == bool(args.style):
        raise ValueError("rows need --style (and --template), or --map-function")
    if args.map_function:
        pieces = md.sft(args.map_function)
    elif args.style == "text":
        pieces = md.conversations(style="text")
    elif args.template is None:
        raise ValueError(f"--style {args.style} needs --template")
    else:
        pieces = md.chat(style=args.style, template=args.template)
    prepare = md.compose(md.tokenize(tokenizer), pieces)
    return (prepare(chunk) for chunk in md.read(args.path, chunk_rows=1024))


# --- tokens ---


def _tokens(path: str) -> Iterator[Any]:
    import mfunc.data as md

    return md.read_tokens(path)


def _pad_id(args: argparse.Namespace, tokenizer: Any, first: dict[str, Any]) -> int | None:
    """The token that is padding where no mask tells; of untrained tokens only, so no eos."""
    import mfunc.data as md

    own = getattr(tokenizer, "pad_id", None)
    if args.pad_id is not None or "labels" not in first or _is_rows(args.path):
        return args.pad_id
    reader = md.mindrecord if args.path.endswith(".mindrecord") else md.indexed
    try:
        told = reader.sidecar(args.path).get("settings", {}).get("pad_id")
    except FileNotFoundError:
        told = None
    return own if told is None else told


def _print_tokens(args: argparse.Namespace, tokenizer: Any, chunks: Iterable[Any]) -> None:
    """The table, the totals, one sample, the pictures."""
    from toolz import peek

    import mfunc.data as md

    try:
        first, chunks = peek(chunks)
    except StopIteration:
        raise ValueError(f"{args.path} has no rows") from None
    pad_id = _pad_id(args, tokenizer, first)
    sample: list[Any] = []
    found = md.statistics(_catching(chunks, args.sample, sample), pad_id=pad_id)
    if not sample:
        rows = len(found.segments)
        raise ValueError(f"--sample {args.sample}: there are the rows 0 to {rows - 1}")
    print(f"{args.path}\n\n{_table(first, args.rows, pad_id, tokenizer)}\n\n{found}")
    if args.seq_length is not None:
        print(_packed(found.lengths, args.seq_length))
    if tokenizer is not None:
        colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ
        marks = md.segments(sample[0], pad_id)[0]
        labels = sample[0]["labels"][0] if "labels" in sample[0] else None
        text = md.show(
            sample[0]["input_ids"][0], tokenizer, labels=labels, segment_ids=marks, colour=colour
        )
        print(f"\nrow {args.sample}\n{text}")
    if args.plot:
        for path in _draw(args, first, found, pad_id):
            print(f"\n{path}" if path.name == "lengths.png" else path)


def _catching(chunks: Iterable[Any], row: int, caught: list[Any]) -> Iterator[Any]:
    """The chunks; the row of that number goes to `caught` when it comes by."""
    from mfunc.data.columns import take_rows

    start = 0
    for chunk in chunks:
        size = len(chunk["input_ids"])
        if start <= row < start + size:
            caught.append(take_rows(chunk, slice(row - start, row - start + 1)))
        start += size
        yield chunk


def _table(first: dict[str, Any], rows: int, pad_id: int | None, tokenizer: Any) -> str:
    """The first rows."""
    import mfunc.data as md
    from mfunc.cli.table import table
    from mfunc.data.columns import take_rows

    lines = []
    for row in range(min(rows, len(first["input_ids"]))):
        one = take_rows(first, slice(row, row + 1))
        found, ids = md.statistics(one, pad_id=pad_id), one["input_ids"][0]
        labels = one["labels"][0] if "labels" in one else None
        numbers = (len(ids), found.tokens, int(found.trained.sum()), int(found.segments[0]))
        words = _around(ids, labels, tokenizer)
        lines.append((str(row), *(f"{n:,}" for n in numbers), words))
    return table(("row", "places", "tokens", "trained", "samples", "where training begins"), lines)


def _around(ids: Any, labels: Any, tokenizer: Any) -> str:
    """What stands where a row's first trained token is, in one short line."""
    import mfunc.data as md

    at = 0 if labels is None or not len(labels) else int((labels != -100).argmax())
    window = slice(max(0, at - 8), at + 12)
    if tokenizer is None:
        return " ".join(map(str, ids[window].tolist()))
    part = None if labels is None else labels[window]
    text = md.show(ids[window], tokenizer, labels=part).replace("\ufffd", "")  # cut characters
    return " ".join(text.split())


def _packed(lengths: Any, seq_length: int) -> str:
    """How the samples would pack."""
    import numpy as np

    import mfunc.data as md

    plan = md.pack_plan(np.minimum(lengths, seq_length), capacity=seq_length)
    fill = int(plan.lengths.sum()) / max(len(plan) * seq_length, 1)
    longer = int((lengths > seq_length).sum())
    note = f"; longer, and counted as cut: {longer:,}" * bool(longer)
    return f"{'packed':<10} to {seq_length:,}: {len(plan):,} rows, {fill:.2%} filled{note}"


def _draw(args: argparse.Namespace, first: Any, found: Any, pad_id: int | None) -> list[Path]:
    """The pictures."""
    import mfunc.data as md
    from mfunc import draw

    folder = Path(args.plot)
    trained = found.trained if "labels" in first else None
    count, rows = len(first["input_ids"]), first
    whole = "" if count == len(found.segments) else f"of the first {count:,} rows: "
    if args.seq_length is None:
        rows = {**first, "segment_ids": md.segments(first, pad_id)}
    else:
        rows = md.pack(args.seq_length, overlong="truncate")(md.samples(first, pad_id))
        whole = whole and f"the first {count:,} rows packed: "
    labels = _array(rows["labels"], -100) if "labels" in rows else None
    return [
        draw.lengths(folder / "lengths.png", found.lengths, trained, args.seq_length),
        draw.pack(folder / "pack.png", _array(rows["segment_ids"], 0), labels, title=whole),
    ]


def _array(column: Any, fill: int) -> Any:
    """Rows of one length."""
    import numpy as np

    if isinstance(column, np.ndarray):
        return column
    out = np.full((len(column), int(column.lengths.max())), fill)
    for row, values in zip(out, column, strict=True):
        row[: len(values)] = values
    return out
