"""A run that can be stopped anywhere: a tiny LLaMA, packed shuffled rows, a key in its state.

python tests/resumable.py FOLDER LAST [--save-every N]

It goes on from the newest checkpoint in FOLDER, if there is one, and writes a line for each step to
FOLDER/losses.txt: its number and the bits of its loss. Step LAST is saved in any case.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

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
    """30 samples of 1 to 12 tokens: 6 or 7 batches an epoch."""
    rng = np.random.default_rng(0)
    ids = [rng.integers(1, 16, n) for n in rng.integers(1, 13, 60)]
    return {name: md.Ragged.from_rows(ids) for name in ("input_ids", "labels")}


def loss(params, batch, key):
    """Next tokens, of noisy embeddings."""
    noise = mf.random.normal(key, (16, 8)) * 0.1
    noisy = {
        "embed": params["embed"] + noise,
        "layers": params["layers"],
        "norm": params["norm"],
        "head": params["head"],
    }
    logits = llama.apply(
        noisy,
        CONFIG,
        batch["input_ids"],
        segment_ids=batch["segment_ids"],
        position_ids=batch["position_ids"],
    )
    return mf.loss.next_token_loss(logits, batch["labels"], batch["segment_ids"])


def step(state, batch, home=None):
    key, its_key = mf.random.split(state["key"])
    slope = mf.value_and_grad(loss, has_aux=True)
    (value, _), grads = slope(state["params"], batch, its_key)
    params, optimizer = mf.optim.step(OPTIMIZER, grads, state["optimizer"], state["params"], home)
    return {"params": params, "optimizer": optimizer, "key": key}, value


def first_state():
    params = llama.init(mf.random.key(0), CONFIG)
    return {**mf.train.init_state(params, OPTIMIZER), "key": mf.random.key(7)}


def checkpointer(folder):
    config = {"model": CONFIG, "batches": BATCHES, "data": md.fingerprint(rows())}
    return mf.Checkpointer(folder, config=config, keep_last=3)


def train(folder: Path, last: int, save_every: int, donate: bool = True) -> None:
    run, state, start = checkpointer(folder), first_state(), 0
    if mf.checkpoint.steps(run):
        state, start, *_ = mf.checkpoint.restore(run, state)
    advance = mf.jit(step, donate_argnums=0, home="home") if donate else mf.jit(step)
    with mf.checkpoint.background(run) as save, (folder / "losses.txt").open("a") as log:
        batches = md.epochs(rows(), start=start, **BATCHES)
        for number in range(start + 1, last + 1):
            state, value = advance(state, next(batches))
            log.write(f"{number} {value.asnumpy().tobytes().hex()}\n")
            log.flush()
            if number % save_every == 0 or number == last:
                save(state, {"step": number, "loss": value})


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("last", type=int)
    parser.add_argument("--save-every", type=int, default=1)
    parser.add_argument("--no-donation", action="store_true")
    given = parser.parse_args()
    train(given.folder, given.last, given.save_every, not given.no_donation)
