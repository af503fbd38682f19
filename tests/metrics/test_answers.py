from __future__ import annotations

import sys

import pytest
from tests.metrics.golden import GOLDEN, columns

from mfunc.metrics import cmrc, squad


@pytest.mark.parametrize("metric", [squad, cmrc])
def test_the_numbers_of_the_official_formula(metric):
    wanted = GOLDEN[metric.__name__]["scores"]
    # torchmetrics sums in float32
    assert metric(*columns(metric.__name__)) == pytest.approx(wanted, rel=1e-6)


@pytest.mark.parametrize(
    ("prediction", "references", "exact", "f1"),
    [
        ("The  Cat.", "cat", 100, 100),  # case, article, punctuation, white space
        ("a-b", "ab", 100, 100),  # punctuation goes, it does not part words
        ("another theme", "other me", 0, 0),  # articles are whole words
        ("x x y", "x y y", 0, 200 / 3),  # words count as often as both have them
        ("x", ["a b", "x y z", "x y"], 0, 200 / 3),  # the best reference
        ("x y", ["x", "x y"], 100, 100),
        ("“x”", "x", 0, 0),  # only ASCII punctuation goes
        ("", "x", 0, 0),
        ("x", "", 0, 0),
        ("", "", 100, 100),
        ("The", "a!", 100, 100),  # no word at all: SQuAD 1.1 has F1 0 beside exact match 1
        ("the", ["x", "an"], 100, 100),
    ],
)
def test_squad_by_hand(prediction, references, exact, f1):
    assert squad([prediction], [references]) == {"exact_match": exact, "f1": pytest.approx(f1)}


@pytest.mark.parametrize(
    ("prediction", "references", "exact", "f1"),
    [
        ("郑州市。", "郑州市", 100, 100),
        (" 郑州市\n", "郑州市", 100, 100),
        ("郑州", "郑州市", 0, 80),
        ("甲" + "北上" * 200, "乙" + "北上" * 100, 0, 100 * 400 / 602),  # long answers too
        ("上海和北京", "北京和上海", 0, 40),  # substring 上海 or 北京; the subsequence has 3: 60
        ("北京ABC", "北京abc", 100, 100),
        ("在 Windows 10 上", "windows 10", 0, 200 / 3),  # 2 of 4 words, 2 of 2
        ("北京.", "北京", 0, 80),  # an ASCII full stop is not in CMRC's list, and is a word
        ("《红楼梦》", ["西游记", "红楼梦"], 100, 100),
        ("", "北京", 0, 0),
        ("北京", "", 0, 0),
        ("。", "，", 100, 100),
        ("", "", 100, 100),
    ],
)
def test_cmrc_by_hand(prediction, references, exact, f1):
    assert cmrc([prediction], [references]) == {"exact_match": exact, "f1": pytest.approx(f1)}


def test_the_mean_is_over_rows():
    assert squad(["x", "y", "x y", ""], ["x", "x", "x", "x"]) == {
        "exact_match": 25.0,
        "f1": pytest.approx(100 * (1 + 0 + 2 / 3 + 0) / 4),
    }


def test_without_the_package_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "nltk.tokenize", None)
    with pytest.raises(ImportError, match=r"cmrc needs the package nltk: .*'mfunc\[metrics\]'"):
        cmrc(["a"], ["a"])
    assert squad(["a b"], ["b"])["f1"] == 100
