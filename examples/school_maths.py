"""School maths in English and Chinese: problems with worked solutions, right by construction.

A family of problems is data: the numbers drawn, the formulas that solve it, and ways to say it.
The formulas compute the answer and are printed as the worked solution, so text and answer agree.

    numbers    n=3 p=5 m=4 q=7
    formulas   x = n × p, y = m × q, z = x + y
    question   What do 3 pens for 5 dollars each and 4 books for 7 dollars each cost in all?
    solution   The pens cost 3 × 5 = 15 dollars. The books cost 4 × 7 = 28 dollars.
               Together that is 15 + 28 = 30 + 13 = 43 dollars.
               #### 43

`MIX` is what a model learns first. `NEW` is a family that `MIX` lacks but whose steps it teaches.
A problem (a family and its numbers) is for training or held out, never both.
"""

from __future__ import annotations

import itertools
import operator
import random
import re
import zlib
from collections.abc import Iterable, Sequence

from school_maths_families import MIX, NEW, WORDS, Family

__all__ = ["MIX", "NEW", "Row", "final_answer", "rows"]

Row = dict[str, str]

SIGNS = {"+": operator.add, "-": operator.sub, "×": operator.mul}
LANGUAGES = tuple(WORDS)
HELD_OUT_ONE_IN = 7


def halfway(left: int, sign: str, right: int) -> str:
    """What a pupil writes between the task and its result: tens and ones apart, if that helps."""
    tens, ones = left // 10 * 10 + right // 10 * 10, left % 10 + right % 10
    if sign == "+" and tens and ones and (left, right) != (tens, ones):
        return f" = {tens} + {ones}"
    if sign == "-" and right > 10 and right % 10:
        return f" = {left - right // 10 * 10} - {right % 10}"
    return ""


def solve(formulas: Iterable[str], numbers: dict[str, int]) -> tuple[list[str], dict[str, int]]:
    """Work out formulas such as `x = n × p` in turn: the steps as text, all numbers known then."""
    known, steps = dict(numbers), []
    for formula in formulas:
        name, _, left, sign, right = formula.split()
        a, b = known[left], known[right]
        known[name] = SIGNS[sign](a, b)
        steps.append(f"{a} {sign} {b}{halfway(a, sign, b)} = {known[name]}")
    return steps, known


def is_held_out(family: Family, numbers: Sequence[int]) -> bool:
    """Whether a problem is kept for evaluation: by its checksum, so no row of training has it."""
    return zlib.crc32(f"{family.name} {sorted(numbers)}".encode()) % HELD_OUT_ONE_IN == 0


def problems(family: Family, *, held_out: bool) -> list[tuple[int, ...]]:
    """Every problem of one side of the split, as the numbers drawn."""
    everything = itertools.product(*family.draws.values())
    return [numbers for numbers in everything if is_held_out(family, numbers) == held_out]


def row(family: Family, numbers: Sequence[int], language: str, rng: random.Random) -> Row:
    """Put a problem into words."""
    words, text = WORDS[language], rng.choice(family.texts[language])
    _, given = solve(family.givens, dict(zip(family.draws, numbers, strict=True)))
    steps, known = solve(family.steps, given)
    thing, other = rng.sample(words.things, 2)
    slots = {**known, "who": rng.choice(words.people), "thing": thing, "other": other}
    question, solution = (part.format(*steps, **slots) for part in text)
    answer = known[family.steps[-1].split()[0]]
    lead = rng.choice(words.leads) if rng.random() < 0.25 else ""
    return {
        "instruction": lead or question,
        "input": question if lead else "",
        "output": f"{solution}\n#### {answer}",
    }


def rows(seed: int, count: int, families: Sequence[Family], *, held_out: bool = False) -> list[Row]:
    """`count` rows, as many of each family; all its problems come once before any comes again."""
    rng = random.Random(seed)
    sides = [problems(family, held_out=held_out) for family in families]
    orders = [itertools.cycle(rng.sample(side, len(side))) for side in sides]
    turns = itertools.islice(itertools.cycle(zip(families, orders, strict=True)), count)
    made = [row(family, next(order), rng.choice(LANGUAGES), rng) for family, order in turns]
    rng.shuffle(made)
    return made


def final_answer(text: str) -> int | None:
    """The number after `####` on the last line, or None if the text does not end in one."""
    found = re.search(r"^#### (-?\d+)\s*\Z", text, re.MULTILINE)
    return int(found.group(1)) if found else None
