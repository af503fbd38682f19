"""The generator against a checker that reads only the text of a row."""

from __future__ import annotations

import re

import pytest

import school_maths as sm

FAMILIES = (*sm.MIX, sm.NEW)
EXPRESSION = r"\d+(?: [-+×] \d+)*"
WORD = re.compile(r"[A-Za-z]+|[^\0-\x7f]")  # of Chinese, a character
EQUATION = re.compile(rf"{EXPRESSION}(?: = {EXPRESSION})+")

# The answer from the numbers in the order in which the question names them.
ORACLE = {
    "sum": lambda a, b: a + b,
    "difference": lambda a, b: a - b,
    "groups": lambda n, p: n * p,
    "price": lambda n, p: n * p,
    "packs": lambda a, n, p: a + n * p,
    "route": lambda a, b, c: a + b + c,
    "change": lambda m, n, p: m - n * p,
    "bill": lambda n, p, m, q: n * p + m * q,
}


def numbers(text: str) -> list[int]:
    return [int(digits) for digits in re.findall(r"\d+", text)]


def question(row: sm.Row) -> str:
    return row["input"] or row["instruction"]


def value(expression: str) -> int:
    """Products first, then sums from the left, without the generator's own arithmetic."""
    total, sign = 0, 1
    for part in re.split(r" ([-+]) ", expression):
        if part in "+-":
            sign = 1 if part == "+" else -1
        else:
            left, *right = (int(n) for n in part.split(" × "))
            total += sign * (left * right[0] if right else left)
    return total


def chosen(text: str) -> int:
    """What the goods cost that are bought, where the prices of two kinds are named."""
    english, chinese = r"(\w+) at (\d+) dollars", r"每(\D+?)(\d+)元"
    prices = dict(re.findall(english, text) or re.findall(chinese, text))
    count, thing = re.search(r"(?:do |buys |买了?)(\d+) ?([a-z]+|\w+?(?=要付|，))", text).groups()
    return int(count) * int(prices[thing])


def answer_of(family: str, text: str) -> int:
    return chosen(text) if family == "choose" else ORACLE[family](*numbers(text))


def mistake(family: str, row: sm.Row) -> str | None:
    """What is wrong with a row, or None."""
    solution, _, answer = row["output"].rpartition("\n#### ")
    equations = [found.group().split(" = ") for found in EQUATION.finditer(solution)]
    seen = set(numbers(question(row)))
    for sides in equations:
        if len({value(side) for side in sides}) != 1:
            return f"untrue: {' = '.join(sides)}"
        if not set(numbers(sides[0])) <= seen:
            return f"from nowhere: {sides[0]}"
        seen.add(value(sides[-1]))
    if not equations or equations[-1][-1] != answer:
        return "the answer is not the last result"
    if int(answer) != answer_of(family, question(row)):
        return "not the answer of the question"
    return None


@pytest.mark.parametrize("family", FAMILIES, ids=lambda f: f.name)
@pytest.mark.parametrize("held_out", [False, True])
def test_every_row_is_right(family, held_out):
    made = sm.rows(3, 2000, (family,), held_out=held_out)
    assert len(made) == 2000
    assert [(row, wrong) for row in made if (wrong := mistake(family.name, row))] == []


@pytest.mark.parametrize(
    ("old", "new", "wrong"),
    [
        ("7 × 5 = 35", "7 × 5 = 36", "untrue"),
        ("#### 51", "#### 52", "not the last result"),
        ("7 × 5 = 35", "7 × 5 = 35 + 1 - 1 = 34 + 2", "untrue"),
        ("2 × 8 = 16", "4 × 4 = 16", "from nowhere"),
    ],
)
def test_the_checker_itself(old, new, wrong):
    row = {
        "instruction": "What do 7 pens for 5 dollars each and 2 cups for 8 dollars each cost?",
        "input": "",
        "output": "7 × 5 = 35, 2 × 8 = 16, together 35 + 16 = 40 + 11 = 51.\n#### 51",
    }
    assert mistake("bill", row) is None
    assert wrong in mistake("bill", {**row, "output": row["output"].replace(old, new)})
    assert mistake("sum", {**row, "output": "7 + 5 = 12\n#### 12", "input": "7 minus 5?"}) is None
    assert mistake("difference", {**row, "output": "7 + 5 = 12\n#### 12", "input": "7 minus 5?"})


def test_rows_are_alpaca_rows_of_one_language():
    made = sm.rows(0, 4000, FAMILIES)
    languages = {"en": 0, "zh": 0}
    for row in made:
        assert list(row) == ["instruction", "input", "output"]
        text = "\n".join(row.values())
        chinese = bool(re.search(r"[\u4e00-\u9fff]", text))
        assert chinese != bool(re.search(r"[A-Za-z]", text)), text
        assert not re.search(r"[{}]|\S  +\S|-\d|\b[01] [a-z]", text), text
        languages["zh" if chinese else "en"] += 1
    assert min(languages.values()) > 1800
    assert 0.2 < sum(bool(row["input"]) for row in made) / len(made) < 0.3


def test_texts_vary():
    made = sm.rows(0, 20_000, sm.MIX)
    assert len({question(row) for row in made}) > 12_000
    forms = {re.sub(r"\d+", "#", question(row)) for row in made}
    assert len(forms) > 500


def test_the_seed_decides():
    assert sm.rows(1, 50, sm.MIX) == sm.rows(1, 50, sm.MIX)
    assert sm.rows(1, 50, sm.MIX) != sm.rows(2, 50, sm.MIX)
    assert sm.rows(1, 0, sm.MIX) == []


@pytest.mark.parametrize("family", FAMILIES, ids=lambda f: f.name)
def test_held_out_problems_are_in_no_training_row(family):
    train, test = (
        {tuple(numbers(question(row))) for row in sm.rows(5, 6000, (family,), held_out=side)}
        for side in (False, True)
    )
    assert train
    assert test
    assert train.isdisjoint(test)


def test_one_problem_in_seven_is_held_out():
    kept, other = (len(sm.problems(sm.NEW, held_out=side)) for side in (True, False))
    assert 0.12 < kept / (kept + other) < 0.17


def test_order_of_the_numbers_does_not_hide_a_problem():
    """3 pens at 5 and 4 books at 7 is the problem of 4 books at 7 and 3 pens at 5."""
    for n, p, m, q in sm.problems(sm.NEW, held_out=True):
        assert sm.is_held_out(sm.NEW, (m, q, n, p))


def test_every_problem_comes_once_before_any_comes_again():
    count = len(sm.problems(sm.NEW, held_out=True))
    asked = [tuple(numbers(question(row))) for row in sm.rows(0, count, (sm.NEW,), held_out=True)]
    assert len(set(asked)) == count


def test_the_new_family_is_new():
    """No solution of the mix has two products, and every solution of the new family has."""
    assert not [row for row in sm.rows(0, 5000, sm.MIX) if row["output"].count("×") > 1]
    assert all(row["output"].count("×") == 2 for row in sm.rows(0, 500, (sm.NEW,)))
    assert sm.NEW not in sm.MIX


def test_the_mix_teaches_every_word_of_the_new_family():
    """A frozen embedding cannot answer with a token that it never saw, whatever is adapted."""
    mix, new = (
        {
            side: {word for row in made for word in WORD.findall(row[side])}
            for side in ("instruction", "output")
        }
        for made in (sm.rows(0, 4000, sm.MIX), sm.rows(0, 1000, [sm.NEW]))
    )
    assert new["instruction"] <= mix["instruction"]
    assert new["output"] <= mix["output"]


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("3 × 5 = 15\n#### 15", 15),
        ("#### -4", -4),
        ("#### 15\n", 15),
        ("#### 15 apples", None),
        ("#### 15\nand so on", None),
        ("15", None),
        ("x #### 15", None),
        ("", None),
    ],
)
def test_final_answer(text, answer):
    assert sm.final_answer(text) == answer
