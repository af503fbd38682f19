"""Predictions and their references, row by row: what every metric of answers takes."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any

Texts = Sequence[str]
References = Sequence[str | Sequence[str]]
Metric = Callable[[Texts, References], dict[str, float]]


def measure(
    metrics: Mapping[str, Metric], predictions: Texts, references: References
) -> dict[str, float]:
    """Measure the same answers in several ways.

    Args:
      metrics: name -> metric; settings are bound by `functools.partial(rouge, tokenize="char")`.
      predictions: n texts.
      references: n texts, or lists of texts of which any is right.

    Returns:
      `{"name/key": number}`, flat, so that it joins the metrics of a training step.

    Raises:
      ValueError: there is no metric; or what a metric raises.

    Example:
      >>> from mfunc.metrics.answers import squad
      >>> measure({"short": squad}, ["the cat"], ["a cat"])
      {'short/exact_match': 100.0, 'short/f1': 100.0}
    """
    if not metrics:
        raise ValueError("measure: no metrics; give at least one, such as {'squad': squad}")
    return {
        f"{name}/{key}": value
        for name, metric in metrics.items()
        for key, value in metric(predictions, references).items()
    }


def paired(where: str, predictions: Texts, references: References) -> list[tuple[str, list[str]]]:
    """Each prediction with all its references, or an error that names the row.

    Example:
      >>> paired("squad", ["a", "b"], ["a", ["b", "c"]])
      [('a', ['a']), ('b', ['b', 'c'])]
    """
    said, wanted = (
        listed(where, "predictions", predictions),
        listed(where, "references", references),
    )
    if len(said) != len(wanted):
        raise ValueError(
            f"{where}: {len(said)} predictions but {len(wanted)} references; each prediction needs "
            "one reference, or one list of them"
        )
    if not said:
        raise ValueError(f"{where}: no predictions; nothing can be measured")
    golds = [[r] if isinstance(r, str) else r for r in wanted]
    for row, (text, right) in enumerate(zip(said, golds, strict=True)):
        if not isinstance(text, str):
            raise TypeError(f"{where}: prediction {row} must be a text, got {text!r}")
        if not isinstance(right, Sequence) or not all(isinstance(r, str) for r in right):
            raise TypeError(
                f"{where}: reference {row} must be a text or a list of texts, got {right!r}"
            )
        if not right:
            raise ValueError(
                f"{where}: the list of references {row} is empty; give one, or leave the row out"
            )
    return [(text, list(right)) for text, right in zip(said, golds, strict=True)]


def listed(where: str, name: str, values: Iterable[Any]) -> list[Any]:
    """A list of the rows; one text, a mapping or a set are no rows.

    Example:
      >>> listed("squad", "predictions", "Paris")
      Traceback (most recent call last):
      TypeError: squad: predictions must be a list with one entry a row, got a str
    """
    if isinstance(values, str | bytes | Mapping | AbstractSet) or not isinstance(values, Iterable):
        raise TypeError(
            f"{where}: {name} must be a list with one entry a row, got a {type(values).__name__}"
        )
    return list(values)


def needed(where: str, module: str) -> Any:
    """Import a module of the extra `metrics`, when it is used and not before.

    Example:
      >>> needed("rouge", "no_such_module.part")
      Traceback (most recent call last):
      ImportError: rouge needs the package no_such_module: pip install 'mfunc[metrics]'
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise ImportError(
            f"{where} needs the package {package}: pip install 'mfunc[metrics]'"
        ) from error
