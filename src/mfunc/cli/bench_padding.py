r"""What padding costs: the same model and rows in several layouts, measured on this machine.

  mfunc bench padding --data alpaca.json --tokenizer tokenizer.model --seq-length 2048

Layouts: static, dynamic, rounded, both, buckets, plain_pack, neat_pack (docs/padding.md). Each is
trained for some steps in a process of its own. An epoch is what these steps took a real token,
times the tokens of all rows, and the compilations that its plan needs. OUTPUT gets padding.md,
padding.png and padding.json.
"""

from __future__ import annotations

import argparse
from pathlib import Path


def options(parser: argparse.ArgumentParser) -> None:
    """The flags."""
    add = parser.add_argument
    add("--data", type=Path, required=True, help="alpaca rows")
    add("--tokenizer", type=Path, required=True, help="SentencePiece model")
    add("--output", type=Path, default=Path("runs/padding"))
    add("--layouts", nargs="+", metavar="NAME", help="only these")
    add("--seq-length", type=int, help="longest sample, and static and packed rows (2048)")
    add("--batch-size", type=int, help="samples of a padded batch (8)")
    add("--static-rows", type=int, help="rows of a static step, if fewer fit into memory")
    add("--pack-rows", type=int, help="rows of a packed batch (1)")
    add("--tokens", type=int, help="real tokens to measure each layout on (16000)")
    add("--static-tokens", type=int, help="the same for the static one, the slowest (3000)")
    add("--hidden-size", type=int, help="of the model (256)")
    add("--layers", type=int, help="of the model (4)")
    add("--heads", type=int, help="of the model (4)")
    add("--recompute", action="store_true", help="compute layers again for the gradient")


def run(args: argparse.Namespace) -> int:
    """Do it."""
    import attrs

    from mfunc import comparison

    names = [field.name for field in attrs.fields(comparison.Settings)]
    given = {name: getattr(args, name) for name in names}
    settings = comparison.Settings(**{k: v for k, v in given.items() if v is not None})
    comparison.compare(settings, args.output)
    return 0
