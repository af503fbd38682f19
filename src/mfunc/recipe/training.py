"""A recipe, run: from the files that it names to a trained model or adapter in a folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs

import mfunc.data as md
from mfunc import checkpoint, random
from mfunc.adapt import peft, storage
from mfunc.auto import names_of, save_pretrained
from mfunc.checkpoint import Checkpointer
from mfunc.dynamic import Dim
from mfunc.recipe.answers import answer, check_metrics, scores
from mfunc.recipe.parts import DROPOUT_KEY, Parts, optimizer_of, pad_id, parts_of
from mfunc.recipe.rows import Report, in_order, layout_of
from mfunc.recipe.settings import Recipe
from mfunc.recipe.toml_file import show
from mfunc.train import (
    Callback,
    early_stopping,
    evaluating,
    every,
    fit,
    init_state,
    log_jsonl,
    log_tensorboard,
    loss_plot,
    read_log,
    train_step,
)
from mfunc.transform import jit
from mfunc.tree import Tree


def train(recipe: Recipe, report: Report = print) -> Path:
    """Train as a recipe says; the same call again goes on where it was stopped.

    Args:
      recipe: of the run.
      report: gets lines of text.

    Returns:
      The folder of the run: `recipe.toml`, `metrics.jsonl`, `loss.png`, `checkpoints/`, and
      `adapter/` or `model/`.

    Raises:
      FileNotFoundError, ValueError: what the recipe names does not exist or does not fit; the
        checkpoints are of a run with other settings.

    Laws:
      a run that was stopped at any moment and is called again ends with the same bits.
    """
    check_best(recipe)
    parts = parts_of(recipe, report)
    root = Path(recipe.output) / recipe.name
    stream, total = batches_of(parts)
    optimizer = optimizer_of(recipe, total // recipe.train.accumulate)
    run = checkpoints_of(parts, root)
    start, state, told = _resumed(parts, run, first_state(parts, optimizer), total, report)
    root.mkdir(parents=True, exist_ok=True)
    (root / "recipe.toml").write_text(show(recipe), encoding="utf-8")
    last = start if "stop" in told else total
    step = train_step(parts.loss, optimizer, **_graph(recipe))
    metrics: dict[str, Any] = {}
    with checkpoint.background(run) as save:
        steps = fit(
            step, state, stream(start), *parts.frozen, start=start, total=last,
            callbacks=_callbacks(parts, root, total, start, save),
            on_nonfinite=_policy(recipe), bad_batches=root / "bad_batches",
            tokens_seen=told.get("tokens_seen", 0.0), description=recipe.name,
            progress=recipe.log.progress,
        )  # fmt: skip
        for state, metrics in steps:  # noqa: B007  the last ones are those that count
            pass
    if metrics:
        names = [name for name in metrics if name.startswith("eval_") and name != "eval_tokens"]
        names = ["loss", *names, "tokens_per_second", "stop"]
        said = [f"{name} {_said(metrics[name])}" for name in names if name in metrics]
        report(f"step {metrics['step']} of {total}: {', '.join(said)}")
    export(parts, state["params"], root, report)
    return root


def _resumed(
    parts: Parts, run: Checkpointer, state: Tree, total: int, report: Report
) -> tuple[int, Tree, dict[str, Any]]:
    """Return how many batches are done, the state after them, and what was measured there."""
    if not checkpoint.steps(run):
        return 0, state, {}
    if not parts.recipe.checkpoint.resume:
        raise ValueError(
            f"{run.folder} has checkpoints, and checkpoint.resume is false; give the run another "
            "name, or let it go on"
        )
    found = checkpoint.restore(run, state)
    stopped = f", where it stopped: {found.metrics['stop']}" if "stop" in found.metrics else ""
    report(f"goes on from step {found.step} of {total}{stopped}")
    return found.step, found.state, dict(found.metrics)


def batches_of(parts: Parts) -> tuple[Callable[[int], Iterator[md.Columns]], int]:
    """Return the batches from a number on, and how many the run has.

    An optimizer step is `train.accumulate` batches; those at the end that make none are left out.
    """
    recipe = parts.recipe
    prepare, collate = layout_of(recipe.data, pad_id(parts.pretrained.tokenizer))
    given: dict[str, Any] = {
        "seed": recipe.train.seed, "size": recipe.train.batch_size, "prepare": prepare,
    }  # fmt: skip
    accumulate, updates = recipe.train.accumulate, recipe.train.steps
    epochs = None if updates else recipe.train.epochs
    if epochs:
        updates = md.count_batches(parts.train, **given, epochs=epochs) // accumulate
    if not updates:
        raise ValueError(
            f"train.accumulate={accumulate}, but {epochs} epochs have fewer batches; lower it, or "
            "train.batch_size"
        )

    def stream(start: int) -> Iterator[md.Columns]:
        return md.epochs(parts.train, **given, collate=collate, epochs=epochs, start=start)

    return stream, updates * accumulate


def first_state(parts: Parts, optimizer: Any) -> Tree:
    """Return the state before the first step."""
    key = random.fold_in(random.key(parts.recipe.train.seed), DROPOUT_KEY) if parts.keyed else None
    return init_state(parts.trained, optimizer, key)


def checkpoints_of(parts: Parts, root: Path) -> Checkpointer:
    """Return where the run is saved, and what must be the same for it to go on."""
    recipe = parts.recipe
    config: dict[str, Any] = {
        name: attrs.asdict(getattr(recipe, name))
        for name in ("model", "data", "adapter", "optimizer", "schedule", "train")
    }
    config["rows"] = md.fingerprint(parts.train)
    return Checkpointer(
        root / "checkpoints", config=config, keep_last=recipe.checkpoint.keep_last,
        keep_best=recipe.checkpoint.keep_best if _measures(parts) else 0,
        best=recipe.evaluate.best, mode=recipe.evaluate.mode,
    )  # fmt: skip


def _measures(parts: Parts) -> bool:
    return len(parts.held_out["input_ids"]) > 0


def _graph(recipe: Recipe) -> dict[str, Any]:
    """Say how the step is compiled: once for all lengths if they differ, else in place."""
    if recipe.data.layout != "dynamic":
        return {"donate": True}
    length = Dim("length", divisor=recipe.data.divisor, remainder=recipe.data.remainder)
    names = ("input_ids", "labels", "segment_ids", "position_ids")
    return {"dynamic": {name: (None, length) for name in names}}


def _policy(recipe: Recipe) -> str:
    """A step that leaves out what is no number itself need only be counted."""
    inside = recipe.train.loss_scale or recipe.train.on_nonfinite == "skip"
    return "count" if inside else recipe.train.on_nonfinite


def _callbacks(parts: Parts, root: Path, total: int, start: int, save: Callback) -> list[Callback]:
    """Evaluate, log, draw and save, each at its interval and at the last step."""
    recipe, log = parts.recipe, root / "metrics.jsonl"
    calls: list[Callback] = []
    if _measures(parts):
        measure = evaluating(
            jit(parts.measured), lambda: held_out_batches(parts), *parts.frozen,
            progress=recipe.log.progress,
        )  # fmt: skip
        generated = [answering(parts)] if recipe.evaluate.answers else []
        stop = [_patience(recipe, log, start)] if recipe.evaluate.patience else []
        calls.append(_at(recipe.evaluate.steps, total, measure, *generated, *stop))
    calls.append(log_jsonl(log))
    if recipe.log.tensorboard:
        calls.append(log_tensorboard(root / "tensorboard"))
    if recipe.log.plot:
        calls.append(_at(max(total // 20, 1), total, loss_plot(root / "loss.png", log)))
    calls.append(_at(recipe.checkpoint.steps, total, save))
    return calls


def _patience(recipe: Recipe, log: Path, start: int) -> Callback:
    """Stop early; what was measured before a resumed run counts."""
    its = recipe.evaluate
    history = [row.get(its.best) for row in read_log(log, start)] if start else []
    seen = [value for value in history if value is not None]
    return early_stopping(its.best, patience=its.patience, mode=its.mode, history=seen)


def answering(parts: Parts) -> Callback:
    """Return a callback that generates answers and measures them: `eval_rouge_rougeL`, ..."""
    settings = parts.recipe.evaluate

    def call(state: Tree, metrics: dict[str, Any]) -> dict[str, float]:
        rows = answer(parts, state["params"], settings.answers)
        return {f"eval_{name}": value for name, value in scores(settings, rows).items()}

    return call


def check_best(recipe: Recipe) -> None:
    """Refuse to go by a metric that is never measured.

    Raises:
      ValueError: naming what is.
    """
    its = recipe.evaluate
    check_metrics(its)
    if its.answers and not its.metrics:
        raise ValueError(f"evaluate.answers={its.answers}, but evaluate.metrics names none")
    known = ["eval_loss", "eval_perplexity", "eval_accuracy"]
    begins = [f"eval_{name}_" for name in its.metrics] if its.answers else []
    if its.best not in known and not its.best.startswith(tuple(begins)):
        raise ValueError(
            f"evaluate.best={its.best!r} is not measured; there are "
            f"{', '.join([*known, *(f'{name}...' for name in begins)])} (of generated answers with "
            "evaluate.metrics and evaluate.answers)"
        )


def held_out_batches(parts: Parts) -> Iterator[md.Columns]:
    """Yield all samples that are not trained, once."""
    recipe = parts.recipe
    return in_order(
        parts.held_out, recipe.data, pad_id(parts.pretrained.tokenizer), recipe.evaluate.batch_size
    )


def _at(steps: int, total: int, *callbacks: Callback) -> Callback:
    """Call callbacks at an interval (0 for none), and at the last step in any case."""
    regular = every(*callbacks, steps=steps) if steps else None
    last = every(*callbacks, steps=1)

    def call(state: Tree, metrics: dict[str, Any]) -> Any:
        if metrics["step"] == total or "stop" in metrics:
            return last(state, metrics)
        return regular(state, metrics) if regular else None

    return call


def export(parts: Parts, trained: Tree, root: Path, report: Report) -> None:
    """Write what was trained for others to read: LoRA as PEFT does, a model as Hugging Face."""
    method, pretrained = parts.recipe.adapter.name, parts.pretrained
    folder = root / ("model" if method == "none" else "adapter")
    if method == "none":
        save_pretrained(folder, pretrained._replace(params=trained))
    elif method == "lora":
        names = names_of(pretrained)
        peft.save(folder, trained, parts.adapter, names, base_model=parts.recipe.model.path)
    else:
        storage.save(folder / "adapter.safetensors", trained, parts.adapter)
    report(f"{folder.name} in {folder}")


def _said(value: Any) -> str:
    return f"{value:,.4g}" if isinstance(value, float) else str(value)
