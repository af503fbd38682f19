from __future__ import annotations

import pytest

import mfunc.data as md


class Words:
    """Ids are words; a space is between them but not before the first, as in SentencePiece."""

    special_ids = {1: "<s>", 2: "</s>", 3: "<unk>"}  # noqa: RUF012
    words = {3: "⁇", 4: "Q:", 5: "Hi", 6: "A:", 7: "Yes", 8: "</s>"}  # noqa: RUF012

    def decode(self, ids):
        return " ".join(self.words[i] for i in ids if i > 2)


IDS = [1, 4, 5, 6, 7, 8, 2]
LABELS = [-100, -100, -100, -100, 7, 8, 2]


def test_brackets():
    assert md.show(IDS, Words(), labels=LABELS) == "‹<s>›Q: Hi A:⟦ Yes </s>‹</s>›⟧"
    assert md.show(IDS, Words()) == "‹<s>›Q: Hi A: Yes </s>‹</s>›"


def test_colours():
    green, inverse, plain = "\x1b[32m", "\x1b[7m", "\x1b[0m"
    assert md.show(IDS, Words(), labels=LABELS, colour=True) == (
        f"{inverse}<s>{plain}Q: Hi A:{green} Yes </s>{plain}{green}{inverse}</s>{plain}"
    )


def test_training_may_stop_and_go_on():
    labels = [-100, 4, -100, 6, -100, 8, -100]
    assert md.show(IDS, Words(), labels=labels) == "‹<s>›⟦Q:⟧ Hi⟦ A:⟧ Yes⟦ </s>⟧‹</s>›"


def test_the_unknown_is_shown_by_name_and_moves_nothing():
    assert md.show([4, 3, 3, 5], Words()) == "Q:‹<unk>›‹<unk>› Hi"


def test_segments_stand_apart_and_padding_is_counted():
    text = md.show(
        [1, 4, 7, 2, 1, 5, 2, 2], Words(), labels=[-100, -100, 7, 2, -100, 5, -100, -100],
        segment_ids=[1, 1, 1, 1, 2, 2, 0, 0],
    )  # fmt: skip
    assert text == (
        "── segment 1: 4 tokens, 2 trained\n‹<s>›Q:⟦ Yes‹</s>›⟧\n"
        "── segment 2: 2 tokens, 1 trained\n‹<s>›⟦Hi⟧\n── padding: 2 places"
    )


def test_a_tokenizer_without_special_ids_and_an_empty_row():
    class Plain:
        def decode(self, ids):
            return "".join(chr(i) for i in ids)

    assert md.show([72, 105], Plain()) == "Hi"
    assert md.show([], Plain()) == ""


def test_a_real_model_shows_all_of_its_text(shared):
    tokenizer = md.sentencepiece(shared / "data/tokenizers/llama/tokenizer.model")
    rows = next(md.read(shared / "data/belle/school_math_900.jsonl", chunk_rows=50))
    steps = (md.belle_conversations(), md.sft("vicuna"), md.tokenize(tokenizer))
    made = md.pipe(rows, *steps)
    for i in range(50):
        text = md.show(made["input_ids"][i], tokenizer, labels=made["labels"][i])
        prompt, answer = text.split(" ASSISTANT:⟦ ")
        assert prompt.startswith("‹<s>›A chat between")
        assert prompt.endswith("USER: " + rows["instruction"][i])
        assert answer == rows["output"][i] + "‹</s>›⟧"


def test_columns_of_other_lengths_are_refused():
    with pytest.raises(ValueError, match="show: 2 input_ids, 1 labels, 2 segment_ids; they must"):
        md.show([4, 5], Words(), labels=[4])
