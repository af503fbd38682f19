r"""Files of rows to packed (or single) samples in token files, with a summary.

  mfunc data pack --input alpaca.json --tokenizer llama/tokenizer.model --style alpaca \
      --prompt-type llama2 --seq-length 4096 --pack --neat-pack --workers 2 \
      --output-prefix ./finetune_dataset/alpaca

writes alpaca_packed_{input_ids,attention_mask,labels}_document.{bin,idx} and, beside them, what
they hold and how they were made: alpaca_packed_document.json.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

PACK_ONLY = ("strategy", "capacity", "max_segments", "segment_multiple", "seed")


def options(parser: argparse.ArgumentParser) -> None:
    """The flags; the library checks their values, and says what is allowed."""
    add = parser.add_argument
    add("--input", nargs="+", required=True, metavar="PATH", help="files, folders or patterns")
    add("--output-prefix", required=True, metavar="PREFIX", help="what the files' names begin with")
    add("--tokenizer", required=True, metavar="PATH",
        help="a SentencePiece model, a tokenizer.json, or a folder with one")  # fmt: skip
    for role in ("bos", "eos", "pad"):
        add(f"--tokenizer-{role}", metavar="TOKEN", help=f"name of the {role} token")
    add("--style", default="alpaca", metavar="NAME",
        help="of rows: alpaca (default), sharegpt, openai, pairwise, belle, text")  # fmt: skip
    add("--prompt-type", metavar="NAME",
        help="a template, such as qwen, or hf for that of the tokenizer's folder")  # fmt: skip
    add("--map-keys", metavar="JSON", help='names of columns: \'{"prompt": "question"}\'')
    add("--system", metavar="TEXT", help="for rows without a system text")
    add("--thinking", default="keep", metavar="HOW", help="keep (default), train or strip")
    add("--append-eod", action="store_true", help="end every sample with one more eos")
    add("--invalid", default="error", metavar="HOW",
        help="invalid rows: error (default), or drop and list in PREFIX_invalid.jsonl")  # fmt: skip
    add("--seq-length", type=int, metavar="S", help="tokens in a packed row; most in a single one")
    add("--overlong", default="error", metavar="POLICY",
        help="longer samples: error (default), drop, tail, source_first, proportional, per_turn "
        "or split")  # fmt: skip
    add("--pack", action="store_true", help="several samples in a row")
    add("--neat-pack", action="store_true", help="and none sees another")
    add("--strategy", metavar="NAME",
        help="tightest (default), first_fit_decreasing, next_fit or concat")  # fmt: skip
    add("--capacity", type=int, metavar="N", help="tokens of a row that are used; default S")
    add("--max-segments", type=int, metavar="N", help="most samples in a row")
    add("--segment-multiple", type=int, metavar="N", help="every sample ends at a multiple of N")
    add("--seed", type=int, metavar="N", help="samples and rows in an order by chance")
    add("--format", default="indexed", metavar="NAME", help="indexed (default) or mindrecord")
    add("--workers", type=int, default=1, metavar="N",
        help="processes that tokenize, from the fifth second on; default 1")  # fmt: skip
    add("--cache-dir", metavar="PATH", help="where tokenized samples are kept for the next time")
    add("--sample", type=int, metavar="N", help="only the first N rows")


def run(args: argparse.Namespace) -> int:
    """Do it."""
    import mfunc.data as md

    _check(args)
    tokenizer = md.load_tokenizer(
        args.tokenizer, bos=args.tokenizer_bos, eos=args.tokenizer_eos, pad=args.tokenizer_pad
    )
    with _bars() as progress:
        report = md.build_dataset(
            args.input,
            args.output_prefix,
            _prepare(args, tokenizer),
            pack=_pack(args, tokenizer) if args.pack else None,
            format=args.format,
            sample=args.sample,
            workers=args.workers,
            cache=args.cache_dir,
            progress=progress,
        )
    print(summary(report))
    return 0


def summary(report: Any) -> str:
    """One page: what came in, what came out, and what became of the rest."""
    share = report.trained / report.tokens if report.tokens else 0.0
    lines = [
        ("rows in", f"{report.rows_in:,}"),
        ("samples", f"{report.kept:,}"),
        *((f"  dropped, {why}", f"{count:,}") for why, count in report.dropped.items()),
        *([("  cut", f"{report.cut:,}")] if report.cut else []),
        ("tokens", f"{report.tokens:,}"),
        ("  trained", f"{report.trained:,} ({share:.1%})"),
        ("rows out", f"{report.rows_out:,}"),
        ("  fill", f"{report.fill:.2%}"),
        ("  segments a row", f"{report.segments / max(report.rows_out, 1):.1f}"),
        ("seconds", f"{report.seconds:.1f} ({report.tokens_per_second:,.0f} tokens/s)"),
    ]
    if report.peak_bytes is not None:
        lines.append(("peak memory", f"{report.peak_bytes / 1e6:,.0f} MB, without workers"))
    width = max(len(name) for name, _ in lines)
    files = [f"  {path}" for path in report.files]
    return "\n".join([*(f"{name:{width}}  {value}" for name, value in lines), "files", *files])


def _check(args: argparse.Namespace) -> None:
    """Flags that do not go together."""
    from mfunc.data.mindspeed.rules import check_neat_pack

    check_neat_pack(neat_pack=args.neat_pack, pack=args.pack)
    given = [name for name in PACK_ONLY if getattr(args, name) is not None and not args.pack]
    if given:
        raise ValueError(f"--{given[0].replace('_', '-')} says how to pack: it needs --pack")
    if args.pack and args.seq_length is None:
        raise ValueError("--pack needs --seq-length, the tokens in a row")
    if not args.pack and args.seq_length is None and args.overlong != "error":
        raise ValueError(f"--overlong {args.overlong} needs --seq-length, the most tokens")
    if args.pack and args.style == "pairwise":
        raise ValueError("--pack is not for --style pairwise: pairs are not packed")
    if args.neat_pack and args.format == "mindrecord":
        raise ValueError("--neat-pack is not for --format mindrecord, which has no segments")
    if args.style == "text":
        for name in ("prompt_type", "system"):
            if getattr(args, name) is not None:
                raise ValueError(
                    f"--{name.replace('_', '-')} is not for --style text: it has no turns"
                )
    elif args.prompt_type is None:
        raise ValueError("--prompt-type is missing: a template, such as qwen, or hf")


def _prepare(args: argparse.Namespace, tokenizer: Any) -> Any:
    """Rows to samples."""
    import mfunc.data as md

    fields, tags = _fields(args)
    given: dict[str, Any] = {"fields": fields, "tags": tags, "invalid": args.invalid}
    if args.style == "text":
        steps = [md.conversations(style="text", **given)]
        steps.append(md.tokenize(tokenizer, append_eos=args.append_eod))
    else:
        template = _template(args) if args.prompt_type == "hf" else args.prompt_type
        chat = md.chat(
            style=args.style,
            template=template,
            system=args.system,
            thinking=args.thinking,
            append_eos=args.append_eod,
            **given,
        )
        steps = [chat, md.tokenize(tokenizer)]
    if args.seq_length is not None and args.strategy != "concat":
        steps.append(md.truncate(_longest(args), policy=args.overlong))
    return md.compose(*reversed(steps))


def _longest(args: argparse.Namespace) -> int:
    """Most tokens of a sample."""
    from mfunc.data.packing.plan import usable

    if not args.pack:
        return args.seq_length
    return usable("--capacity", args.capacity or _width(args), args.segment_multiple or 1)


def _width(args: argparse.Namespace) -> int:
    """Tokens of a packed row: MindFormers feeds S of S + 1 and predicts S of them."""
    return args.seq_length + (args.format == "mindrecord")


def _fields(args: argparse.Namespace) -> tuple[dict[str, str] | None, dict[str, str] | None]:
    """The columns, and the tags of messages."""
    from mfunc.data.sources.json_rows import parse

    if args.map_keys is None:
        return None, None
    try:
        given = parse(args.map_keys)
    except ValueError as error:
        raise ValueError(f"--map-keys: {args.map_keys!r} is not JSON ({error})") from error
    tags = given.pop("tags", None) if isinstance(given, dict) else None
    for names in (given, {} if tags is None else tags):
        if not isinstance(names, dict) or not all(isinstance(n, str) for n in names.values()):
            raise ValueError(f"--map-keys: needs an object of keys and names, got {args.map_keys}")
    return given or None, tags


def _template(args: argparse.Namespace) -> Any:
    """The tokenizer's own; the time that it may tell is that of this day, so runs are alike."""
    import datetime

    from mfunc.data import hf_template

    now = datetime.datetime.combine(datetime.date.today(), datetime.time())
    return hf_template(args.tokenizer, now=now)


def _pack(args: argparse.Namespace, tokenizer: Any) -> Any:
    """The packing, with the settings that were given."""
    import mfunc.data as md

    given = {name: getattr(args, name) for name in PACK_ONLY if getattr(args, name) is not None}
    return md.pack(_width(args), isolate=args.neat_pack, pad_id=_pad_id(args, tokenizer), **given)


def _pad_id(args: argparse.Namespace, tokenizer: Any) -> int:
    """The tokenizer's pad, else the eos of the template, as in MindSpeed."""
    import mfunc.data as md

    if tokenizer.pad_id is not None:
        return tokenizer.pad_id
    if args.prompt_type == "hf":
        return tokenizer.token_id(_template(args).eos)
    return tokenizer.token_id(md.TEMPLATES[args.prompt_type].eos if args.prompt_type else "eos")


@contextmanager
def _bars() -> Iterator[Callable[[str, int, int | None], None]]:
    """A bar for each stage, on a terminal only."""
    from tqdm import tqdm

    bars: dict[str, Any] = {}

    def more(stage: str, count: int, total: int | None) -> None:
        if stage not in bars:
            bars[stage] = tqdm(desc=stage, total=total, unit=" rows", disable=None, file=sys.stderr)
        bars[stage].update(count)

    try:
        yield more
    finally:
        for bar in bars.values():
            bar.close()
