"""Packed rows of MindSpeed-LLM v2.1.0, and the two constraints of its flags."""

from __future__ import annotations

import json
from itertools import groupby
from pathlib import Path

import attrs
import numpy as np
import pytest
from tests.data.byte_tokenizer import ByteTokenizer

import mfunc.data as md
from mfunc.data.mindspeed.rules import attention_mask, check_neat_pack, training_order


@attrs.frozen
class QwenBytes(ByteTokenizer):
    """Its eos is what the template ends a turn with."""

    def token_id(self, name):
        return super().token_id("<|im_end|>" if name == "eos" else name)


def upstream(shared, case):
    """The rows of a case, its flags, and the three files made of them."""
    folder = shared / "golden/mindspeed/e2e" / case
    expected = json.loads((folder / "expected_v210.json").read_text())
    names = ("input_ids", "labels", "attention_mask")
    made = {n: expected["fields"][f"ds_packed_{n}_document"]["sequences"] for n in names}
    Path("rows.json").write_text((folder / "input.json").read_text())
    return md.concat(list(md.read("rows.json"))), set(expected["argv"]), made


def assert_packs_as_upstream(samples, flags, made, pad_id):
    neat = "--neat-pack" in flags
    size = len(made["input_ids"][0])
    pack = md.pack(
        size,
        strategy="first_fit_decreasing",
        capacity=size - 1,
        isolate=neat,
        overlong="error" if neat else "drop",
        pad_id=pad_id,
    )
    out = pack(samples)
    assert out["input_ids"].tolist() == made["input_ids"]
    assert out["labels"].tolist() == made["labels"]
    mask = attention_mask(out["segment_ids"], neat_pack=neat)
    assert mask.tolist() == made["attention_mask"]
    assert (out["input_ids"][:, -1] == pad_id).all(), "upstream keeps at least one pad"


@pytest.mark.parametrize(
    "case",
    [
        "alpaca_qwen_pack",
        "alpaca_qwen_neatpack",
        "alpaca_qwen_neatpack_appendeod",
        "alpaca_qwen_long_pack",
        "alpaca_qwen_long_neatpack",
        "alpaca_qwen_longmt_neatpack",
    ],
)
def test_from_the_file_to_the_packed_rows(shared, case):
    """Assignment, order, ids, labels and mask, overlong samples and those of many turns among them.

    Upstream itself never returns from a sample of exactly its sequence length.
    """
    rows, flags, made = upstream(shared, case)
    eod = "--append-eod" in flags
    tokenize = md.tokenize(QwenBytes(), append_eos=eod)
    samples = md.pipe(rows, md.chat(style="alpaca", template="qwen"), tokenize)
    if eod:
        assert all(row[-2:].tolist() == [262, 262] for row in samples["labels"])
    if "--neat-pack" in flags:
        samples = md.truncate(255, policy="per_turn")(samples)
    assert_packs_as_upstream(samples, flags, made, pad_id=260)


def test_labels_that_are_not_their_tokens_are_packed_as_they_are(shared):
    """ChatGLM2's turns end in a label at the next turn's first token; lengths are all distinct."""
    _, flags, made = upstream(shared, "alpaca_chatglm2_hist_neatpack")
    arrays = {name: np.array(rows) for name, rows in made.items()}
    segments = {"segment_ids": arrays.pop("attention_mask"), **arrays}
    samples = md.unpack()(segments)
    assert len(set(samples["input_ids"].lengths.tolist())) == len(samples["input_ids"]) == 4
    for order in ([0, 1, 2, 3], [2, 0, 3, 1]):
        shuffled = {name: column[order] for name, column in samples.items()}
        assert_packs_as_upstream(shuffled, flags, made, pad_id=259)


def test_training_side_of_neat_rows(shared):
    """Positions and ends of segments, as training derives them from the attention mask.

    Ours has one segment of padding where upstream has one for every pad.
    """
    table = json.loads((shared / "golden/mindspeed/training/training_side_v210.json").read_text())
    for case in table["neat_pack"]:
        segments = np.array([case["attention_mask"]])
        assert md.position_ids(segments).tolist() == [case["position_ids"]]
        ends = [sum(1 for _ in run) for _, run in groupby(case["attention_mask"])]
        assert md.actual_seq_len(segments).tolist() == np.cumsum(ends).tolist()
        real = [end for end in np.cumsum(ends).tolist() if case["attention_mask"][end - 1]]
        assert case["actual_seq_len"][: len(real)] == real


def test_micro_batches_are_laid_end_to_end(shared):
    """Where upstream's are right: rows flattened batch first."""
    table = json.loads((shared / "golden/mindspeed/training/training_side_v210.json").read_text())
    batch = table["micro_batch_2"]
    positions = np.array(batch["position_ids"])
    segments = np.cumsum(positions == 0, axis=1)  # the one pad of a row is its last segment
    ends = md.actual_seq_len(segments).tolist()
    assert ends == batch["actual_seq_len_flattened_b_s"]


def test_long_samples_of_one_turn_are_cut_in_training_as_per_turn_does(shared):
    """`_cut_instruction_token`. Turns share one budget there; with efficient_eos it writes -100
    into input_ids: neither is an aim, as what is too long is cut before training.
    """
    table = json.loads((shared / "golden/mindspeed/training/training_side_v210.json").read_text())
    cases = [
        case
        for case in table["cut_instruction_token"]
        if not case["efficient_eos"] and np.diff(np.array(case["labels"]) == -100).sum() == 1
    ]
    assert len(cases) == 3
    for case in cases:
        sample = {n: md.Ragged.from_rows([case[n]]) for n in ("input_ids", "labels")}
        cut = md.truncate(case["seq_length"], policy="per_turn")(sample)
        assert {n: cut[n][0].tolist() for n in cut} == {n: case["result"][n] for n in cut}


def test_training_order(shared):
    """Two epochs, shuffled and not, filled up and not; a later split fills up from itself."""
    table = json.loads((shared / "golden/mindspeed/training/training_side_v210.json").read_text())
    assert len(table["shuffle_index"]) == 4
    for case in table["shuffle_index"]:
        rows, start = case["nb_documents"], case["start_index"]
        size = len(case["sequential"])
        settings = {
            "samples": size + 1,
            "seed": case["seed"],
            "start": start,
            "global_batch_size": case["global_batch_size"] if case["padded_samples"] else None,
        }
        plain = training_order(rows, **settings, shuffle=False).tolist()
        mixed = training_order(rows, **settings).tolist()
        expected = [case[n] for n in ("sequential", "shuffled_epoch0", "shuffled_epoch1")]
        # Upstream fills up from row 0 of all rows, be it of another split.
        ours = [[i if i >= start else i + start for i in epoch] for epoch in expected]
        assert [plain[:size], mixed[:size], mixed[size:]] == ours
        assert plain[size:] == plain[:size]


def test_training_order_refuses():
    for settings, message in (
        ({"rows": 0, "samples": 1}, "rows must be an integer >= 1, got 0"),
        ({"rows": 1, "samples": 0}, "samples must be an integer >= 1, got 0"),
        ({"rows": 1, "samples": 1, "seed": 2**32}, "seed must be an integer in 0"),
        ({"rows": 1, "samples": 1, "global_batch_size": 0}, "global_batch_size must be"),
    ):
        with pytest.raises(ValueError, match=f"training_order: {message}"):
            training_order(**settings)


def test_the_two_constraints():
    with pytest.raises(ValueError, match=r"--neat-pack tells .* it needs --pack"):
        check_neat_pack(neat_pack=True, pack=False)
    with pytest.raises(ValueError, match="--neat-pack in training needs --reset-position-ids"):
        check_neat_pack(neat_pack=True, reset_position_ids=False)
    with pytest.raises(TypeError, match="check_neat_pack: pack must be True or False, got 'yes'"):
        check_neat_pack(neat_pack=True, pack="yes")
    check_neat_pack(neat_pack=True, pack=True, reset_position_ids=True)
    check_neat_pack(neat_pack=True)
    check_neat_pack(neat_pack=False, pack=False, reset_position_ids=False)


def test_attention_mask_is_segments_or_ones():
    segments = np.array([[1, 1, 2, 0]], np.int64)
    assert attention_mask(segments, neat_pack=False).tolist() == [[1, 1, 1, 1]]
    neat = attention_mask(segments, neat_pack=True)
    assert (neat.tolist(), neat.dtype) == ([[1, 1, 2, 0]], np.int32)
