"""`mfunc adapter merge` of a tiny run."""

from __future__ import annotations

import numpy as np

import mfunc as mf
from mfunc import tree
from mfunc.cli import main


def test_a_merged_model_computes_what_the_run_computed(run_folder):
    merged, adapter = run_folder / "merged", run_folder / "runs" / "run" / "adapter"
    words = ["--model", str(run_folder / "model"), "--adapter", str(adapter)]
    assert main(["adapter", "merge", *words, "--output", str(merged)]) == 0
    before, after = mf.from_pretrained(run_folder / "model"), mf.from_pretrained(merged)
    moved = [
        path
        for path, a, b in zip(
            tree.paths(before.params), tree.leaves(before.params), tree.leaves(after.params),
            strict=True,
        )
        if not np.array_equal(a.asnumpy(), b.asnumpy())
    ]  # fmt: skip
    assert sorted({path.rpartition("/")[2] for path in moved}) == ["k", "o", "q", "v"]
    assert after.tokenizer.vocab_size == before.tokenizer.vocab_size
