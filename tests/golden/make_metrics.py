"""Writes metrics.json: scores of invented answers, by the projects that define the metrics.

README.md describes the entries. Needs: torchmetrics, torch, rouge-score, sacrebleu, nltk, seqeval
(versions in README.md, and in the file). Run:

    python make_metrics.py --out <folder>

The file is the same to the byte, run after run.
"""

from __future__ import annotations

import argparse
import json
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import nltk
import numpy as np
import torch
from nltk.translate.bleu_score import SmoothingFunction, corpus_bleu, sentence_bleu
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics import BLEU
from seqeval.metrics import classification_report
from torchmetrics.functional.classification import multiclass_accuracy
from torchmetrics.functional.text import perplexity, squad

# Invented rows: (prediction, references).
SHORT = [
    ("The lighthouse.", ["a lighthouse"]),
    ("in the harbour of Grey Bay", ["Grey Bay", "the Grey Bay harbour"]),
    ("seventeen", ["17"]),
    ("", ["nobody"]),
    ("twenty-two boats", ["22 boats", "twenty two boats", "boats"]),
    ("A man, a plan", ["man plan plan"]),
]
ANSWERS = [
    ("青石镇。", ["青石镇"]),
    ("在青石镇的北边", ["青石镇北边", "青石镇以北"]),
    ("1987年3月", ["1987年", "一九八七年三月"]),
    ("", ["不知道"]),
    ("他用 Python 3 写的程序", ["Python 3", "用python写的"]),
    ("北京-上海线", ["北京上海线"]),
    ("灯塔守护人", ["守护灯塔的人"]),
    ("the old red bridge, 老红桥", ["old bridge", "老红桥"]),
]
ENGLISH = [
    ("The old lighthouse keeper climbs the stairs every evening.",
     ["Every evening the old keeper climbs the lighthouse stairs."]),
    ("It rained, so nobody came to the market in the village.",
     ["Nobody came to the village market because of the rain.",
      "It rained; the market was empty."]),
    ("Bread is baked at 5 o'clock.", ["The bread is baked at five o'clock in the morning."]),
    ("", ["The ferry leaves at noon."]),
    ("A ferry", ["A ferry leaves at noon."]),
    ("the the the the the", ["the cat is on the mat"]),
]  # fmt: skip
CHINESE = [
    ("这件浅蓝色的衬衫款式简洁，适合春天穿。", ["浅蓝色衬衫，简洁的款式很适合春天。"]),
    ("宽松的版型，穿着舒适自在。", ["版型宽松，舒适自在。", "宽松舒适的版型，穿着自在。"]),
    ("领口处有精致的刺绣，让人眼前一亮。", ["精致的刺绣点缀在领口，令人眼前一亮。"]),
    ("裙摆飘逸，走路带风。", ["飘逸的裙摆，优雅大方。"]),
    ("纯棉面料A级，透气。", ["采用A级纯棉面料，柔软透气。"]),
]
TAGS = [
    ("B-PER I-PER O O B-LOC O", "B-PER I-PER O O B-LOC O"),
    ("B-PER O O B-ORG I-ORG I-ORG", "B-PER O B-LOC B-ORG I-ORG O"),
    ("S-LOC O S-PER B-ORG O O", "S-LOC O B-PER B-ORG I-ORG O"),
    ("I-LOC I-LOC O B-PER B-PER O", "B-LOC I-LOC O B-PER I-PER O"),
    ("B-PER I-ORG O O O B-LOC", "B-PER O O B-MISC I-MISC B-LOC"),
]


def cmrc_words(text: str) -> list[str]:
    """CMRC 2018's words, version 5: its punctuation away, each of 4E00..9FA5 alone, NLTK's words.

    `preserve_line`: without NLTK's sentence splitter, whose model is a download.
    """
    words, run = [], ""
    for char in cmrc_plain(text) + "一":
        if "一" <= char <= "龥":
            words += [*nltk.word_tokenize(run, preserve_line=True), char]
            run = ""
        else:
            run += char
    return words[:-1]


def cmrc_plain(text: str) -> str:
    """The text of which CMRC 2018 compares the whole."""
    kept = [
        c
        for c in text.lower().strip()
        if c not in "-:_*^/\\~`+=，。：？！“”；’《》·、「」（）－～『』"
    ]
    return "".join(kept)


def cmrc_f1(prediction: str, reference: str) -> float:
    """F1 from the longest run of words that both have."""
    said, wanted = cmrc_words(prediction), cmrc_words(reference)
    runs = {tuple(said[i:j]) for i in range(len(said)) for j in range(i + 1, len(said) + 1)}
    runs &= {tuple(wanted[i:j]) for i in range(len(wanted)) for j in range(i + 1, len(wanted) + 1)}
    longest = max(map(len, runs), default=0)
    if not longest:
        return 0.0
    precision, recall = longest / len(said), longest / len(wanted)
    return 2 * precision * recall / (precision + recall)


def cmrc_scores() -> dict[str, float]:
    """By the formula of the official script, version 5."""
    exact = [any(cmrc_plain(p) == cmrc_plain(r) for r in golds) for p, golds in ANSWERS]
    f1 = [max(cmrc_f1(p, r) for r in golds) for p, golds in ANSWERS]
    return {"exact_match": 100 * float(np.mean(exact)), "f1": 100 * float(np.mean(f1))}


def squad_scores() -> dict[str, float]:
    """By torchmetrics, which follows the official script of version 1.1."""
    said = [{"prediction_text": p, "id": str(i)} for i, (p, _) in enumerate(SHORT)]
    wanted = [
        {"answers": {"answer_start": [0] * len(golds), "text": golds}, "id": str(i)}
        for i, (_, golds) in enumerate(SHORT)
    ]
    return {name: float(value) for name, value in squad(said, wanted).items()}


def rouge_scores(rows: list, tokenize: object = None) -> dict[str, float]:
    """Mean F-measures by rouge-score, the best reference for each number."""
    names = ["rouge1", "rouge2", "rougeL"]
    tokenizer = tokenize and SimpleNamespace(tokenize=tokenize)
    scorer = RougeScorer(names, tokenizer=tokenizer)
    scores = [scorer.score_multi(golds, p) for p, golds in rows]
    return {name: 100 * float(np.mean([s[name].fmeasure for s in scores])) for name in names}


def bleu_score(rows: list, tokenize: str) -> float:
    """By sacrebleu, its defaults."""
    count = max(len(golds) for _, golds in rows)
    wanted = [[g[i] if i < len(g) else None for _, g in rows] for i in range(count)]
    return BLEU(tokenize=tokenize).corpus_score([p for p, _ in rows], wanted).score


def nltk_bleu(rows: list) -> dict[str, float]:
    """By NLTK over characters, with method 3: the mean of rows, and the corpus."""
    smooth = SmoothingFunction().method3
    said = [list(p) for p, _ in rows]
    wanted = [[list(g) for g in golds] for _, golds in rows]
    each = [
        sentence_bleu(g, p, smoothing_function=smooth) for p, g in zip(said, wanted, strict=True)
    ]
    corpus = corpus_bleu(wanted, said, smoothing_function=smooth)
    return {"sentence_bleu": 100 * float(np.mean(each)), "bleu": 100 * float(corpus)}


def entity_scores() -> dict[str, dict]:
    """The report of seqeval in its default mode: shares and counts."""
    said, wanted = ([row.split() for row in column] for column in zip(*TAGS, strict=True))
    report = classification_report(wanted, said, output_dict=True, zero_division=0)
    return {k: {n: float(x) for n, x in v.items()} for k, v in report.items()}


def token_scores() -> dict[str, object]:
    """Perplexity and accuracy by torchmetrics, in float64; -100 is not counted."""
    random = np.random.default_rng(3)
    logits = random.normal(size=(3, 6, 5)).round(2) * 2
    targets = random.integers(0, 5, (3, 6))
    targets[0, 4:], targets[1, 0], targets[2, 2:] = -100, -100, -100
    scores, right = torch.tensor(logits), torch.tensor(targets)
    accuracy = multiclass_accuracy(
        scores.reshape(-1, 5), right.reshape(-1), 5, average="micro", ignore_index=-100
    )
    return {
        "logits": logits.tolist(),
        "targets": targets.tolist(),
        "perplexity": float(perplexity(scores, right, ignore_index=-100)),
        "accuracy": 100 * float(accuracy),
    }


def main() -> None:
    """Reads the arguments and writes the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    args = parser.parse_args()
    used = ("torchmetrics", "rouge-score", "sacrebleu", "nltk", "seqeval")
    english = {"13a": bleu_score(ENGLISH, "13a"), "intl": bleu_score(ENGLISH, "intl")}
    found = {
        "made_with": {name: version(name) for name in used},
        "squad": {"rows": SHORT, "scores": squad_scores()},
        "cmrc": {"rows": ANSWERS, "scores": cmrc_scores()},
        "rouge_words": {"rows": ENGLISH, "scores": rouge_scores(ENGLISH)},
        "rouge_char": {"rows": CHINESE, "scores": rouge_scores(CHINESE, list)},
        "bleu_english": {"rows": ENGLISH, "scores": english},
        "bleu_chinese": {
            "rows": CHINESE,
            "scores": {"zh": bleu_score(CHINESE, "zh"), "char": bleu_score(CHINESE, "char")},
            "nltk": nltk_bleu(CHINESE),
        },
        "entities": {"rows": TAGS, "scores": entity_scores()},
        "tokens": token_scores(),
    }
    text = ",\n".join(
        f"{json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}"
        for key, value in found.items()
    )
    (args.out / "metrics.json").write_text(f"{{\n{text}\n}}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
