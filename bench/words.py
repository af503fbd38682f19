"""Tokenizing in numbers: CPU seconds of one thread, and ratios to SentencePiece in the same run.

    python bench/words.py --data alpaca.json tokenizer.model

Without data the texts are the project's own documents, and a model is trained on them. (The script
is not called tokenize.py: that would hide Python's own module from every script beside it.)
"""

from __future__ import annotations

import argparse
import gc
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import sentencepiece as engine

import mfunc.data as md

ROOT = Path(__file__).resolve().parents[1]


def read_texts(path: str) -> list[str]:
    """What `tokenize` encodes of a file of alpaca rows: every piece once."""
    pieces = md.chat(style="alpaca", template="alpaca")(md.concat(list(md.read(path))))["pieces"]
    return list({piece.text: None for row in pieces for piece in row if not piece.special})


def own_texts(folder: str) -> tuple[list[str], str]:
    """The paragraphs of the project's documents and sources, and a model of them."""
    files = [*sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("docs/*.md"))]
    files += sorted(ROOT.glob("src/**/*.py"))
    texts = [part for file in files for part in file.read_text("utf-8").split("\n\n")]
    prefix = str(Path(folder) / "own")
    engine.SentencePieceTrainer.train(
        sentence_iterator=iter("\n".join(texts).split("\n")),
        model_prefix=prefix,
        vocab_size=4000,
        model_type="bpe",
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        minloglevel=2,
    )
    return texts, prefix + ".model"


def seconds(function: Callable[[], Any]) -> tuple[float, Any]:
    """CPU time of one call, and its result."""
    gc.collect()
    begin = time.process_time()
    result = function()
    return time.process_time() - begin, result


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", nargs=2, metavar=("FILE", "TOKENIZER"))
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        texts, path = (read_texts(args.data[0]), args.data[1]) if args.data else own_texts(folder)
        plain = engine.SentencePieceProcessor(model_file=path)
        one = {"return_type": "numpy", "num_threads": 1}
        times: dict[str, list[float]] = {}
        for _ in range(args.rounds):
            used, rows = seconds(lambda: plain.encode(texts, **one))
            times.setdefault("sentencepiece", []).append(used)
            wanted = md.Ragged.from_rows(rows, np.int32)
            for name, fast in (("words", False), ("fast", True)):
                tokenizer = md.sentencepiece(path, fast=fast)
                for state in ("cold", "warm"):
                    used, found = seconds(lambda it=tokenizer: it.encode_ragged(texts))
                    times.setdefault(f"{name}, {state}", []).append(used)
                    if found != wanted:
                        raise SystemExit(f"{name}: other ids than SentencePiece")
        tokenizer = md.sentencepiece(path)
        tracemalloc.start()
        tokenizer.encode_ragged(texts)
        kept = tracemalloc.get_traced_memory()[0] / 1e6
    print(f"{len(texts)} texts, {len(wanted.flat)} tokens; ids are the same in every case")
    print(f"words keep {kept:.1f} MB; medians of {args.rounds} rounds")
    print("way               CPU s     x sentencepiece")
    base = np.median(times["sentencepiece"])
    for name, used in times.items():
        print(f"{name:15s}  {np.median(used):6.3f}  {base / np.median(used):6.1f}")


if __name__ == "__main__":
    main()
