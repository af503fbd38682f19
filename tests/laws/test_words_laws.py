"""The ids of a tokenizer are those of SentencePiece, whatever the model and the text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.data.spelling import KINDS, made, same


@pytest.mark.parametrize("kind", KINDS)
@given(
    texts=st.lists(
        st.text(st.sampled_from("ab the\n\t▁é一二，<|im_start|>turn\0😀\u0301"), max_size=40)
    )
)
def test_ids_of_any_text_are_the_engines(kind, texts):
    engine, quick = made(kind)
    assert same(quick.encode(texts), texts, engine)


@given(texts=st.lists(st.text(max_size=20), max_size=20))
def test_ids_of_any_unicode_are_the_engines(texts):
    engine, quick = made("identity")
    assert same(quick.encode(texts), texts, engine)
