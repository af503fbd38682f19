"""The command `mfunc`: thin, every verb is a function of the library.

    mfunc data pack --input alpaca.json --tokenizer llama/tokenizer.model --seq-length 2048 ...
    mfunc train --config run.toml

A verb is a module, named by its words (`data_pack`): `options(parser)` names its flags, `run(args)`
does it and returns the exit code. At its top it imports nothing that is slow, so help comes at
once.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

# Group -> what it is about, and its verbs; a group without verbs is a verb itself.
VERBS: dict[str, tuple[str, tuple[str, ...]]] = {
    "data": ("what becomes of text before training", ("pack", "convert", "inspect", "diff")),
    "train": ("a run, described by a file", ()),
    "eval": ("a run, measured on rows that it has not seen", ()),
    "bench": ("what things cost on this machine", ("padding",)),
    "adapter": ("what was trained beside a model", ("merge",)),
}
# With `--compat mindspeed` a verb takes the flags of another program, and is another module.
COMPAT = {"mindspeed": {"data": {"pack": "data_pack_mindspeed"}}}
# Of the user's making: said in one line. All else is a bug, and shows where it is.
EXPECTED = (ValueError, TypeError, OSError, ImportError)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
      argv: the words behind `mfunc`; by default those of this process.

    Returns:
      0, or 1 if what was asked for is not so (files that differ), or 2 for an error, 130 if it was
      interrupted, 141 if nobody reads on.
    """
    words = sys.argv[1:] if argv is None else list(argv)
    args = _parser(words).parse_args(words)
    try:
        code = args.run(args)
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # whoever reads, `head` say, has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except EXPECTED as error:
        if args.traceback:
            raise
        print(f"{args.words}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def _parser(words: Sequence[str]) -> argparse.ArgumentParser:
    """The parser of all verbs; `words` say whose flags these are to take."""
    split = [part for word in words for part in word.split("=", 1)]
    asked = {name for flag, name in pairwise(split) if flag == "--compat"}
    other = next((COMPAT[name] for name in COMPAT if name in asked), {})
    parser = argparse.ArgumentParser(prog="mfunc", description="Pure transforms for fine-tuning.")
    groups = parser.add_subparsers(dest="group", required=True, metavar="GROUP")
    for group, (about, verbs) in VERBS.items():
        if not verbs:
            _add_verb(groups, group, f"mfunc.cli.{group}", f"mfunc {group}")
            continue
        inside = groups.add_parser(group, help=about, description=about)
        choices = inside.add_subparsers(dest="verb", required=True, metavar="VERB")
        modules = {**{verb: f"{group}_{verb}" for verb in verbs}, **other.get(group, {})}
        for verb, name in modules.items():
            _add_verb(choices, verb, f"mfunc.cli.{name}", f"mfunc {group} {verb}")
    return parser


def _add_verb(choices: Any, verb: str, name: str, words: str) -> None:
    """Give a verb its parser, with the flags of its module."""
    module = importlib.import_module(name)
    about = (module.__doc__ or "").strip()
    one = choices.add_parser(
        verb, help=about.splitlines()[0], description=about, allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    one.add_argument("--traceback", action="store_true", help="show where an error arose")
    module.options(one)
    one.set_defaults(run=module.run, words=words)
