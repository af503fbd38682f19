"""Schedules: functions of the step, `step -> learning rate`.

They take a Python int, for a plot or a test, or an int Tensor inside a compiled step; the step of
the first update is 0. Each rises linearly from 0 during its warm-up, and reaches `peak` at the step
that ends it.

The sources differ; these do as transformers does, but for two things in which they follow
MindFormers: a ratio of warm-up is rounded down (transformers rounds up), and a cosine stays at its
end (in transformers it rises again, in MindFormers below 1.0 too). MindFormers' `warmup_lr_init` is
0 here, and its polynomial of 0.6, which goes below its end after the last step, is not followed.
"""

from mfunc.schedule.ending import cosine, cosine_with_restarts, linear, polynomial, wsd
from mfunc.schedule.endless import constant, inverse_sqrt
from mfunc.schedule.rising import Schedule

__all__ = [
    "Schedule", "constant", "cosine", "cosine_with_restarts", "inverse_sqrt", "linear",
    "polynomial", "wsd",
]  # fmt: skip
