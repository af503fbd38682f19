"""A run, measured on the rows that it has not seen: loss, and metrics of generated answers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mfunc.data as md
from mfunc import checkpoint, metrics
from mfunc.checkpoint import write_whole
from mfunc.generation import generate
from mfunc.recipe.choices import ADAPTERS
from mfunc.recipe.parts import Parts, optimizer_of, pad_id, parts_of
from mfunc.recipe.rows import Report, pieces_of, read_rows
from mfunc.recipe.settings import Recipe
from mfunc.recipe.training import batches_of, checkpoints_of, first_state, held_out_batches
from mfunc.train import evaluate as measure_loss
from mfunc.transform import jit
from mfunc.tree import Tree

# Of generated answers: `evaluate.metrics`.
METRICS = {
    "rouge": metrics.rouge,
    "bleu": metrics.bleu,
    "squad": metrics.squad,
    "cmrc": metrics.cmrc,
}


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
      `step`, `loss`, `perplexity`, `tokens`, and what `evaluate.metrics` names.

    Raises:
      ValueError: there are no rows to evaluate on, or a metric is unknown.
      FileNotFoundError: there is no such checkpoint.
    """
    wanted = recipe.evaluate.metrics
    unknown = [name for name in wanted if name not in METRICS]
    if unknown:
        raise ValueError(
            f"evaluate.metrics: {unknown[0]!r} is unknown; known are {', '.join(METRICS)}"
        )
    parts = parts_of(recipe, report)
    if not len(parts.held_out["input_ids"]):
        raise ValueError("nothing to evaluate on: give data.evaluation or data.held_out")
    step, trained = _trained(parts, which)
    told: dict[str, Any] = {"step": step}
    told |= measure_loss(
        jit(parts.measured), trained, held_out_batches(parts), *parts.frozen,
        progress=recipe.log.progress,
    )  # fmt: skip
    if wanted or answers:
        rows = answer(parts, trained)
        for name in wanted:
            found = METRICS[name](rows["answer"], rows["reference"])
            told |= {f"{name}_{key}": value for key, value in found.items()}
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


def answer(parts: Parts, trained: Tree) -> Mapping[str, list[str]]:
    """Generate an answer, token by token the likeliest, to the prompt of every held-out row.

    Returns:
      Columns `prompt`, `reference` and `answer`.

    Raises:
      ValueError: the rows are tokens or texts without prompts.
    """
    recipe, (model, config, _, tokenizer) = parts.recipe, parts.pretrained
    data = recipe.data
    if data.tokens or data.style == "text" or data.map_function:
        raise ValueError("answers are generated to rows of conversations; these have no prompts")
    params = trained
    module = ADAPTERS[recipe.adapter.name]
    if module is not None:
        params = module.apply(*parts.frozen, trained, parts.adapter)
    _, rows = read_rows(data, pad_id(tokenizer))
    pieces = pieces_of(data, parts.template, prompt_only=True)(rows)["pieces"]
    prompts = md.tokenize(tokenizer)({"pieces": pieces})["input_ids"]
    made = generate(
        model, params, config, list(prompts), max_new_tokens=recipe.evaluate.max_new_tokens,
        eos_id=_end_of(parts), batch_size=recipe.evaluate.batch_size,
        progress=recipe.log.progress,
    )  # fmt: skip
    whole = md.conversations(
        style=data.style, fields=dict(data.fields) or None, invalid=data.invalid
    )(rows)["messages"]
    return {
        "prompt": ["".join(piece.text for piece in each) for each in pieces],
        "reference": [messages[-1].content for messages in whole],
        "answer": [tokenizer.decode(ids.tolist()) for ids in made],
    }


def _end_of(parts: Parts) -> int:
    """Return the token that ends an answer: what the template writes behind it."""
    template = parts.template
    if isinstance(template, str):
        template = md.TEMPLATES[template]
    return parts.pretrained.tokenizer.token_id(template.eos)
