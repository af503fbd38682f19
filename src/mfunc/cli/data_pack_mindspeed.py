r"""MindSpeed-LLM's preprocess_data.py: its own flags, the same bytes.

    mfunc data pack --compat mindspeed --input alpaca.json --output-prefix data/alpaca \
        --tokenizer-name-or-path qwen --handler-name AlpacaStyleInstructionHandler \
        --prompt-type qwen --seq-length 4096 --pack --neat-pack

The bytes are those of v2.1.0, from v2.1.0's flags. What it passes over in silence is said in the
summary, or refused.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

WORDS: dict[str, Any] = {"nargs": "+"}
NUMBER: dict[str, Any] = {"type": int}
FLAG: dict[str, Any] = {"action": "store_true"}
TAKEN: dict[str, dict[str, Any]] = {
    "input": {"required": True, "help": "file or folder of rows; with --merge-group-keys of pairs"},
    "output-prefix": {"required": True, "help": "what the names of all files begin with"},
    "handler-name": {"default": "", "help": "what rows look like, what becomes of them"},
    "tokenizer-name-or-path": {"default": "", "help": "folder with tokenizer.json"},
    "tokenizer-type": {"default": "PretrainedFromHF", "help": "only PretrainedFromHF"},
    "prompt-type": {"help": "name of the template"},
    "map-keys": {"help": "JSON: which columns hold what"},
    "seq-length": {**NUMBER, "help": "tokens of a row"},
    "pack": {**FLAG, "help": "put samples together into rows"},
    "neat-pack": {**FLAG, "help": "tell the samples of a row apart"},
    "append-eod": {**FLAG, "help": "end every sample with one more eos"},
    "json-keys": {**WORDS, "default": ["text"], "help": "columns of text, for pretraining"},
    "pad-to-multiple-of": {**NUMBER, "default": 1, "help": "only 1"},
    "enable-thinking": {"nargs": "?", "const": "true", "help": "true, false or none, for qwen3"},
    "n-subs": {**NUMBER, "default": 1, "help": "pack so many parts each for itself"},
    "dataset-dir": {"help": "folder of dataset_info.json"},
    "max-samples": {**NUMBER, "help": "most rows of every set of dataset_info.json"},
}


def options(parser: argparse.ArgumentParser) -> None:
    """The flags of upstream: those that count, and those that are only accepted or refused."""
    from mfunc.data.mindspeed.settings import NO_EFFECT, REFUSED

    parser.add_argument("--compat", choices=["mindspeed"], required=True, help="whose flags")
    for name, how in TAKEN.items():
        parser.add_argument(f"--{name}", **how)
    parser.add_argument("--merge-group-keys", **WORDS, help="only join pairs of these names")
    for name in (*NO_EFFECT, *REFUSED):
        shown = "no effect" if name in NO_EFFECT else argparse.SUPPRESS
        parser.add_argument(f"--{name.replace('_', '-')}", nargs="*", help=shown)


def run(args: argparse.Namespace) -> int:
    """Write the files, and say what became of the rows."""
    from mfunc.data.mindspeed.pipeline import merge_groups, preprocess
    from mfunc.data.mindspeed.settings import NO_EFFECT, REFUSED, Settings

    for name, instead in REFUSED.items():
        if getattr(args, name) is not None:
            raise ValueError(f"--{name.replace('_', '-')} is not supported: {instead}")
    if args.merge_group_keys is not None:
        groups = merge_groups(args.input, args.merge_group_keys, args.output_prefix)
        for key, names in groups.items():
            print(f"{args.output_prefix}_{key}: {', '.join(names)}")
        return 0
    begun = time.perf_counter()
    settings = Settings(**{n: getattr(args, n) for n in (t.replace("-", "_") for t in TAKEN)})
    counts = preprocess(settings)
    idle = [f"--{n.replace('_', '-')}" for n in NO_EFFECT if getattr(args, n) is not None]
    print(summary(settings.output_prefix, counts, idle, time.perf_counter() - begun))
    return 0


def summary(prefix: str, counts: dict[str, int], idle: list[str], seconds: float) -> str:
    """The page that is printed at the end."""
    said = {
        "dropped": "rows left out, as upstream does with a warning: ",
        "unread": "rows with a column that --map-keys does not name, so upstream passes over it: ",
    }
    lines = [f"{counts['rows']:,} rows, {counts['samples']:,} samples"]
    for name, n in counts.items():
        kind, _, what = name.partition(".")
        if kind in said:
            lines.append(f"  {n:,} {said[kind]}{what}")
        elif what == "empty":
            lines.append(f"  {n:,} empty texts left out: {kind}")
    if counts.get("too_long"):
        lines.append(
            f"  {counts['too_long']:,} samples left out: as long as --seq-length, or longer"
        )
    if counts.get("cut"):
        lines.append(f"  {counts['cut']:,} samples cut: as long as --seq-length, or longer")
    if idle:
        lines.append(f"without effect on the files: {', '.join(idle)}")
    rate = counts["tokens"] / max(seconds, 1e-9)
    trained = f", {counts['trained']:,} trained" if "trained" in counts else ""
    lines.append(f"{counts['tokens']:,} tokens{trained}, {rate:,.0f} a second")
    if "slots" in counts:
        fill = 100 * counts["packed"] / counts["slots"]
        lines.append(f"{counts['documents']:,} rows packed, filled to {fill:.2f} %")
    made = sorted(Path(prefix).parent.glob(f"{Path(prefix).name}_*_document.bin"))
    return "\n".join([*lines, *(f"wrote {path.with_suffix('')}.bin, .idx" for path in made)])
