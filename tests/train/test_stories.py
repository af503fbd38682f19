"""A real model and real rows: stories260K, and GSM8K packed by its tokenizer."""

from __future__ import annotations

import mindspore as ms
import numpy as np
import pytest

import mfunc.data as md
from mfunc import random, tree
from mfunc.adapt import lora
from mfunc.auto import from_pretrained
from mfunc.loss import next_token_loss
from mfunc.optim import accumulate, adamw, chain, clip_by_global_norm, dynamic_loss_scale, sgd
from mfunc.schedule import cosine
from mfunc.train import fit, init_state, train_step


def bits(node):
    return [leaf.asnumpy().tobytes() for leaf in tree.leaves(node)]


MATHS = md.Template(user="Question: {content}\nAnswer: ", assistant="{content}")


@pytest.fixture(scope="module")
def stories_and_maths(shared):
    """stories260K, and GSM8K rows packed to 256 tokens by its tokenizer."""
    stories = from_pretrained(shared / "data" / "checkpoints" / "stories260K")
    read = md.compose(
        md.pack(256),
        md.truncate(256, policy="drop"),
        md.tokenize(stories.tokenizer, append_eos=True, prepend_bos=True),
        md.chat(style="alpaca", template=MATHS),
    )
    file, fields = (
        shared / "data" / "gsm8k" / "train.jsonl",
        {"instruction": "question", "output": "answer"},
    )
    rows = next(iter(md.read(file, fields=fields, chunk_rows=800)))
    return stories, read(rows)


@pytest.mark.slow
def test_lora_teaches_a_real_model_maths_and_merges(stories_and_maths):
    (model, config, params, _), packed = stories_and_maths
    settings = lora.Config(rank=8, alpha=16, targets=("layers/*/q", "layers/*/v"))

    def loss(adapter, batch, frozen):
        segments = batch["segment_ids"]
        logits = model.apply(
            lora.apply(frozen, adapter, settings), config, batch["input_ids"],
            segment_ids=segments, position_ids=batch["position_ids"],
        )  # fmt: skip
        return next_token_loss(logits, batch["labels"], segments)

    optimizer = chain(clip_by_global_norm(1.0), adamw(cosine(1e-2, total_steps=30, warmup_steps=3)))
    state, before = init_state(lora.init(random.key(0), params, settings), optimizer), bits(params)
    given = md.take(60)(packed)
    step, batched = train_step(loss, optimizer), md.batch(2)(given)
    run = list(fit(step, state, batched, params, progress=False))
    losses = [metrics["loss"] for _, metrics in run]
    assert len(losses) == 30
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:5])
    assert bits(params) == before

    adapter, ids = run[-1][0]["params"], ms.Tensor(given["input_ids"][:2])
    beside = model.apply(lora.apply(params, adapter, settings), config, ids).asnumpy()
    merged = model.apply(lora.merge(params, adapter, settings), config, ids).asnumpy()
    np.testing.assert_allclose(merged, beside, rtol=1e-4, atol=1e-4)
    assert np.abs(merged - model.apply(params, config, ids).asnumpy()).max() > 0.1


# --- all parameters ---


@pytest.fixture(scope="module")
def whole_loss(stories_and_maths):
    (model, config, _, _), _ = stories_and_maths

    def loss(params, batch):
        segments = batch["segment_ids"]
        logits = model.apply(
            params, config, batch["input_ids"], segment_ids=segments,
            position_ids=batch["position_ids"],
        )  # fmt: skip
        return next_token_loss(logits, batch["labels"], segments)

    return loss


@pytest.mark.slow
def test_four_batches_of_two_are_one_of_eight(stories_and_maths, whole_loss):
    """Rows of very different numbers of trained tokens; a mean of means would be something else."""
    (_, _, params, _), packed = stories_and_maths
    rows = md.take(16)(packed)
    few = np.arange(256) >= np.resize([0, 250, 128, 200, 30], 16)[:, None]
    rows = {**rows, "labels": np.where(few, -100, rows["labels"]).astype(np.int32)}
    small = train_step(whole_loss, accumulate(4, sgd(1.0)))
    large = train_step(whole_loss, sgd(1.0))
    state, wanted = init_state(params, accumulate(4, sgd(1.0))), init_state(params, sgd(1.0))
    before = params
    for eight in md.batch(8)(rows):
        parts = list(fit(small, state, md.batch(2)(eight), progress=False))
        assert bits(parts[2][0]["params"]) == bits(before), "only the fourth batch moves anything"
        state, _ = parts[-1]
        wanted, metrics = large(wanted, eight)
        counts = [m["tokens"] for _, m in parts]
        assert max(counts) > 1.5 * min(counts)
        mean = np.average([m["loss"] for _, m in parts], weights=counts)
        assert mean == pytest.approx(float(metrics["loss"]), rel=1e-6)
        pairs = zip(*map(tree.leaves, (state["params"], wanted["params"], before)), strict=True)
        for one, other, old in pairs:
            moved = np.abs(other.asnumpy() - old.asnumpy()).max()
            assert np.abs(one.asnumpy() - other.asnumpy()).max() < 1e-5 * moved + 1e-7
        before = state["params"]


@pytest.mark.slow
def test_half_precision_with_a_loss_scale_trains_as_well(stories_and_maths, whole_loss):
    """Parameters, activations and gradients are float16, the moments of the optimizer float32."""
    (_, _, params, _), packed = stories_and_maths
    given, steps = md.take(120)(packed), 30
    inner = chain(clip_by_global_norm(1.0), adamw(cosine(2e-3, total_steps=steps, warmup_steps=3)))
    curves = {}
    scaled = dynamic_loss_scale(inner, initial=2.0**10)  # from 2**16 on it would skip steps first
    for dtype, optimizer in ((ms.float32, inner), (ms.float16, scaled)):
        start = tree.map(lambda leaf, dtype=dtype: ms.Tensor(leaf.asnumpy(), dtype), params)
        step, state = train_step(whole_loss, optimizer, donate=True), init_state(start, optimizer)
        run = list(fit(step, state, md.batch(4)(given), progress=False, on_nonfinite="count"))
        curves[dtype] = [metrics["loss"] for _, metrics in run]
        assert {leaf.dtype for leaf in tree.leaves(run[-1][0]["params"])} == {dtype}
    whole, half = curves[ms.float32], curves[ms.float16]
    assert np.mean(whole[-10:]) < 0.85 * np.mean(whole[:3])
    assert np.mean(half[-10:]) == pytest.approx(np.mean(whole[-10:]), rel=0.01)
    assert half != whole
    assert int(run[-1][0]["optimizer"]["skipped"]) == 0
