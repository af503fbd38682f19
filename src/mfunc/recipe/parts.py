"""What a recipe names, made: the model, the trained tree, the loss, the optimizer, the data."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import attrs

import mfunc.data as md
from mfunc import optim, random
from mfunc.adapt.summary import trained_share
from mfunc.auto import Pretrained, from_pretrained
from mfunc.loss import next_token_loss, next_token_measures
from mfunc.optim import Optimizer
from mfunc.recipe.choices import ADAPTERS, CHOICES
from mfunc.recipe.rows import Report, samples_of, template_of
from mfunc.recipe.settings import Chosen, Recipe
from mfunc.tree import Tree

DATA_KEY, ADAPTER_KEY, DROPOUT_KEY = "data", "adapter", "dropout"


@attrs.frozen(kw_only=True)
class Parts:
    """A recipe, made.

    Attributes:
      recipe: that it was made of.
      pretrained: the model as it was read.
      template: that writes its conversations.
      train: the samples to train on.
      held_out: the samples to evaluate on, maybe none.
      adapter: settings of the adapter, or `None`.
      trained: the tree that is trained, before the first step.
      frozen: the trees that it stands beside.
      loss: what is differentiated.
      measured: loss and accuracy without dropout, as `train.evaluate` takes them.
      keyed: whether `loss` takes a key.
    """

    recipe: Recipe
    pretrained: Pretrained
    template: Any
    train: md.Columns
    held_out: md.Columns
    adapter: Any
    trained: Tree
    frozen: tuple[Tree, ...]
    loss: Callable[..., Any]
    measured: Callable[..., Any]
    keyed: bool


def parts_of(recipe: Recipe, report: Report = print) -> Parts:
    """Read the model and the rows of a recipe, and put the loss together.

    Args:
      recipe: what is asked for.
      report: gets lines of text.

    Raises:
      FileNotFoundError, ValueError: what is named does not exist or does not fit.
    """
    if not recipe.model.path:
        raise ValueError("model.path is empty; name a folder in Hugging Face's layout, or a .gguf")
    pretrained = from_pretrained(recipe.model.path)
    if pretrained.tokenizer is None:
        raise ValueError(f"{recipe.model.path} has no tokenizer; put its files beside the weights")
    template = template_of(recipe.data, pretrained.tokenizer)
    pad = pad_id(pretrained.tokenizer)
    train, held_out = samples_of(
        recipe.data, pretrained.tokenizer, template, pad_id=pad, report=report
    )
    module = ADAPTERS[recipe.adapter.name]
    whole = _of_batches(pretrained, recipe, next_token_loss)
    judged = _of_batches(pretrained, recipe, next_token_measures)
    if module is None:
        made: dict[str, Any] = {
            "adapter": None, "trained": pretrained.params, "frozen": (), "loss": whole,
            "measured": judged, "keyed": False,
        }  # fmt: skip
    else:
        made = _beside(recipe, module, pretrained.params, whole, judged)
    report(trained_share(pretrained.params, made["trained"]))
    return Parts(
        recipe=recipe, pretrained=pretrained, template=template, train=train, held_out=held_out,
        **made,
    )  # fmt: skip


def pad_id(tokenizer: Any) -> int:
    """Return the token that fills rows: the tokenizer's pad, else 0; nothing looks at it."""
    found = getattr(tokenizer, "pad_id", None)
    return 0 if found is None or found < 0 else found


def _of_batches(
    pretrained: Pretrained, recipe: Recipe, of_logits: Callable[..., Any]
) -> Callable[..., Any]:
    """Return what is computed of a batch, as a function of all parameters."""
    model, config, recompute = pretrained.model, pretrained.config, recipe.model.recompute
    frozen_head = recipe.adapter.name != "none"

    def computed(params, batch):  # type: ignore[no-untyped-def]
        segments = batch["segment_ids"]
        blocks = batch.get("attention_blocks")
        logits = model.factored(
            params, config, batch["input_ids"], segment_ids=segments,
            position_ids=batch["position_ids"], blocks=blocks, recompute=recompute,
            frozen_head=frozen_head,
        )  # fmt: skip
        return of_logits(logits, batch["labels"], segments)

    return computed


def _beside(
    recipe: Recipe,
    module: ModuleType,
    params: Tree,
    whole: Callable[..., Any],
    judged: Callable[..., Any],
) -> dict[str, Any]:
    """Make an adapter, and the loss and the measures as functions of it."""
    settings = module.Config(**recipe.adapter.settings)
    key = random.fold_in(random.key(recipe.train.seed), ADAPTER_KEY)

    def measured(adapter, batch, frozen):  # type: ignore[no-untyped-def]
        return judged(module.apply(frozen, adapter, settings), batch)

    def loss(adapter, batch, frozen):  # type: ignore[no-untyped-def]
        return whole(module.apply(frozen, adapter, settings), batch)

    def dropping(adapter, batch, frozen, key):  # type: ignore[no-untyped-def]
        return whole(module.apply(frozen, adapter, settings, key), batch)

    keyed = getattr(settings, "dropout", 0.0) > 0
    return {
        "adapter": settings,
        "trained": module.init(key, params, settings),
        "frozen": (params,),
        "loss": dropping if keyed else loss,
        "measured": measured,
        "keyed": keyed,
    }


def made(section: str, chosen: Chosen, *given: Any, **more: Any) -> Any:
    """Call the function that a recipe names."""
    fn, _ = CHOICES[section][chosen.name]
    settings = {**chosen.settings, **more}
    return fn(*given, **settings)  # type: ignore[misc]


def optimizer_of(recipe: Recipe, steps: int) -> Optimizer:
    """Return the optimizer of a recipe, for so many updates.

    Example:
      >>> optimizer_of(Recipe(optimizer=Chosen("sgd", {"learning_rate": 0.1})), 10).scale is None
      True
    """
    train = recipe.train
    settings = dict(recipe.optimizer.settings)
    peak = settings.pop("learning_rate")
    rate = made("schedule", recipe.schedule, peak, total_steps=steps)
    if settings.get("weight_decay") or settings.get("weight_decay_rate"):
        settings["mask"] = optim.all_but(*train.no_decay)
    optimizer = made("optimizer", Chosen(recipe.optimizer.name, settings), rate)
    if train.clip_norm:
        optimizer = optim.chain(optim.clip_by_global_norm(train.clip_norm), optimizer)
    if train.accumulate > 1:
        optimizer = optim.accumulate(train.accumulate, optimizer)
    if train.loss_scale:
        return optim.dynamic_loss_scale(optimizer)
    return optim.skip_nonfinite(optimizer) if train.on_nonfinite == "skip" else optimizer
