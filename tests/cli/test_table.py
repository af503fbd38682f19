from __future__ import annotations

from mfunc.cli.table import table


def test_numbers_stand_right_and_words_left():
    rows = [("a", "1.5", "x"), ("long", "1,024", "")]
    assert table(("name", "n", "words"), rows) == "name      n  words\na       1.5  x\nlong  1,024"


def test_no_rows():
    assert table(("row", "n"), []) == "row  n"
