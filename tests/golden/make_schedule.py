"""Writes schedule.json: learning rates of schedules at some steps.

The references are the formula of MindFormers (by hand, see `MINDFORMERS`), and the schedules of
Hugging Face transformers. README.md describes the entries. Needs: transformers, torch (versions in
README.md). Run:

    python make_schedule.py --out <folder>

The file is the same to the byte, run after run.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import torch
import transformers

# CosineWithWarmUpLR of MindFormers 1.x, worked by hand: peak t / warmup up to the peak, then
# end + (peak - end) (1 + cos(pi (t - warmup) / (total - warmup))) / 2, and `end` after `total`.
MINDFORMERS = {
    "source": "MindFormers 1.x CosineWithWarmUpLR, formula evaluated by hand",
    "schedule": "cosine",
    "settings": {"peak": 1e-4, "total_steps": 1000, "warmup_ratio": 0.03, "end": 0.0},
    "points": [[0, 0.0], [15, 5e-5], [30, 1e-4], [515, 5e-5], [1000, 0.0], [1500, 0.0]],
}


def cosine(optimizer: torch.optim.Optimizer, total: int, warmup: int, end: float) -> Callable:
    """The cosine of transformers; with an end that is not 0 it is another function there."""
    if end:
        return transformers.get_cosine_with_min_lr_schedule_with_warmup(
            optimizer, warmup, total, min_lr=end
        )
    return transformers.get_cosine_schedule_with_warmup(optimizer, warmup, total)


def linear(optimizer: torch.optim.Optimizer, total: int, warmup: int, end: float) -> Callable:
    """The linear schedule of transformers ends at 0; a polynomial of power 1 ends anywhere."""
    if end:
        return polynomial(optimizer, total, warmup, end, power=1.0)
    return transformers.get_linear_schedule_with_warmup(optimizer, warmup, total)


def polynomial(
    optimizer: torch.optim.Optimizer, total: int, warmup: int, end: float, power: float
) -> Callable:
    """The polynomial schedule of transformers."""
    return transformers.get_polynomial_decay_schedule_with_warmup(
        optimizer, warmup, total, lr_end=end, power=power
    )


def constant(optimizer: torch.optim.Optimizer, warmup: int) -> Callable:
    """The constant schedule of transformers, after its warm-up."""
    return transformers.get_constant_schedule_with_warmup(optimizer, warmup)


# warmup_steps as such, or warmup_ratio of total_steps where the product is a whole number.
CASES = [
    ("cosine", {"peak": 3e-4, "total_steps": 200, "warmup_steps": 20, "end": 0.0}),
    ("cosine", {"peak": 1e-4, "total_steps": 1000, "warmup_ratio": 0.03, "end": 0.0}),
    ("cosine", {"peak": 3e-4, "total_steps": 200, "warmup_steps": 0, "end": 0.0}),
    ("cosine", {"peak": 3e-4, "total_steps": 200, "warmup_steps": 20, "end": 3e-5}),
    ("linear", {"peak": 3e-4, "total_steps": 200, "warmup_steps": 20, "end": 0.0}),
    ("linear", {"peak": 3e-4, "total_steps": 200, "warmup_steps": 20, "end": 3e-5}),
    (
        "polynomial",
        {"peak": 3e-4, "total_steps": 200, "warmup_steps": 20, "end": 1e-7, "power": 2.0},
    ),
    ("constant", {"peak": 3e-4, "warmup_steps": 20}),
]
SCHEDULES = {"cosine": cosine, "linear": linear, "polynomial": polynomial, "constant": constant}


def steps(total: int, warmup: int) -> list[int]:
    """The ends, both sides of the end of the warm-up, the middle, and some between."""
    between = [warmup // 2, warmup - 1, warmup, warmup + 1]
    after = [warmup + (total - warmup) * i // 6 for i in range(1, 6)]
    return sorted({t for t in (0, 1, *between, *after, total - 1, total) if t >= 0})


def points(name: str, settings: dict) -> list[list]:
    """[step, learning rate] pairs, read from the optimizer as training would see them."""
    settings = dict(settings)
    peak = settings.pop("peak")
    ratio = settings.pop("warmup_ratio", None)
    warmup = settings.pop("warmup_steps", None)
    total = settings.pop("total_steps", None)
    warmup = round(ratio * total) if warmup is None else warmup
    if total is not None:
        settings["total"] = total
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=peak)
    schedule = SCHEDULES[name](optimizer, warmup=warmup, **settings)
    wanted = steps(total or 100, warmup)
    rates = []
    for _ in range(wanted[-1] + 1):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return [[step, rates[step]] for step in wanted]


def main() -> None:
    """Reads the arguments and writes the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    args = parser.parse_args()
    source = f"transformers {transformers.__version__}"
    entries = [MINDFORMERS] + [
        {"source": source, "schedule": name, "settings": settings, "points": points(name, settings)}
        for name, settings in CASES
    ]
    text = ",\n".join(json.dumps(entry) for entry in entries)
    (args.out / "schedule.json").write_text(f"[\n{text}\n]\n", encoding="utf-8")


if __name__ == "__main__":
    main()
