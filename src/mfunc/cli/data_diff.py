"""Say where two sets of tokens differ, and why.

  mfunc data diff ours.mindrecord theirs.mindrecord --tokenizer llama/tokenizer.model
  mfunc data diff ours theirs            two prefixes of .bin/.idx files, without texts

Exit code: 0 if they are equal, 1 if they differ, 2 for an error.
"""

from __future__ import annotations

import argparse


def options(parser: argparse.ArgumentParser) -> None:
    """The flags."""
    kinds = "prefix of .bin/.idx files, one .idx, a .mindrecord, or a .json/.jsonl of ids"
    parser.add_argument("a", metavar="A", help=kinds)
    parser.add_argument("b", metavar="B", help="the same")
    parser.add_argument(
        "--tokenizer", metavar="PATH",
        help="tokenizer.model, tokenizer.json or their folder: shows texts, names more causes",
    )  # fmt: skip
    parser.add_argument(
        "--limit", type=int, default=5, metavar="N", help="how many rows are shown (default 5)"
    )


def run(args: argparse.Namespace) -> int:
    """Print what `md.diff` finds."""
    import mfunc.data as md

    loaded = md.load_tokenizer(args.tokenizer) if args.tokenizer else None
    found = md.diff(args.a, args.b, loaded, limit=args.limit)
    print(found)
    return int(bool(found))
