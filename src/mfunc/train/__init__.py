"""Training: a compiled step, a loop that yields, and plain functions that it calls.

    step = train_step(loss, optimizer, donate=True)
    state = init_state(params, optimizer)
    watch = [
        every(evaluating(compiled_loss, held_out), early_stopping(patience=3), steps=100),
        log_jsonl("runs/first/log.jsonl"),
    ]
    for state, metrics in fit(step, state, batches, total=1000, callbacks=watch):
        ...

A callback is any function `(state, metrics) -> mapping or None`. What it returns is merged into the
metrics of the step, so the next callbacks see it; `{"stop": "why"}` ends the loop.
"""

from mfunc.train.callbacks import Callback, early_stopping, evaluating, every
from mfunc.train.logs import log_jsonl, log_tensorboard, loss_plot, read_log
from mfunc.train.loop import fit
from mfunc.train.measure import evaluate
from mfunc.train.step import Step, init_state, train_step

__all__ = [
    "Callback", "Step", "early_stopping", "evaluate", "evaluating", "every", "fit", "init_state",
    "log_jsonl", "log_tensorboard", "loss_plot", "read_log", "train_step",
]  # fmt: skip
