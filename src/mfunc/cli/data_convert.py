r"""Convert rows to conversations, and rows or tokens to files of tokens.

  mfunc data convert --input school_math.jsonl --from belle --to conversations \
      --output belle.json
  mfunc data convert --input belle.json --from conversations --to mindrecord \
      --tokenizer llama/tokenizer.model --seq-length 2048 --output belle.mindrecord

The first writes {"id": "bellemath1", "conversations": [{"from": "human", "value": ...}, ...]}; the
second records of 2049 tokens, `input_ids` and `labels`, which MindFormers' MindDataset reads. One
step does both: --from belle --to mindrecord. Further:

  --from wikitext --to mindrecord      paragraphs end to end, cut at every S + 1 tokens
  --from tokens --to indexed           a MindRecord to .bin/.idx files, and the other way

The output is there whole or not at all. A row that cannot be converted is an error that names it.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

TARGETS = {  # what may become of what
    "belle": ("conversations", "mindrecord", "indexed"),
    "alpaca": ("conversations", "mindrecord", "indexed"),
    "conversations": ("mindrecord", "indexed"),
    "wikitext": ("mindrecord", "indexed"),
    "tokens": ("mindrecord", "indexed"),
}
CHUNK = 1024  # rows in memory


FLAGS = {  # those of some ways only
    "tokenizer": ("PATH", "tokenizer.model, tokenizer.json or their folder"),
    "seq_length": (
        "S",
        "rows of S + 1 tokens: a model feeds the first S and predicts the last S; without it rows "
        "keep their lengths",
    ),
    "truncate": (
        "POLICY",
        "what becomes of longer rows: error (default), drop, tail, source_first, proportional or "
        "split",
    ),
    "pad_id": ("ID", "token of padding (default: the tokenizer's pad, else its unk)"),
    "map_function": (
        "NAME",
        "MindFormers' map function: vicuna (default; what llama_preprocess.py --dataset_type qa "
        "does), multi-round-chat-dyn, multi-instruct-dyn, ...",
    ),
    "map_function_kwargs": (
        "JSON",
        """its settings, as '{"assistant_prompt_role": " ASSISTANT:"}'""",
    ),
    "id_name": ("NAME", "what stands before the number in the ids of belle (default bellemath)"),
}


def options(parser: argparse.ArgumentParser) -> None:
    """The flags."""
    add = parser.add_argument
    add(
        "--input", required=True, metavar="PATH",
        help="rows: a file, a folder or a pattern (json, jsonl, csv, tsv, parquet, arrow); "
        "wikitext: a file or a pattern; tokens: a .mindrecord, or a prefix of .bin/.idx files",
    )  # fmt: skip
    add("--from", required=True, dest="source", choices=TARGETS, help="what it holds")
    add(
        "--to", required=True, dest="target", choices=TARGETS["belle"],
        help="conversations: .json or .jsonl; indexed: .bin/.idx files, as Megatron's",
    )  # fmt: skip
    add("--output", required=True, metavar="PATH", help="the file; for indexed, the prefix")
    for name, (metavar, about) in FLAGS.items():
        kind = int if metavar in ("S", "ID") else str
        add(f"--{name.replace('_', '-')}", metavar=metavar, type=kind, help=about)


def run(args: argparse.Namespace) -> int:
    """Convert, and print what became of the rows."""
    import mfunc.data as md

    _check(args)
    began = time.perf_counter()
    if args.target == "conversations":
        rows = md.write(args.output, _conversations(args))
        print(f"{args.output}: {rows:,} conversations, {time.perf_counter() - began:.1f} s")
        return 0
    tokenizer = md.load_tokenizer(args.tokenizer) if args.tokenizer else None
    steps = _steps(args, tokenizer)
    prepare = md.compose(*reversed(steps))
    made: Iterable[Any] = (md.counted(prepare, chunk) for chunk in _chunks(args))
    if args.source == "wikitext":
        made = md.blocks((({"input_ids": c["input_ids"]}, n) for c, n in made), args.seq_length + 1)
    made = map(_with_totals, made)
    settings = {"from": args.source, "steps": steps, "pad_id": _pad_id(args, tokenizer)}
    if args.target == "indexed":
        told = md.indexed.write(args.output, made, settings=settings)
    else:
        told = md.mindrecord.write(args.output, made, seq_length=args.seq_length, settings=settings)
    print(_page(args.output, told, time.perf_counter() - began))
    return 0


def _check(args: argparse.Namespace) -> None:
    """Refuse ways that are none, and flags that are missing or would do nothing."""
    from mfunc.data.check import integer

    way = f"--from {args.source} --to {args.target}"
    if args.seq_length is not None:
        integer("data convert", "--seq-length", args.seq_length, least=1)
    if args.target not in TARGETS[args.source]:
        raise ValueError(f"{way} is no way; it goes --to {' or '.join(TARGETS[args.source])}")
    used, needed = _flags(args)
    for name in FLAGS:
        if getattr(args, name) is not None and name not in used:
            fits = " without --seq-length" if name in ("truncate", "pad_id") else ""
            raise ValueError(f"{way} has no use for --{name.replace('_', '-')}{fits}")
    for name in needed:
        if getattr(args, name) is None:
            raise ValueError(f"{way} needs --{name.replace('_', '-')}")


def _flags(args: argparse.Namespace) -> tuple[set[str], tuple[str, ...]]:
    """Those that are used, and those that are needed."""
    if args.target == "conversations":
        return {"id_name"} if args.source == "belle" else set(), ()
    if args.source == "wikitext":
        return {"tokenizer", "seq_length"}, ("tokenizer", "seq_length")
    fit = {"tokenizer", "seq_length"}
    if args.seq_length is not None:
        fit |= {"truncate", "pad_id"}
    if args.source == "tokens":
        return fit, ()
    return fit | {"map_function", "map_function_kwargs"}, ("tokenizer",)


def _steps(args: argparse.Namespace, tokenizer: Any) -> list[Any]:
    """The transforms of a chunk, the first that is applied first."""
    import mfunc.data as md

    if args.source == "wikitext":
        return [md.tokenize(tokenizer, prepend_bos=True, append_eos=True)]
    fit = []
    if args.seq_length is not None:
        size, pad_id = args.seq_length + 1, _pad_id(args, tokenizer) or 0
        fit = [
            md.truncate(size, policy=args.truncate or "error"),
            md.pad_to_divisor(size, max_length=size, pad_id=pad_id),
        ]
    if args.source == "tokens":
        return fit
    to_pieces = md.sft(args.map_function or "vicuna", **_kwargs(args))
    return [*_turns(args, to_pieces), to_pieces, md.tokenize(tokenizer), *fit]


def _kwargs(args: argparse.Namespace) -> dict[str, Any]:
    """The settings of the map function."""
    text = args.map_function_kwargs or "{}"
    try:
        kwargs = json.loads(text)
    except ValueError:
        kwargs = None
    if not isinstance(kwargs, dict):
        raise ValueError(f"--map-function-kwargs is not a JSON object: {text}")
    return kwargs


def _turns(args: argparse.Namespace, to_pieces: Any) -> list[Any]:
    """Rows to conversations, if the map function takes those."""
    import mfunc.data as md
    from mfunc.data.dialogue.map_functions import MAP_FUNCTIONS

    function = MAP_FUNCTIONS[to_pieces.settings["name"]]
    if function.label is not None:
        raise ValueError("--map-function: classes of texts have no place in files of tokens")
    convert: dict[str, Any] = {
        "belle": md.belle_conversations, "alpaca": md.alpaca_conversations,
    }  # fmt: skip
    if "data_field" not in function.settings or args.source not in convert:
        return []
    return [convert[args.source]()]


def _pad_id(args: argparse.Namespace, tokenizer: Any) -> int | None:
    """The token of padding; None where nothing is padded."""
    if args.seq_length is None or args.source == "wikitext":
        return None
    own = (getattr(tokenizer, "pad_id", None), getattr(tokenizer, "unk_id", None))
    found = next((i for i in (args.pad_id, *own) if i is not None), None)
    if found is None:
        raise ValueError("which token is padding is not known: pass --pad-id, or --tokenizer")
    return found


def _chunks(args: argparse.Namespace) -> Iterator[Any]:
    """What the input holds, some rows at a time."""
    import mfunc.data as md

    if args.source == "wikitext":
        return _progress(_paragraphs(args.input))
    if args.source == "tokens":
        alone = args.target == "indexed" and args.seq_length is None
        chunks = _progress(md.read_tokens(args.input, chunk_rows=CHUNK))
        return chunks if alone else (_without_mask(chunk) for chunk in chunks)
    return _progress(md.read(args.input, chunk_rows=CHUNK))


def _conversations(args: argparse.Namespace) -> Iterator[Any]:
    """Chunks of conversations, numbered through."""
    import mfunc.data as md

    first = 1
    for chunk in _chunks(args):
        if args.source == "belle":
            convert = md.belle_conversations(name=args.id_name or "bellemath", first=first)
        else:
            convert = md.alpaca_conversations(first=first)
        yield convert(chunk)
        first += len(chunk["_origin"])


def _paragraphs(path: str) -> Iterator[dict[str, list[str]]]:
    """Texts of WikiText files, each of which is in memory whole: its quotes pair over all of it."""
    import glob

    import mfunc.data as md

    files = [path] if Path(path).exists() else sorted(glob.glob(path))
    if not files:
        raise FileNotFoundError(f"there is no file {path}")
    for file in files:
        text = Path(file).read_text(encoding="utf-8-sig")
        texts = md.wikitext()({"text": [text]})["text"]
        for start in range(0, len(texts), CHUNK):
            yield {"text": texts[start : start + CHUNK]}


def _with_totals(chunk: tuple[Any, dict[str, int]]) -> tuple[Any, dict[str, int]]:
    """What is written, and with its counts those of its tokens."""
    import mfunc.data as md

    columns, counts = chunk
    found = md.statistics(columns)
    trained = int(found.trained.sum())
    return columns, {**counts, "convert.tokens": found.tokens, "convert.trained": trained}


def _without_mask(columns: dict[str, Any]) -> dict[str, Any]:
    """Token columns without the mask, which must say no more than where padding is."""
    mask = columns.get("attention_mask")
    if mask is not None and mask.flat.max(initial=0) > 1:
        raise ValueError(
            "the rows are packs of segments, which only .bin/.idx files can tell apart: convert "
            "them --to indexed without --seq-length, or convert the samples before they are packed"
        )
    return {name: column for name, column in columns.items() if name != "attention_mask"}


def _progress(chunks: Iterable[Any]) -> Iterator[Any]:
    """The chunks, and on a terminal how many rows there were."""
    from tqdm import tqdm

    with tqdm(unit=" rows", unit_scale=True, disable=None) as bar:
        for chunk in chunks:
            yield chunk
            bar.update(len(next(iter(chunk.values()))))


def _page(output: str, told: dict[str, Any], seconds: float) -> str:
    """What was written, and what became of the rest."""
    counts, places = told["counts"], told["columns"]["input_ids"]["values"]
    tokens, trained = (counts.get(f"convert.{name}", 0) for name in ("tokens", "trained"))
    notes = {
        "truncate.cut": "rows were too long and lost tokens",
        "truncate.dropped": "rows were too long",
        "truncate.split": "rows were too long and became several",
        "truncate.tokens_lost": "tokens of these rows",
        "blocks.lost": "tokens at the end, less than a row",
    }
    lines = [
        ("tokens", tokens, f"{tokens / max(places, 1):.2%} of {places:,} places"),
        ("trained", trained, f"{trained / max(tokens, 1):.2%} of the tokens"),
        *((n.split(".")[1].replace("_", " "), counts.get(n, 0), note) for n, note in notes.items()),
    ]
    shown = [
        f"{name:<11} {n:>12,}  {note}" for i, (name, n, note) in enumerate(lines) if n or i < 2
    ]
    return "\n".join([f"{output}: {told['rows']:,} rows, {seconds:.1f} s", *shown])
