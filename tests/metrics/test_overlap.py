from __future__ import annotations

import sys

import pytest
from tests.metrics.golden import GOLDEN, columns

from mfunc.metrics import bleu, rouge, sentence_bleu

CHINESE = columns("bleu_chinese")
ENGLISH = columns("bleu_english")


@pytest.mark.parametrize("tokenize", ["words", "char"])
def test_rouge_is_that_of_rouge_score(tokenize):
    wanted = GOLDEN[f"rouge_{tokenize}"]["scores"]
    found = rouge(*columns(f"rouge_{tokenize}"), tokenize=tokenize)
    assert found == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize("tokenize", ["13a", "intl"])
def test_bleu_of_english_is_that_of_sacrebleu(tokenize):
    wanted = GOLDEN["bleu_english"]["scores"][tokenize]
    assert bleu(*ENGLISH, tokenize=tokenize) == {"bleu": pytest.approx(wanted, rel=1e-12)}


@pytest.mark.parametrize("tokenize", ["zh", "char"])
def test_bleu_of_chinese_is_that_of_sacrebleu(tokenize):
    wanted = GOLDEN["bleu_chinese"]["scores"][tokenize]
    assert bleu(*CHINESE, tokenize=tokenize) == {"bleu": pytest.approx(wanted, rel=1e-12)}


def test_over_characters_both_kinds_of_bleu_are_nltks():
    wanted = GOLDEN["bleu_chinese"]["nltk"]
    assert bleu(*CHINESE, tokenize="char")["bleu"] == pytest.approx(wanted["bleu"])
    assert sentence_bleu(*CHINESE) == {"sentence_bleu": pytest.approx(wanted["sentence_bleu"])}
    assert abs(wanted["bleu"] - wanted["sentence_bleu"]) > 1, "they are not the same metric"


def test_rouge_by_hand():
    found = rouge(["a b c d"], ["d a c x y"])
    assert found == {
        "rouge1": pytest.approx(100 * 2 * 3 / (4 + 5)),  # a, c, d
        "rouge2": 0.0,
        "rougeL": pytest.approx(100 * 2 * 2 / (4 + 5)),  # a c
    }
    repeated = rouge(["a a a b"], ["a a b b b"])  # words count as often as both have them
    assert repeated["rouge1"] == pytest.approx(100 * 2 * 3 / (4 + 5))


def test_the_best_reference_is_chosen_for_each_number():
    found = rouge(["a b c"], [["c b a x", "a b"]])
    assert found["rouge1"] == pytest.approx(100 * 6 / 7)
    assert found["rouge2"] == pytest.approx(100 * 2 * 1 / (2 + 1))
    assert found["rougeL"] == pytest.approx(100 * 4 / 5)


def test_sentence_bleu_by_hand():
    """5 characters of 5 right, 3 pairs of 4, 1 triple of 3, no four: 1/2 of one of 2."""
    found = sentence_bleu(["甲乙丙丁戊"], ["甲乙丙戊丁戊"])["sentence_bleu"]
    shares = [1.0, 3 / 4, 1 / 3, 1 / 2 / 2]
    brevity = 2.718281828459045 ** (1 - 6 / 5)
    product = shares[0] * shares[1] * shares[2] * shares[3]
    assert found == pytest.approx(100 * brevity * product**0.25)


@pytest.mark.parametrize("metric", [bleu, sentence_bleu])
def test_what_is_empty_or_wholly_wrong_is_zero(metric):
    assert list(metric(["", ""], ["a b c d", "x"], tokenize="char").values()) == [0.0]
    assert list(metric(["x y z w"], ["a b c d"], tokenize="char").values()) == [0.0]
    assert set(rouge(["", "!"], ["a b", "x"]).values()) == {0.0}


def test_an_empty_prediction_counts():
    """MindFormers leaves such rows out, so silence would raise its mean."""
    one = sentence_bleu(["白色牛仔外套"], ["白色牛仔外套"])["sentence_bleu"]
    two = sentence_bleu(["白色牛仔外套", ""], ["白色牛仔外套"] * 2)["sentence_bleu"]
    assert (one, two) == (pytest.approx(100), pytest.approx(50))
    assert rouge(["a b", ""], ["a b", "c d"])["rougeL"] == 50


def test_short_texts():
    assert bleu(["ab"], ["ab"], tokenize="char") == {"bleu": 0.0}  # no four-gram in the corpus
    assert sentence_bleu(["ab"], ["ab"]) == {"sentence_bleu": pytest.approx(100)}
    assert rouge(["ab"], ["ab"]) == {"rouge1": 100.0, "rouge2": 0.0, "rougeL": 100.0}


def test_tokens_of_a_function():
    def cut(text):
        return iter(text.split("|"))

    assert rouge(["白色|外套"], ["白色|牛仔|外套"], tokenize=cut)["rougeL"] == pytest.approx(80)
    wanted = bleu(["a b c d e"], ["a b c d f"], tokenize="char")
    assert bleu(["a|b|c|d|e"], ["a|b|c|d|f"], tokenize=cut) == wanted
    assert sentence_bleu(["白色|外套"], ["白色|外套"], tokenize=cut)["sentence_bleu"] == (
        pytest.approx(100)
    )
    for metric in (rouge, bleu, sentence_bleu):
        with pytest.raises(TypeError, match="tokenize must return a list of tokens, got 'ab'"):
            metric(["ab"], ["ab"], tokenize=str.lower)


def test_latin_words_of_chinese_are_refused():
    """rouge-score would drop every character, and 13a make a sentence one word: both near 0."""
    message = r"rouge: tokenize='words' loses the words .* 3 of their 4 letters are Chinese"
    with pytest.raises(ValueError, match=message):
        rouge(["北京市"], ["3 + 5 北京市 x"])
    for name in ("13a", "intl"):
        with pytest.raises(ValueError, match=f"bleu: tokenize='{name}' .* use tokenize='char'"):
            bleu(["北京市"], ["北京市"], tokenize=name)
    for text in ("おはよう", "안녕하세요", "𠀀𠀁"):
        with pytest.raises(ValueError, match="loses the words"):
            rouge(["a"], [text])


def test_some_chinese_in_english_is_not_refused():
    """Nor is what a model says, whatever it is."""
    assert rouge(["hello means 你好", "北京"], ["你好 means hello there", "it is"])["rouge1"] > 0
    assert bleu(["北京市", "it is as it was"], ["a b", "it is as it was"])["bleu"] > 0


@pytest.mark.parametrize(
    ("metric", "tokenize"),
    [(rouge, "words"), (rouge, "char"), (bleu, "13a"), (bleu, "char"), (sentence_bleu, "char")],
)
def test_a_reference_without_tokens_is_refused(metric, tokenize):
    with pytest.raises(ValueError, match=rf"{metric.__name__}: reference 1 has no tokens \(' \\n'"):
        metric(["a", "b"], ["a", ["b", " \n"]], tokenize=tokenize)


def test_punctuation_is_no_word_but_a_character():
    with pytest.raises(ValueError, match=r"reference 0 has no tokens \('!\?'\)"):
        rouge(["a"], ["!?"])
    assert rouge(["!?"], ["!?"], tokenize="char")["rougeL"] == 100


@pytest.mark.parametrize("metric", [rouge, bleu, sentence_bleu])
def test_an_unknown_way_to_tokenize(metric):
    with pytest.raises(ValueError, match=r"tokenize must be one of .*; did you mean 'char'\?"):
        metric(["a"], ["a"], tokenize="chars")


def test_texts_that_look_tokenized_print_nothing(caplog):
    rows = ["it is as it is ."] * 120  # from 100 rows on sacrebleu complains
    assert bleu(rows, rows) == {"bleu": pytest.approx(100)}
    assert sentence_bleu(rows, rows) == {"sentence_bleu": pytest.approx(100)}
    assert caplog.records == []


@pytest.mark.parametrize(
    ("metric", "module"),
    [
        (rouge, "rouge_score.tokenize"),
        (rouge, "rouge_score.rouge_scorer"),
        (bleu, "sacrebleu.metrics"),
        (sentence_bleu, "sacrebleu.metrics"),
    ],
)
def test_without_the_package_the_extra_is_named(metric, module, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    package = module.split(".")[0]
    message = rf"{metric.__name__} needs the package {package}: pip install 'mfunc\[metrics\]'"
    with pytest.raises(ImportError, match=message):
        metric(["a"], ["a"])
