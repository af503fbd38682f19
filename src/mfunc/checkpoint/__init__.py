"""Checkpoints: a tree in a file, the state of a run in a folder, the files of others.

A run that goes on, to the same bits, whenever it was stopped or killed:

    run = mf.Checkpointer("runs/mine", config={"rate": 1e-4, "data": md.fingerprint(columns)})
    state, start = mf.train.init_state(params, optimizer), 0
    if mf.checkpoint.steps(run):
        state, start, *_ = mf.checkpoint.restore(run, state)
    with mf.checkpoint.background(run) as save:
        batches = md.epochs(columns, seed=0, size=8, start=start)
        for number, batch in enumerate(batches, start + 1):
            state, metrics = step(state, batch)
            if number % 100 == 0:
                save(state, {**metrics, "step": number})
"""

from mfunc.checkpoint.arrays import (
    load,
    missing_and_extra,
    read_arrays,
    read_bits,
    save,
    write_arrays,
    write_whole,
)
from mfunc.checkpoint.mindspore_files import from_ckpt, read_ckpt, to_ckpt, write_ckpt
from mfunc.checkpoint.naming import from_names, to_names
from mfunc.checkpoint.restoring import Restored, restore
from mfunc.checkpoint.run import Checkpointer, save_state, steps
from mfunc.checkpoint.writer import background

__all__ = [
    "Checkpointer",
    "Restored",
    "background",
    "from_ckpt",
    "from_names",
    "load",
    "missing_and_extra",
    "read_arrays",
    "read_bits",
    "read_ckpt",
    "restore",
    "save",
    "save_state",
    "steps",
    "to_ckpt",
    "to_names",
    "write_arrays",
    "write_ckpt",
    "write_whole",
]
