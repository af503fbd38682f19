"""What a run is made of, as plain data: the sections of a recipe.

    [model]  path
    [data]  train, template, layout, ...
    [adapter]  name = "lora", and the settings of `adapt.lora.Config`
    [optimizer]  name = "adamw", and the arguments of `optim.adamw`
    [schedule]  name = "cosine", and the arguments of `schedule.cosine`
    [train] [evaluate] [checkpoint] [log]

A section with a `name` takes the settings of the function of that name, and no others.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

LAYOUTS = ("packed", "dynamic", "static")
KINDS = {str: "text", int: "an integer", float: "a number", bool: "true or false", tuple: "a list",
         dict: "a table"}  # fmt: skip


def _setting(
    default: Any, about: str, *, choices: tuple[str, ...] = (), least: float | None = None
) -> Any:
    """A field with its default, what it is for, and what it may be."""
    kind = type(default)

    def check(instance: Any, attribute: Any, value: Any) -> None:
        wrong = check_kind(value, kind)
        if not wrong and choices and value not in choices:
            wrong = f"known are {', '.join(choices)}"
        if not wrong and least is not None and value < least:
            wrong = f"it must be at least {least}"
        if wrong:
            raise ValueError(f"{attribute.name}={value!r}; {wrong}")

    converter = {tuple: _as_tuple, float: _as_float}.get(kind)
    about += f" ({', '.join(choices)})" if choices else ""
    metadata = {"about": about}
    if isinstance(default, dict):
        return attrs.field(factory=dict, validator=check, metadata=metadata)
    return attrs.field(default=default, validator=check, converter=converter, metadata=metadata)


def check_kind(value: Any, kind: type) -> str:
    """Say what a value must be if it is not of its kind; an integer is a number, too.

    Example:
      >>> check_kind("8", int), check_kind(8, float)
      ('it must be an integer', '')
    """
    kinds = {float: (int, float), tuple: (list, tuple), dict: Mapping}.get(kind, kind)
    right = isinstance(value, kinds) and (kind is bool or not isinstance(value, bool))  # type: ignore[arg-type]
    return "" if right else f"it must be {KINDS[kind]}"


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _as_float(value: Any) -> Any:
    return float(value) if type(value) is int else value


@attrs.frozen(kw_only=True)
class Model:
    """The model that is trained."""

    path: str = _setting("", "folder in Hugging Face's layout, or a .gguf file")
    recompute: bool = _setting(False, "compute layers again for the gradient: less memory")


@attrs.frozen(kw_only=True)
class Data:
    """Rows, and how they become batches."""

    train: tuple[str, ...] = _setting((), "files, folders or patterns of rows")
    tokens: str = _setting("", "in their place: prefix of .bin/.idx files, or a .mindrecord")
    evaluation: tuple[str, ...] = _setting((), "the same, of rows that are not trained")
    held_out: int = _setting(0, "or so many of the last rows", least=0)
    sample: int = _setting(0, "only the first so many rows; 0 for all", least=0)
    style: str = _setting("alpaca", "of rows: alpaca, sharegpt, openai, belle, text")
    template: str = _setting("alpaca", "name of a template, or hf for the tokenizer's own")
    system: str = _setting("", "for rows without a system text")
    map_function: str = _setting("", "in place of style and template: one of MindFormers'")
    map_settings: Mapping[str, str] = _setting({}, "of the map function: user_prompt, ...")
    fields: Mapping[str, str] = _setting({}, "our names of columns = theirs")
    append_eos: bool = _setting(False, "end every sample with one more eos")
    invalid: str = _setting("error", "rows that are no conversation", choices=("error", "drop"))
    seq_length: int = _setting(2048, "most tokens in a row of a batch", least=2)
    overlong: str = _setting("error", "longer samples: error, drop, tail, source_first, ...")
    layout: str = _setting("packed", "of batches", choices=LAYOUTS)
    strategy: str = _setting("tightest", "of packing")
    divisor: int = _setting(64, "dynamic: lengths are divisor * k + remainder", least=1)
    remainder: int = _setting(0, "see divisor", least=0)


@attrs.frozen(kw_only=True)
class Train:
    """How long, and in what steps."""

    epochs: int = _setting(1, "times that all rows are seen", least=1)
    steps: int = _setting(0, "optimizer steps; 0 for what the epochs give", least=0)
    batch_size: int = _setting(8, "rows of a batch", least=1)
    accumulate: int = _setting(1, "batches whose gradients make one optimizer step", least=1)
    clip_norm: float = _setting(1.0, "longest gradient; 0 for any", least=0)
    no_decay: tuple[str, ...] = _setting(("*norm", "*bias"), "parameters without weight decay")
    loss_scale: bool = _setting(False, "scale the loss, for parameters in half precision")
    on_nonfinite: str = _setting(
        "raise", "a loss that is no number", choices=("raise", "skip", "roll_back")
    )
    seed: int = _setting(0, "of the order of rows, fresh parameters, dropout", least=0)


@attrs.frozen(kw_only=True)
class Evaluate:
    """What is measured on the rows that are not trained."""

    steps: int = _setting(0, "between two evaluations; 0 for at the end only", least=0)
    batch_size: int = _setting(8, "rows of a batch", least=1)
    best: str = _setting("eval_loss", "metric by which checkpoints are kept and patience counts")
    mode: str = _setting("min", "which of its values are good", choices=("min", "max"))
    patience: int = _setting(0, "stop after so many without a better one; 0 for never", least=0)
    metrics: tuple[str, ...] = _setting((), "of generated answers: rouge, bleu, squad, cmrc")
    answers: int = _setting(
        0, "while training, to so many of these rows; 0 for by `mfunc eval` only, to all", least=0
    )
    max_new_tokens: int = _setting(256, "of a generated answer", least=1)


@attrs.frozen(kw_only=True)
class Checkpoint:
    """When the state of the run is saved, and how many are kept."""

    steps: int = _setting(500, "between two checkpoints; 0 for at the end only", least=0)
    keep_last: int = _setting(2, "the newest so many", least=1)
    keep_best: int = _setting(1, "and the best so many by evaluate.best", least=0)
    resume: bool = _setting(True, "go on from the newest one, if there is one")


@attrs.frozen(kw_only=True)
class Log:
    """What is written while it runs, beside `metrics.jsonl`."""

    tensorboard: bool = _setting(False, "events for TensorBoard (needs the extra log)")
    plot: bool = _setting(True, "loss.png (needs the extra plot)")
    progress: bool = _setting(True, "a bar")


@attrs.frozen
class Chosen:
    """A function by its name, with the settings that it is called with.

    Attributes:
      name: of the function; `""` for none.
      settings: by the names of its arguments.
    """

    name: str
    settings: Mapping[str, Any] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class Recipe:
    """A run: everything that decides what comes out of it.

    Attributes:
      name: of the run; what it writes is in `output/name`.
      output: folder of all runs.
    """

    name: str = _setting("run", "what it writes is in output/name")
    output: str = _setting("runs", "folder of all runs")
    model: Model = attrs.field(factory=Model)
    data: Data = attrs.field(factory=Data)
    adapter: Chosen = Chosen("none")
    optimizer: Chosen = Chosen("adamw")
    schedule: Chosen = Chosen("cosine")
    train: Train = attrs.field(factory=Train)
    evaluate: Evaluate = attrs.field(factory=Evaluate)
    checkpoint: Checkpoint = attrs.field(factory=Checkpoint)
    log: Log = attrs.field(factory=Log)
