"""Metrics of short answers: the exact match and the overlap with the best of several right ones."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable
from difflib import SequenceMatcher
from statistics import fmean

from mfunc.metrics.pairs import References, Texts, needed, paired

ARTICLE = re.compile(r"\b(?:a|an|the)\b")
ASCII_PUNCTUATION = str.maketrans("", "", string.punctuation)
# CMRC's own list: neither "." and "," nor "…" are in it.
CMRC_PUNCTUATION = str.maketrans("", "", "-:_*^/\\~`+=，。：？！“”；’《》·、「」（）－～『』")
SEGMENT = re.compile("([\u4e00-\u9fa5])|[^\u4e00-\u9fa5]+")


def squad(predictions: Texts, references: References) -> dict[str, float]:
    """Return exact match and F1 of answers, as SQuAD v1.1 defines them.

    Words are compared in lower case, without ASCII punctuation and the articles a, an, the. F1 is
    that of the two bags of words. Each row takes its best reference, for either number.

    Args:
      predictions: n texts.
      references: n texts, or lists of texts of which any is right.

    Returns:
      `exact_match` and `f1`, percent. An answer without any word has F1 = exact match (SQuAD 2.0's
      rule; v1.1 has F1 = 0 even where both have none).

    Raises:
      ValueError: no rows, unequal numbers of rows, a row without a reference.
      TypeError: a row that is no text.

    Example:
      >>> squad(["The Eiffel tower!", "in Paris"], [["Eiffel Tower"], ["Paris", "France"]])
      {'exact_match': 50.0, 'f1': 83.33333333333333}

    Source:
      Rajpurkar et al. 2016 and its `evaluate-v1.1.py`.
    """
    return _best("squad", predictions, references, _squad_words, _squad_words, _bag)


def cmrc(predictions: Texts, references: References) -> dict[str, float]:
    """Return exact match and F1 of Chinese answers, as CMRC 2018 defines them.

    In lower case and without CMRC's punctuation. For F1, Chinese characters stand alone, other runs
    are cut into words; precision and recall are the length of the longest common *substring* of the
    two, over theirs. (Its paper speaks of overlap; its script takes the substring.)

    Args:
      predictions: n texts.
      references: n texts, or lists of texts of which any is right.

    Returns:
      `exact_match` and `f1`, percent. An answer without any word has F1 = exact match.

    Raises:
      ValueError: no rows, unequal numbers of rows, a row without a reference.
      TypeError: a row that is no text.
      ImportError: without the extra `metrics`.

    Example:
      >>> cmrc(["郑州市。", "郑州"], ["郑州市", "郑州市"])
      {'exact_match': 50.0, 'f1': 90.0}

    Source:
      Cui et al. 2019 and its `cmrc2018_evaluate.py` v5; words by NLTK's Treebank rules, without its
      sentence splitter, which needs a download.
    """
    cut = needed("cmrc", "nltk.tokenize").NLTKWordTokenizer().tokenize

    def segments(text: str) -> list[str]:
        parts = SEGMENT.finditer(_cmrc_plain(text))
        return [word for part in parts for word in ([part[1]] if part[1] else cut(part[0]))]

    return _best("cmrc", predictions, references, _cmrc_plain, segments, _substring)


def _best(
    where: str,
    predictions: Texts,
    references: References,
    plain: Callable[[str], object],
    words: Callable[[str], list[str]],
    common: Callable[[list[str], list[str]], int],
) -> dict[str, float]:
    exact, overlap = [], []
    for prediction, golds in paired(where, predictions, references):
        said, found = plain(prediction), words(prediction)
        same = [said == plain(gold) for gold in golds]
        exact.append(any(same))
        overlap.append(
            max(
                2 * common(found, wanted) / (len(found) + len(wanted))
                if found and wanted
                else equal
                for equal, wanted in zip(same, map(words, golds), strict=True)
            )
        )
    return {"exact_match": 100.0 * fmean(exact), "f1": 100.0 * fmean(overlap)}


def _squad_words(text: str) -> list[str]:
    return ARTICLE.sub(" ", text.lower().translate(ASCII_PUNCTUATION)).split()


def _cmrc_plain(text: str) -> str:
    return text.lower().strip().translate(CMRC_PUNCTUATION)


def _bag(a: list[str], b: list[str]) -> int:
    return sum((Counter(a) & Counter(b)).values())


def _substring(a: list[str], b: list[str]) -> int:
    return SequenceMatcher(None, a, b, autojunk=False).find_longest_match().size
