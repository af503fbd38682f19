from __future__ import annotations

import pytest

from mfunc.data.tokens.proto import CONTROL, NORMAL, model_facts

PIECES = b"\x0a\x0c\x0a\x05\xe2\x96\x81ab\x15\0\0\0\0" + b"\x0a\x05\x0a\x01s\x18\x03"
BPE_WITH_BYTES = b"\x12\x05\x18\x02\x98\x02\x01"


def test_defaults_are_those_of_the_format():
    facts = model_facts(PIECES)
    assert not facts.is_bpe
    assert not any((facts.space_is_suffix, facts.byte_fallback, facts.maps_characters))
    assert facts.dummy_prefix
    assert facts.removes_spaces
    assert facts.escapes_spaces
    assert (facts.spelt(NORMAL), facts.spelt(CONTROL)) == ([" ab"], ["s"])


def test_messages_that_follow_are_merged():
    facts = model_facts(
        BPE_WITH_BYTES + b"\x12\x03\xc0\x01\x01" + b"\x1a\x02\x20\x00\x1a\x02\x18\x00"
    )
    assert facts.is_bpe
    assert facts.byte_fallback
    assert facts.space_is_suffix
    assert not facts.removes_spaces
    assert not facts.dummy_prefix
    assert facts.escapes_spaces
    assert model_facts(b"\x1a\x03\x12\x01x").maps_characters
    assert not model_facts(b"\x1a\x03\x12\x01x" + b"\x1a\x02\x12\x00").maps_characters


@pytest.mark.parametrize(
    ("content", "wrong"),
    [
        (b"\x0a\x05ab", "the field at byte 2 goes beyond the end"),
        (b"\x0b", "byte 1 begins a field of unknown kind 3"),
        (b"\x12\x02\x18\xff", "the number at byte 1 does not end"),
        (b"\xff" * 12, "the number at byte 0 does not end"),
        (b"\x11\x00", "the field at byte 1 goes beyond the end"),
    ],
)
def test_what_is_no_model(content, wrong):
    with pytest.raises(ValueError, match=wrong):
        model_facts(content)
