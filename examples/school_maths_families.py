"""The problem families of `school_maths`, as data: English and Chinese texts around formulas."""

from __future__ import annotations

from typing import NamedTuple


class Words(NamedTuple):
    """What a language puts into its texts."""

    people: tuple[str, ...]
    things: tuple[str, ...]
    leads: tuple[str, ...]


class Text(NamedTuple):
    """One way to say a problem: {n} is a number, {0} the first step, as in `3 × 5 = 15`."""

    question: str
    solution: str


class Family(NamedTuple):
    """A kind of problem; the last step gives the answer."""

    name: str
    draws: dict[str, range]  # the numbers that make one problem differ from the next
    steps: tuple[str, ...]  # the formulas of the worked solution
    texts: dict[str, tuple[Text, ...]]  # language: ways to say it
    givens: tuple[str, ...] = ()  # formulas of numbers in the question that follow from the draws


WORDS = {
    "en": Words(
        people=("Anna", "Ben", "Chloe", "David", "Emma", "Felix", "Grace", "Henry", "Lily", "Tom"),
        things=(
            "apples", "books", "cards", "cups", "eggs", "flowers", "kites", "pens", "stamps",
            "toys",
        ),
        leads=("Solve this problem step by step.", "Work out the answer.", "A word problem."),
    ),
    "zh": Words(
        people=("小明", "小红", "小华", "小丽", "小刚", "李雷", "王芳", "张伟", "陈静", "刘洋"),
        things=(
            "个苹果", "本书", "张卡片", "个杯子", "个鸡蛋", "朵花", "只风筝", "支钢笔",
            "枚邮票", "件玩具",
        ),
        leads=("请一步一步解答。", "算出下面这道题的答案。", "解答这道应用题。"),
    ),
}  # fmt: skip

TABLE = {"n": range(2, 10), "p": range(2, 10)}
SMALL = range(2, 82)

MIX = (
    Family(
        "sum",
        {"a": SMALL, "b": SMALL},
        ("c = a + b",),
        {
            "en": (
                Text("What is {a} plus {b}?", "Add the two numbers: {0}."),
                Text(
                    "{who} has {a} {thing} and gets {b} more. How many {thing} are there now?",
                    "Now there are {0} {thing}.",
                ),
                Text(
                    "There are {a} {thing} on the table and {b} in the box. How many in all?",
                    "Together that is {0} {thing}.",
                ),
            ),
            "zh": (
                Text("{a}加{b}等于多少？", "把两个数相加：{0}。"),
                Text("{who}有{a}{thing}，又得到{b}{thing}，现在有多少？", "现在有{0}{thing}。"),
                Text("桌上有{a}{thing}，盒里有{b}{thing}，一共有多少？", "一共{0}{thing}。"),
            ),
        },
    ),
    Family(
        "difference",
        {"b": SMALL, "c": SMALL},
        ("c = a - b",),
        {
            "en": (
                Text("What is {a} minus {b}?", "Take the second number from the first: {0}."),
                Text(
                    "{who} has {a} {thing} and gives away {b}. How many are left?",
                    "That leaves {0} {thing}.",
                ),
                Text(
                    "A shop had {a} {thing} and sold {b} of them. How many are left?",
                    "That leaves {0} {thing}.",
                ),
            ),
            "zh": (
                Text("{a}减{b}等于多少？", "用第一个数减第二个数：{0}。"),
                Text("{who}有{a}{thing}，送出{b}{thing}，还剩多少？", "还剩{0}{thing}。"),
                Text("商店有{a}{thing}，卖出{b}{thing}，还剩多少？", "还剩{0}{thing}。"),
            ),
        },
        givens=("a = b + c",),
    ),
    Family(
        "groups",
        TABLE,
        ("x = n × p",),
        {
            "en": (
                Text("What is {n} times {p}?", "Multiply the two numbers: {0}."),
                Text(
                    "There are {n} boxes with {p} {thing} in each. How many {thing} is that?",
                    "That makes {0} {thing}.",
                ),
                Text(
                    "{who} fills {n} bags with {p} {thing} each. How many {thing} is that?",
                    "That makes {0} {thing}.",
                ),
            ),
            "zh": (
                Text("{n}乘{p}等于多少？", "把两个数相乘：{0}。"),
                Text("有{n}个盒子，每盒装{p}{thing}，一共有多少？", "一共{0}{thing}。"),
                Text("{who}装了{n}袋，每袋{p}{thing}，一共有多少？", "一共{0}{thing}。"),
            ),
        },
    ),
    Family(
        "price",
        TABLE,
        ("x = n × p",),
        {
            "en": (
                Text(
                    "{who} buys {n} {thing} at {p} dollars each. How much is that?",
                    "The {thing} cost {0} dollars.",
                ),
                Text(
                    "What do {n} {thing} for {p} dollars each cost?",
                    "The {thing} cost {0} dollars.",
                ),
            ),
            "zh": (
                Text("{who}买了{n}{thing}，单价{p}元，要付多少元？", "{n}{thing}要付{0}元。"),
                Text("{n}{thing}，单价{p}元，要付多少元？", "{n}{thing}要付{0}元。"),
            ),
        },
    ),
    Family(
        "choose",
        {**TABLE, "q": range(2, 10)},
        ("x = n × p",),
        {
            "en": (
                Text(
                    "A shop sells {thing} at {p} dollars each and {other} at {q} dollars each. "
                    "What do {n} {thing} cost?",
                    "The {thing} cost {0} dollars.",
                ),
                Text(
                    "A shop sells {other} at {q} dollars each and {thing} at {p} dollars each. "
                    "{who} buys {n} {thing}. How much is that?",
                    "The {thing} cost {0} dollars.",
                ),
            ),
            "zh": (
                Text(
                    "每{thing}{p}元，每{other}{q}元，买{n}{thing}要付多少元？",
                    "{n}{thing}要付{0}元。",
                ),
                Text(
                    "每{other}{q}元，每{thing}{p}元，{who}买了{n}{thing}，要付多少元？",
                    "{n}{thing}要付{0}元。",
                ),
            ),
        },
    ),
    Family(
        "packs",
        {"a": SMALL, **TABLE},
        ("x = n × p", "y = a + x"),
        {
            "en": (
                Text(
                    "{who} has {a} {thing} and buys {n} packs of {p}. How many are there now?",
                    "The packs hold {0} {thing}. Now there are {1} {thing}.",
                ),
                Text("Work out {a} + {n} × {p}.", "First {0}, then {1}."),
            ),
            "zh": (
                Text(
                    "{who}有{a}{thing}，又买了{n}包，每包{p}{thing}，现在有多少？",
                    "买来{0}{thing}。现在有{1}{thing}。",
                ),
                Text("计算{a} + {n} × {p}。", "先算{0}，再算{1}。"),
            ),
        },
    ),
    Family(
        "route",
        {"a": SMALL, "b": range(2, 30), "c": range(2, 10)},
        ("x = a + b", "y = x + c"),
        {
            "en": (
                Text(
                    "{who} walks {a} km, then {b} km, then {c} km. How far is that?",
                    "The first two make {0} km. Together that is {1} km.",
                ),
                Text(
                    "Three shelves hold {a}, {b} and {c} {thing}. How many are there in all?",
                    "The first two make {0} {thing}. Together that is {1} {thing}.",
                ),
            ),
            "zh": (
                Text(
                    "{who}先走{a}千米，再走{b}千米，又走{c}千米，一共走多少？",
                    "前两段是{0}千米，一共{1}千米。",
                ),
                Text(
                    "三层架子上分别有{a}{thing}、{b}{thing}和{c}{thing}，一共有多少？",
                    "前两层是{0}{thing}，一共{1}{thing}。",
                ),
            ),
        },
    ),
    Family(
        "change",
        {**TABLE, "c": SMALL},
        ("x = n × p", "c = m - x"),
        {
            "en": (
                Text(
                    "{who} has {m} dollars and buys {n} {thing} at {p} dollars each. What is left?",
                    "The {thing} cost {0} dollars. What is left is {1} dollars.",
                ),
                Text(
                    "{who} pays {m} dollars for {n} {thing} at {p} dollars each. "
                    "How much is the change?",
                    "The {thing} cost {0} dollars. The change is {1} dollars.",
                ),
            ),
            "zh": (
                Text(
                    "{who}有{m}元，买了{n}{thing}，单价{p}元，还剩多少元？",
                    "{n}{thing}要付{0}元，还剩{1}元。",
                ),
                Text(
                    "{who}付了{m}元，买了{n}{thing}，单价{p}元，应找回多少元？",
                    "{n}{thing}要付{0}元，应找回{1}元。",
                ),
            ),
        },
        givens=("x = n × p", "m = x + c"),
    ),
)

BILL_EN = (
    "The {thing} cost {0} dollars. The {other} cost {1} dollars. Together that is {2} dollars."
)
BILL_ZH = "{n}{thing}要付{0}元，{m}{other}要付{1}元，一共{2}元。"

NEW = Family(
    "bill",
    {**TABLE, "m": range(2, 10), "q": range(2, 10)},
    ("x = n × p", "y = m × q", "z = x + y"),
    {
        "en": (
            Text(
                "{who} buys {n} {thing} at {p} dollars each and {m} {other} at {q} dollars each. "
                "How much is that in all?",
                BILL_EN,
            ),
            Text(
                "What do {n} {thing} for {p} dollars each and {m} {other} for {q} dollars each "
                "cost in all?",
                BILL_EN,
            ),
        ),
        "zh": (
            Text(
                "{who}买了{n}{thing}，单价{p}元，又买了{m}{other}，单价{q}元，一共要付多少元？",
                BILL_ZH,
            ),
            Text("{n}{thing}，单价{p}元，{m}{other}，单价{q}元，一共要付多少元？", BILL_ZH),
        ),
    },
)
