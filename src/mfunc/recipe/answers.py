"""Answers that a model generates to the held-out rows of a recipe, and what is measured of them."""

from __future__ import annotations

from collections.abc import Mapping

import mfunc.data as md
from mfunc import metrics
from mfunc.generation import generate
from mfunc.recipe.choices import ADAPTERS
from mfunc.recipe.parts import Parts, pad_id
from mfunc.recipe.rows import pieces_of, read_rows
from mfunc.recipe.settings import Evaluate
from mfunc.tree import Tree

# By the names of `evaluate.metrics`.
METRICS = {
    "rouge": metrics.rouge,
    "bleu": metrics.bleu,
    "squad": metrics.squad,
    "cmrc": metrics.cmrc,
}


def check_metrics(settings: Evaluate) -> None:
    """Refuse metrics that do not exist.

    Raises:
      ValueError: naming those that do.
    """
    for name in settings.metrics:
        if name not in METRICS:
            raise ValueError(
                f"evaluate.metrics: {name!r} is unknown; known are {', '.join(METRICS)}"
            )


def scores(settings: Evaluate, rows: Mapping[str, list[str]]) -> dict[str, float]:
    """Return the metrics that a recipe names, of answers: `rouge_rougeL`, `bleu_bleu`, ...

    Args:
      settings: section of a recipe.
      rows: from `answer`.

    Example:
      >>> rows = {"answer": ["a b"], "reference": ["a b"]}
      >>> scores(Evaluate(metrics=["squad"]), rows)["squad_exact_match"]
      100.0
    """
    told: dict[str, float] = {}
    for name in settings.metrics:
        found = METRICS[name](rows["answer"], rows["reference"])
        told |= {f"{name}_{key}": value for key, value in found.items()}
    return told


def answer(parts: Parts, trained: Tree, count: int | None = None) -> Mapping[str, list[str]]:
    """Generate an answer, token by token the likeliest, to the prompts of held-out rows.

    Args:
      parts: of the run.
      trained: the trained tree.
      count: only to so many rows.

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
    rows = rows if count is None else md.take(count)(rows)
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
