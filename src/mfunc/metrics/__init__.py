"""Metrics: pure functions of what a model said and what is right. Plain Python and NumPy.

Shares are percent, 0 to 100, everywhere, as papers report them; perplexity alone is not a share.
Nothing is accumulated in secret: keep the predictions, then measure them. A metric of generated
answers is `(predictions, references) -> {name: number}`, where a row has one reference or a list
of them; `measure` runs several at once. The libraries come with the extra `metrics`.
"""

from mfunc.metrics.answers import cmrc, squad
from mfunc.metrics.chunks import entities, tags
from mfunc.metrics.classes import accuracy, token_accuracy
from mfunc.metrics.extraction import Span, spans
from mfunc.metrics.likelihood import perplexity, prompt_accuracy
from mfunc.metrics.overlap import bleu, rouge, sentence_bleu
from mfunc.metrics.pairs import Metric, measure

__all__ = [
    "Metric",
    "Span",
    "accuracy",
    "bleu",
    "cmrc",
    "entities",
    "measure",
    "perplexity",
    "prompt_accuracy",
    "rouge",
    "sentence_bleu",
    "spans",
    "squad",
    "tags",
    "token_accuracy",
]
