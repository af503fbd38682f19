r"""Train as a file says: rows, tokens, packs, steps, evaluations, checkpoints; again goes on.

  mfunc train --config run.toml
  mfunc train --config run.toml --set train.steps=10 --set optimizer.learning_rate=1e-4
  mfunc train --show                                every setting, its default, what it is for

What a run writes is in OUTPUT/NAME: recipe.toml, metrics.jsonl, loss.png, checkpoints/, and at the
end adapter/ or model/. The same command again goes on from the newest checkpoint.
"""

from __future__ import annotations

import argparse


def options(parser: argparse.ArgumentParser) -> None:
    """The flags."""
    add = parser.add_argument
    add("--config", metavar="FILE", help="a recipe, in TOML")
    add("--set", action="append", default=[], dest="changes", metavar="KEY=VALUE",
        help="a setting that stands above the file: train.steps=10")  # fmt: skip
    add("--show", action="store_true", help="print the recipe with every default, and stop")


def run(args: argparse.Namespace) -> int:
    """Do it."""
    from mfunc import recipe

    if args.config is None and not args.show:
        raise ValueError("--config is missing: a recipe, in TOML; --show prints one")
    found = (
        recipe.build({}, args.changes)
        if args.config is None
        else recipe.read(args.config, args.changes)
    )
    if args.show:
        print(recipe.show(found), end="")
        return 0
    recipe.train(found)
    return 0
