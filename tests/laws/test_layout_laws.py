"""However samples lie in rows, each has the loss it has alone, and the gradients are the same."""

from __future__ import annotations

import importlib
import pkgutil

import numpy as np
import pytest
from mindspore import Tensor
from tests.models import DECODERS
from tests.trees import arrays, assert_close

import mfunc.data as md
from mfunc import loss as losses
from mfunc import nn, random, tree
from mfunc.dynamic import Dim
from mfunc.gradient import value_and_grad
from mfunc.transform import jit

LENGTH = Dim("length", divisor=4, remainder=1, max=33)
SIZES = (9, 3, 14, 6, 2, 21, 5, 12)
COLUMNS = ("input_ids", "labels", "segment_ids", "position_ids")


def samples(vocab_size: int) -> dict[str, md.Ragged]:
    """Samples of other lengths; the first label of each is not trained, nor a third of the rest."""
    rng = np.random.default_rng(0)
    ids = [rng.integers(1, vocab_size, n) for n in SIZES]
    labels = [np.where(rng.random(len(row)) < 0.3, -100, row) for row in ids]
    for row, each in zip(ids, labels, strict=True):
        each[0], each[-1] = -100, row[-1]
    number = [np.full(n, i) for i, n in enumerate(SIZES)]
    columns = {"input_ids": ids, "labels": labels, "number": number}
    return {name: md.Ragged.from_rows(rows) for name, rows in columns.items()}


def layouts(columns: dict) -> dict[str, list[dict]]:
    """Batches of each layout."""
    dynamic = md.pad_to_divisor(LENGTH)
    neat = md.pack(32, pad_id=0)(columns)
    return {
        "static": [md.pad_to_divisor(33, max_length=33)(columns)],
        "dynamic": [dynamic(batch) for batch in md.batch(3)(columns)],
        "buckets": [dynamic(rows) for rows in md.batch_by_length(3, key_or_seed=0)(columns)],
        "neat pack": [neat],
        "neat pack in blocks": [md.with_attention_blocks(4)(neat)],
        "plain pack": [md.pack(32, isolate=False)(columns)],
    }


def measured(name: str, family: str) -> tuple[float, dict, np.ndarray]:
    """Mean loss over all tokens, its gradient, and the loss of each sample."""
    module, config = DECODERS[family]

    def loss(params, batch):
        logits = module.apply(
            params, config, batch["input_ids"], segment_ids=batch["segment_ids"],
            position_ids=batch["position_ids"], blocks=batch["blocks"],
        )  # fmt: skip
        mean, count = losses.next_token_loss(logits, batch["labels"], batch["segment_ids"])
        each, _ = losses.sample_losses(logits, batch["labels"], batch["segment_ids"])
        return mean, (count, each)

    flexible = name in ("dynamic", "buckets")
    dynamic = {f"1/{column}": (None, LENGTH) for column in COLUMNS} if flexible else None
    fast = jit(value_and_grad(loss, has_aux=True), dynamic=dynamic)
    params = module.init(random.key(3), config)
    found, total, summed, count = np.full(len(SIZES), np.nan), 0.0, None, 0.0
    for batch in layouts(samples(config.vocab_size))[name]:
        given = {column: Tensor(batch[column]) for column in COLUMNS}
        blocks = batch.get("attention_blocks")
        given["blocks"] = blocks and {key: Tensor(value) for key, value in blocks.items()}
        (mean, (tokens, each)), gradient = fast(params, given)
        tokens, each = float(tokens), each.asnumpy()
        total, count = total + float(mean) * tokens, count + tokens
        gradient = tree.map(lambda x, n=tokens: x * n, arrays(gradient))
        summed = gradient if summed is None else tree.map(np.add, summed, gradient)
        for row, column in np.argwhere(batch["segment_ids"] > 0):
            found[batch["number"][row, column]] = each[row, batch["segment_ids"][row, column]]
    return total / count, tree.map(lambda x: np.float32(x / count), summed), found


@pytest.fixture(scope="module", params=sorted(DECODERS))
def static(request):
    return request.param, measured("static", request.param)


def test_no_family_that_decodes_is_forgotten():
    modules = [module.name for module in pkgutil.iter_modules(nn.__path__)]
    decoders = [n for n in modules if hasattr(importlib.import_module(f"mfunc.nn.{n}"), "decode")]
    assert decoders == sorted(DECODERS)


@pytest.mark.parametrize("name", ["dynamic", "buckets", "neat pack", "neat pack in blocks"])
def test_a_sample_costs_what_it_costs_alone(static, name):
    """Loss by sample, mean loss and every gradient, to 1e-6 of float32."""
    family, (mean, gradient, each) = static
    its_mean, its_gradient, its_each = measured(name, family)
    np.testing.assert_allclose(its_each, each, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(its_mean, mean, rtol=0, atol=1e-6)
    assert_close(its_gradient, gradient, atol=1e-6)
    assert all(leaf.any() for leaf in tree.leaves(its_gradient))


def test_plain_packs_are_another_loss(static):
    """Samples see those before them: here the mean moves by some percent, not by rounding."""
    family, (mean, gradient, _) = static
    its_mean, its_gradient, _ = measured("plain pack", family)
    assert 1e-3 < abs(its_mean - mean) / mean < 0.5
    apart = [
        np.abs(a - b).max()
        for a, b in zip(*map(tree.leaves, (gradient, its_gradient)), strict=True)
    ]
    assert max(apart) > 1e-3
