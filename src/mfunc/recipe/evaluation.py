"""A run, measured on the rows that it has not seen: loss, and metrics of generated answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mfunc import checkpoint
from mfunc.checkpoint import write_whole
from mfunc.recipe.answers import answer, check_metrics, scores
from mfunc.recipe.parts import Parts, optimizer_of, parts_of
from mfunc.recipe.rows import Report
from mfunc.recipe.settings import Recipe
from mfunc.recipe.training import batches_of, checkpoints_of, first_state, held_out_batches
from mfunc.train import evaluate as measure_loss
from mfunc.transform import jit
from mfunc.tree import Tree


def evaluate(
    recipe: Recipe,
    which: str = "best",
    *,
    answers: str | None = None,
    report: Report = print,
) -> dict[str, Any]:
    """Measure a run on its held-out rows.

    Args:
      recipe: of the run.
      which: checkpoint: `"best"`, `"latest"`, the number of a step, or `"none"` for the model
        before the first step.
      answers: a file for prompts, references and generated answers, one JSON object a line.
      report: gets lines of text.

    Returns:
      `step`, `loss`, `accuracy`, `perplexity`, `tokens`, and what `evaluate.metrics` names.

    Raises:
      ValueError: there are no rows to evaluate on, or a metric is unknown.
      FileNotFoundError: there is no such checkpoint.
    """
    check_metrics(recipe.evaluate)
    parts = parts_of(recipe, report)
    if not len(parts.held_out["input_ids"]):
        raise ValueError("nothing to evaluate on: give data.evaluation or data.held_out")
    step, trained = _trained(parts, which)
    told: dict[str, Any] = {"step": step}
    told |= measure_loss(
        jit(parts.measured), trained, held_out_batches(parts), *parts.frozen,
        progress=recipe.log.progress,
    )  # fmt: skip
    if recipe.evaluate.metrics or answers:
        rows = answer(parts, trained)
        told |= scores(recipe.evaluate, rows)
        if answers:
            lines = [dict(zip(rows, row, strict=True)) for row in zip(*rows.values(), strict=True)]
            text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
            write_whole(answers, text.encode())
    return told


def _trained(parts: Parts, which: str) -> tuple[int, Tree]:
    """Return the step and the trained tree of a checkpoint."""
    if which == "none":
        return 0, parts.trained
    recipe = parts.recipe
    _, total = batches_of(parts)
    state = first_state(parts, optimizer_of(recipe, total // recipe.train.accumulate))
    run = checkpoints_of(parts, Path(recipe.output) / recipe.name)
    restored = checkpoint.restore(run, state, int(which) if which.isdigit() else which)
    return restored.step, restored.state["params"]
