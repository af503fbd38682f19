r"""Measure a run on rows that it has not seen: loss, perplexity, and metrics of generated answers.

  mfunc eval --config run.toml
  mfunc eval --config run.toml --checkpoint best --set 'evaluate.metrics=["rouge", "bleu"]'
  mfunc eval --config run.toml --checkpoint none       the model before it was trained

What is printed is JSON; what is said on the way goes to the error stream.
"""

from __future__ import annotations

import argparse
import json
import sys


def options(parser: argparse.ArgumentParser) -> None:
    """The flags."""
    add = parser.add_argument
    add("--config", required=True, metavar="FILE", help="the recipe of the run")
    add("--set", action="append", default=[], dest="changes", metavar="KEY=VALUE",
        help="a setting that stands above the file: evaluate.batch_size=4")  # fmt: skip
    add("--checkpoint", default="best", metavar="WHICH",
        help="best (default), latest, the number of a step, or none")  # fmt: skip
    add("--answers", metavar="FILE", help="write prompts, references and answers there, as jsonl")


def run(args: argparse.Namespace) -> int:
    """Do it."""
    from mfunc import recipe

    found = recipe.read(args.config, args.changes)
    measured = recipe.evaluate(
        found,
        args.checkpoint,
        answers=args.answers,
        report=lambda line: print(line, file=sys.stderr),
    )
    print(json.dumps(measured, indent=2))
    return 0
