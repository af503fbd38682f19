"""A run that can be stopped anywhere: packed, shuffled rows, AdamW, a key in its state.

python tests/resumable.py FOLDER LAST [--model llama] [--save-every N] [--no-donation]

It goes on from the newest checkpoint in FOLDER, if there is one, and writes a line for each step to
FOLDER/losses.txt: its number and the bits of its loss. Step LAST is saved in any case.
"""

from __future__ import annotations

import argparse
import functools
from pathlib import Path

import mindspore as ms
import numpy as np
from mindspore import ops

import mfunc as mf
import mfunc.data as md
from mfunc.nn import llama

CONFIG = llama.Config(
    vocab_size=16, hidden_size=8, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
    initializer_range=0.3,
)  # fmt: skip
OPTIMIZER = mf.optim.chain(mf.optim.clip_by_global_norm(1.0), mf.optim.adamw(1e-2))
BATCHES = {"seed": 3, "size": 4, "prepare": md.pack(16)}


def rows():
    """60 samples of 1 to 12 tokens: 6 batches an epoch."""
    rng = np.random.default_rng(0)
    ids = [rng.integers(1, 16, n) for n in rng.integers(1, 13, 60)]
    return {name: md.Ragged.from_rows(ids) for name in ("input_ids", "labels")}


def llama_loss(params, batch, key):
    """Next tokens, of noisy embeddings."""
    noisy = {
        "embed": params["embed"] + mf.random.normal(key, (16, 8)) * 0.1,
        "layers": params["layers"],
        "norm": params["norm"],
        "head": params["head"],
    }
    segments = batch["segment_ids"]
    logits = llama.apply(
        noisy,
        CONFIG,
        batch["input_ids"],
        segment_ids=segments,
        position_ids=batch["position_ids"],
    )
    return mf.loss.next_token_loss(logits, batch["labels"], segments)


def bigram_loss(params, batch, key):
    """Next tokens by the last one; compiles in half the time. The key is two random numbers."""
    noise = (ops.cast(key, ms.float32) * 2.0**-32).sum()
    hidden = params["embed"][batch["input_ids"]] * (1.0 + 0.1 * noise)
    return mf.loss.next_token_loss(hidden @ params["head"], batch["labels"], batch["segment_ids"])


def step_of(loss):
    def step(state, batch, home=None):
        key, its_key = mf.random.split(state["key"])
        slope = mf.value_and_grad(loss, has_aux=True)
        (value, _), grads = slope(state["params"], batch, its_key)
        params, after = mf.optim.step(OPTIMIZER, grads, state["optimizer"], state["params"], home)
        return {"params": params, "optimizer": after, "key": key}, value

    return step


STEPS = {"llama": step_of(llama_loss), "bigram": step_of(bigram_loss)}


@functools.cache
def compiled(model, donate):
    """Once a process."""
    donated = {"donate_argnums": 0, "home": "home"} if donate else {}
    return mf.jit(STEPS[model], **donated)


def first_state(model):
    params = llama.init(mf.random.key(0), CONFIG)
    if model == "bigram":
        params = {name: params[name] for name in ("embed", "head")}
    return {**mf.train.init_state(params, OPTIMIZER), "key": mf.random.key(7)}


def checkpointer(folder, model, keep_last=3):
    config = {"model": model, "batches": BATCHES, "data": md.fingerprint(rows())}
    return mf.Checkpointer(folder, config=config, keep_last=keep_last)


def train(folder, last, model="bigram", save_every=1, donate=True, keep_last=3):
    """Train up to a step; return the last state and the losses from where it began."""
    run, state, start = checkpointer(folder, model, keep_last), first_state(model), 0
    if mf.checkpoint.steps(run):
        state, start, *_ = mf.checkpoint.restore(run, state)
    advance, losses = compiled(model, donate), {}
    with mf.checkpoint.background(run) as save, (Path(folder) / "losses.txt").open("a") as log:
        batches = md.epochs(rows(), start=start, **BATCHES)
        for number in range(start + 1, last + 1):
            state, value = advance(state, next(batches))
            losses[number] = value.asnumpy().tobytes().hex()
            log.write(f"{number} {losses[number]}\n")
            log.flush()
            if number % save_every == 0 or number == last:
                save(state, {"step": number, "loss": value})
    return state, losses


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("last", type=int)
    parser.add_argument("--model", choices=STEPS, default="bigram")
    parser.add_argument("--save-every", type=int, default=1)
    parser.add_argument("--no-donation", action="store_true")
    given = parser.parse_args()
    train(given.folder, given.last, given.model, given.save_every, not given.no_donation)
