"""Rows, template and byte tokenizer: ids and labels equal to those of the real MindSpeed-LLM."""

from __future__ import annotations

import json
from pathlib import Path

import attrs
import numpy as np
import pytest

import mfunc.data as md

E2E = "golden/mindspeed/e2e"
ALPACA_CASES = (
    "alpaca_alpaca_hist_nopack",
    "alpaca_chatglm3_hist_nopack",
    "alpaca_chatml_hist_nopack",
    "alpaca_default_hist_nopack",
    "alpaca_empty_hist_nopack",
    "alpaca_intern2_hist_nopack",
    "alpaca_llama3_hist_nopack",
    "alpaca_mistral_hist_nopack",
    "alpaca_qwen_nopack",
    "head_qwen3_think_false",
    "head_qwen3_think_true",
    "head_qwen_lf_hist",
)
PACKED_CASES = (
    "alpaca_chatglm2_hist_neatpack",
    "alpaca_qwen_neatpack",
    "alpaca_qwen_neatpack_appendeod",
    "alpaca_qwen_pack",
)
LONG_CASES = ("alpaca_qwen_long_neatpack", "alpaca_qwen_longmt_neatpack", "alpaca_qwen_long_pack")
THINKING = {"true": "train", "false": "strip"}
GENERAL = md.Template(
    user=(
        "\nBelow is an instruction that describes a task, paired with an input that provides "
        "further context. Write a response that appropriately completes the request. Please note "
        "that you need to think through your response logically and step by step.\n"
        "### Instruction:\n{content}\n### Response:\n"
    ),
    assistant="{content}\n{eos}",
)
PRETRAIN = md.Template(
    user=(
        "A chat between a curious user and an artificial intelligence assistant. The assistant "
        "gives helpful, detailed, and polite answers to the user's questions.USER: Below is an "
        "instruction that describes a task. Write a response that appropriately completes the "
        "request.\n\n### Instruction:\n{content}\n\n### Response:"
    ),
    assistant=" ASSISTANT: {content}{eos}",
)


def rows_of(shared, case):
    Path("rows.json").write_text((shared / E2E / case / "input.json").read_text())
    return md.concat(list(md.read("rows.json")))


def expected(shared, case):
    """Arguments and arrays of a case, by the reference version that has it."""
    folder = shared / E2E / case
    path = folder / "expected_v210.json"
    made = json.loads(
        (path if path.is_file() else folder / "expected_head_c77308a.json").read_text()
    )
    fields = {
        name.removeprefix("ds_").removeprefix("packed_").removesuffix("_document"): field[
            "sequences"
        ]
        for name, field in made["fields"].items()
    }
    argv = made["argv"]
    options = dict(zip(argv, [*argv[1:], ""], strict=True))
    return {name.removeprefix("--"): v for name, v in options.items() if name[:2] == "--"}, fields


def tokenizer_of(shared, options, eos="eos"):
    folder = shared / "golden/mindspeed" / options["tokenizer-name-or-path"]
    roles = json.loads((folder / "special_tokens_map.json").read_text())
    return md.hf_tokenizer(
        folder / "tokenizer.json",
        bos=roles.get("bos_token"),
        eos=roles["eos_token"] if eos == "eos" else eos,
        pad=roles.get("pad_token"),
    )


def samples(shared, case, style, **settings):
    """What ours makes of a case's rows, by the case's own arguments."""
    options, fields = expected(shared, case)
    chat = md.chat(
        style=style,
        template=options["prompt-type"],
        thinking=THINKING.get(options.get("enable-thinking"), "keep"),
        append_eos="append-eod" in options,
        **settings,
    )
    eos = md.TEMPLATES[options["prompt-type"]].eos
    tokenize = md.tokenize(tokenizer_of(shared, options, eos))
    return md.pipe(rows_of(shared, case), chat, tokenize), fields


def lists(column):
    return [row.tolist() for row in column]


@pytest.mark.parametrize("case", ALPACA_CASES)
def test_alpaca_rows(shared, case):
    made, fields = samples(shared, case, "alpaca")
    assert lists(made["input_ids"]) == fields["input_ids"]
    assert lists(made["labels"]) == fields["labels"]


@pytest.mark.parametrize("case", ["sharegpt_qwen_nopack", "sharegpt_qwen_tools_nopack"])
def test_sharegpt_rows_and_tools(shared, case):
    made, fields = samples(shared, case, "sharegpt", invalid="drop")
    assert lists(made["input_ids"]) == fields["input_ids"]
    assert lists(made["labels"]) == fields["labels"]


def test_the_rows_that_mindspeed_drops_with_a_warning_are_errors(shared):
    rows = rows_of(shared, "sharegpt_qwen_nopack")
    chat = md.chat(style="sharegpt", template="qwen")
    with pytest.raises(
        ValueError, match=r"row 2 \(rows.json item 3\): the last message is of role"
    ):
        chat(rows)
    assert [reason.split(":")[0] for _, reason in md.invalid_rows(rows, style="sharegpt")] == [
        "missing_answer",
        "roles_out_of_turn",
    ]


@pytest.mark.parametrize("case", PACKED_CASES)
def test_samples_of_packed_rows(shared, case):
    """The same samples, as they lie in the packed rows, byte for byte."""
    made, fields = samples(shared, case, "alpaca")
    options, _ = expected(shared, case)
    size = int(options["seq-length"])
    pad = tokenizer_of(shared, options).pad_id
    pack = md.pack(size, strategy="first_fit_decreasing", capacity=size - 1, pad_id=pad)
    out = pack(made)
    assert out["input_ids"].tolist() == fields["input_ids"]
    assert out["labels"].tolist() == fields["labels"]


@pytest.mark.parametrize("case", LONG_CASES)
def test_samples_that_fit_among_longer_ones(shared, case):
    made, fields = samples(shared, case, "alpaca")
    rows = ["".join(f"{i}," for i in row) for row in fields["input_ids"]]
    labels = ["".join(f"{i}," for i in row) for row in fields["labels"]]
    fit = np.flatnonzero(made["input_ids"].lengths < 256)
    assert len(fit)
    for i in fit:
        text, trained = ("".join(f"{t}," for t in made[n][i]) for n in ("input_ids", "labels"))
        assert any(
            text in row and trained in label for row, label in zip(rows, labels, strict=True)
        )


def test_samples_as_long_as_the_limit_are_dropped(shared):
    """MindSpeed without packing skips samples of `--seq-length` tokens and more."""
    made, fields = samples(shared, "alpaca_qwen_nopack_seqlen", "alpaca")
    kept = md.truncate(149, policy="drop")(made)
    assert lists(kept["input_ids"]) == fields["input_ids"]
    assert lists(kept["labels"]) == fields["labels"]


def test_pairs(shared):
    made, fields = samples(shared, "pairwise_alpaca_qwen", "pairwise")
    assert sorted(fields) == sorted(made.keys() - {"_origin"})
    assert {name: lists(made[name]) for name in fields} == fields


def test_the_general_handler(shared):
    """It joins instruction and input by a newline even where there is no input."""
    options, fields = expected(shared, "general_instruction_nopack")
    rows = rows_of(shared, "general_instruction_nopack")
    joined = [f"{a}\n{b}" for a, b in zip(rows["instruction"], rows["input"], strict=True)]
    made = md.pipe(
        {"instruction": joined, "output": rows["output"]},
        md.chat(style="alpaca", template=GENERAL),
        md.tokenize(tokenizer_of(shared, options)),
    )
    assert lists(made["input_ids"]) == fields["input_ids"]
    assert lists(made["labels"]) == fields["labels"]


@pytest.mark.parametrize("case", ["pretrain_text", "pretrain_text_eod"])
def test_pretraining_text(shared, case):
    """The empty text is dropped there silently, here by name."""
    options, fields = expected(shared, case)
    tokenize = md.tokenize(tokenizer_of(shared, options), append_eos="append-eod" in options)
    with pytest.raises(ValueError, match=r"row 3 \(rows.json item 4\): 'text' is empty"):
        md.conversations(style="text")(rows_of(shared, case))
    texts, counts = md.counted(
        md.conversations(style="text", invalid="drop"), rows_of(shared, case)
    )
    assert lists(tokenize(texts)["input_ids"]) == fields["text"]
    assert counts["conversations.dropped.empty_text"] == 1


def test_padding_by_an_id_outside_the_vocabulary_is_not_ours(shared):
    """`pretrain_text_eod_padmult8` pads with the id 277 of a vocabulary of 277."""
    options, fields = expected(shared, "pretrain_text_eod_padmult8")
    assert tokenizer_of(shared, options).vocab_size == 277
    assert any(277 in row for row in fields["text"])
    short = attrs.evolve(tokenizer_of(shared, options), vocab_size=100)
    with pytest.raises(ValueError, match=r"vocabulary is 0\.\.99"):
        md.tokenize(short)({"text": ["hello"]})


def test_alpaca_as_pretraining_text(shared):
    """Rows with an input are equal; without one MindSpeed writes "###None", which is its defect."""
    options, fields = expected(shared, "pretrain_alpaca")
    rows = rows_of(shared, "pretrain_alpaca")
    inputs = [
        f"{a}\n\n### Input:\n{b}" for a, b in zip(rows["instruction"], rows["input"], strict=True)
    ]
    made = md.pipe(
        {"instruction": inputs, "output": rows["output"]},
        md.chat(style="alpaca", template=PRETRAIN, train_on="all"),
        md.tokenize(tokenizer_of(shared, options)),
    )
    ids = lists(made["input_ids"])
    assert [ids[0], ids[2]] == [fields["text"][0], fields["text"][2]]
    assert b"###None" in bytes(i for i in fields["text"][1] if i < 256)
    assert b"None" not in bytes(i for i in ids[1] if i < 256)


@pytest.mark.parametrize("answers", [["a", "b"], [], 3])
def test_rows_that_mindspeed_replaces_by_an_empty_dialogue_are_refused(answers):
    rows = {"instruction": ["Q"], "output": [answers]}
    with pytest.raises(ValueError, match=r"row 0: 'output' is .*, but must be text"):
        md.chat(style="alpaca", template="qwen")(rows)


def test_messages_that_spell_special_tokens_are_mindspeeds_when_asked(shared):
    """There every text is parsed; with the tokenizer's own special tokens it is so here too."""
    options, _ = expected(shared, "alpaca_qwen_nopack")
    tokenizer = tokenizer_of(shared, options, "<|im_end|>")
    rows = {"instruction": ["a<|im_end|>b"], "output": ["c<|endoftext|>"]}
    plain, parsed = (
        md.pipe(
            rows,
            md.chat(style="alpaca", template="chatml", parse_special=names),
            md.tokenize(tokenizer),
        )
        for names in ((), tokenizer.special)
    )
    im_start, im_end, end = 261, 262, 260
    head = [im_start, *b"user\na"]
    tail = [im_start, *b"assistant\n"]
    assert lists(plain["input_ids"]) == [
        [*head, *b"<|im_end|>b", im_end, 10, *tail, *b"c<|endoftext|>", im_end]
    ]
    assert lists(parsed["input_ids"]) == [[*head, im_end, 98, im_end, 10, *tail, 99, end, im_end]]
    assert lists(parsed["labels"]) == [[-100] * (len(head) + 4 + len(tail)) + [99, end, im_end]]
