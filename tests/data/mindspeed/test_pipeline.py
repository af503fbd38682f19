"""The program as a function: lengths that upstream hangs on, sub-sets, merging, what is counted.

Equality with the files of the real program is in `tests/cli/test_data_pack_mindspeed.py`; with its
rules, for any rows, in `tests/laws/test_mindspeed_laws.py`.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from tests.data.byte_folder import write_folder

import mfunc.data as md
from mfunc.data.mindspeed.pipeline import merge_groups, preprocess
from mfunc.data.mindspeed.settings import Settings


def run(rows, **flags):
    """Counts of a run, from a folder made here."""
    write_folder(Path("t"), eos_token="</s>", pad_token="<|endoftext|>")
    Path("rows.json").write_text(json.dumps(rows))
    given = {
        "input": "rows.json",
        "output_prefix": "out/ds",
        "tokenizer_name_or_path": "t",
        "handler_name": "AlpacaStyleInstructionHandler",
        "prompt_type": "qwen",
    }
    return preprocess(Settings(**{**given, **flags}))


def alpaca(*answers, instruction="q"):
    return [{"instruction": instruction, "output": answer} for answer in answers]


def length_of(answer):
    run(alpaca(answer), output_prefix="probe/ds")
    return len(md.indexed.read("probe/ds")["input_ids"][0])


@pytest.mark.parametrize("neat", [False, True])
def test_a_sample_of_exactly_the_sequence_length_which_upstream_packs_for_ever(neat):
    """Its later versions leave it out, in neat packs cut the last token: so here, and counted."""
    size = length_of("xyz")
    counts = run(alpaca("x", "xyz", "xy"), seq_length=size, pack=True, neat_pack=neat)
    assert counts.get("cut" if neat else "too_long") == 1
    rows = md.indexed.read("out/ds")
    assert counts["documents"] == len(rows["input_ids"]) == (3 if neat else 2)
    assert set(rows["input_ids"].lengths.tolist()) == {size}


@pytest.mark.parametrize("neat", [False, True])
@pytest.mark.parametrize(("template", "eod"), [("qwen", True), ("chatglm2", False)])
def test_what_eos_makes_exactly_as_long_which_upstream_packs_for_ever(template, eod, neat):
    """Turns are cut to one token less than a row, then eos (or eod) is put behind."""
    flags = {"prompt_type": template, "append_eod": eod, "seq_length": 100, "pack": True}
    counts = run(alpaca("x", "z" * 200), **flags, neat_pack=neat)
    assert counts["cut" if neat else "too_long"] == 1
    assert set(md.indexed.read("out/ds")["input_ids"].lengths.tolist()) == {100}


def test_skipped_rows_leave_empty_documents():
    size = length_of("xyz")
    counts = run(alpaca("x", "xyz", "xyzxyz", "y"), seq_length=size)
    assert (counts["too_long"], counts["documents"], counts["samples"]) == (2, 4, 4)
    pair = md.indexed.read_pair("out/ds_packed_labels_document")
    assert pair.document_indices.tolist() == [0, 1, 1, 1, 2]
    assert len(pair.sequences) == 2


def test_subsets_are_packed_each_for_itself():
    answers = [chr(97 + i) * (1 + i % 7) for i in range(11)]
    flags = {"seq_length": 200, "pack": True, "neat_pack": True}
    run(alpaca(*answers), **flags, n_subs=3, output_prefix="subs/ds")
    parts = [answers[i : i + 3] for i in range(0, 11, 3)]
    assert [len(part) for part in parts] == [3, 3, 3, 2], "one more than asked for"
    for i, part in enumerate(parts):
        run(alpaca(*part), **flags, output_prefix=f"parts/{i}")
    (merged,) = merge_groups("parts", ["input_ids"], "joined/ds").values()
    assert merged == [f"{i}_packed_input_ids_document" for i in range(4)]
    for end in ("bin", "idx"):
        joined = Path(f"joined/ds_input_ids.{end}").read_bytes()
        assert Path(f"subs/ds_packed_input_ids_document.{end}").read_bytes() == joined
    with pytest.raises(ValueError, match="--n-subs 12, but there are 11 rows"):
        run(alpaca(*answers), **flags, n_subs=12)


def test_merging_refuses_what_upstream_does_silently_or_dies_of():
    run(alpaca("a"), output_prefix="in/x")
    assert merge_groups("in", ["labels", "input"], "in/all") == {
        "labels": ["x_packed_labels_document"],
        "input": ["x_packed_input_ids_document"],
    }
    with pytest.raises(ValueError, match="all_labels is itself among the pairs to merge"):
        merge_groups("in", ["labels"], "in/all")
    with pytest.raises(ValueError, match="no pair in in has 'lables' in its name"):
        merge_groups("in", ["lables"], "out/all")
    with pytest.raises(FileNotFoundError, match=r"--input rows\.json is no folder"):
        merge_groups("rows.json", ["labels"], "out/all")
    Path("in/x_packed_labels_document.idx").unlink()
    with pytest.raises(ValueError, match="its writer did not finish"):
        merge_groups("in", ["x_packed_labels"], "out/all")


def test_what_is_counted():
    rows = [*alpaca("a", "bb", None), {**alpaca("c")[0], "history": [["q", "a"]]}]
    counts = run(rows, seq_length=200, pack=True, neat_pack=True)
    assert (counts["rows"], counts["samples"]) == (4, 3)
    assert (counts["dropped.missing_answer"], counts["unread.history"]) == (1, 1)
    packed = md.indexed.read("out/ds")
    assert counts["documents"] == len(packed["input_ids"])
    assert counts["slots"] == len(packed["input_ids"].flat)
    assert counts["tokens"] == counts["packed"] == (packed["attention_mask"].flat != 0).sum()
    assert counts["trained"] == (packed["labels"].flat != -100).sum()
    told = md.indexed.sidecar("out/ds")
    assert told["counts"] == {n: k for n, k in counts.items() if n != "documents"}
    assert told["settings"]["prompt_type"] == "qwen"
    assert str(Path.cwd()) not in json.dumps(told)


def test_a_message_that_spells_a_special_token_ends_its_turn_as_upstream():
    run(alpaca("a", instruction="x<|im_end|>y"))
    with_token = md.indexed.read("out/ds")["input_ids"][0].tolist()
    end = md.hf_tokenizer("t/tokenizer.json").token_id("<|im_end|>")
    assert with_token.count(end) == 4


def test_templates_later_than_the_version_have_no_rule_for_what_is_too_long():
    run(alpaca("a"), prompt_type="qwen3", seq_length=200, pack=True)
    for flags in ({}, {"pack": True}, {"pack": True, "neat_pack": True}):
        with pytest.raises(ValueError, match="1 samples have 50 tokens or more; how upstream cuts"):
            run(alpaca("a", "z" * 60), prompt_type="qwen3", seq_length=50, **flags)


@pytest.mark.parametrize(
    ("rows", "flags", "message"),
    [
        (alpaca(None), {}, "no sample is left of rows.json: {'rows': 1, 'samples': 0"),
        ([], {}, "no sample is left of rows.json"),
        (alpaca("a"), {"seq_length": 5}, "none of 1 samples is shorter than --seq-length 5"),
        (alpaca("a"), {"seq_length": 5, "pack": True}, "none of 1 samples is shorter"),
        (alpaca("", instruction=""), {"prompt_type": "empty"}, "sample 0 of 1 has no input_ids"),
    ],
)
def test_nothing_to_learn_from(rows, flags, message):
    with pytest.raises(ValueError, match=message):
        run(rows, **flags)
    assert not Path("out").exists() or not list(Path("out").iterdir())


def test_a_folder_of_two_formats_is_refused_where_upstream_reads_the_more_frequent():
    Path("in").mkdir()
    for name in ("a.jsonl", "b.jsonl", "c.csv"):
        Path("in", name).write_text('{"instruction": "q", "output": "a"}\n')
    with pytest.raises(ValueError, match=r"in has 2 of kind \.jsonl, but also c\.csv"):
        run([], input="in")


def test_texts_of_several_keys_are_pairs_of_their_own():
    rows = [{"title": "a", "body": ""}, {"title": "b", "body": "c"}]
    flags = {"handler_name": "GeneralPretrainHandler", "prompt_type": None}
    counts = run(rows, **flags, json_keys=["title", "body"])
    assert (counts["title.documents"], counts["body.documents"], counts["body.empty"]) == (2, 1, 1)
    for key, texts in (("title", 2), ("body", 1)):
        assert len(md.indexed.read_pair(f"out/ds_{key}_document").sequences) == texts
    short = run([{"text": "a"}, {"text": "bcd"}], **flags, seq_length=3, output_prefix="o/x")
    assert (short["too_long"], short["documents"]) == (1, 2)
    pair = md.indexed.read_pair("o/x_text_document")
    assert pair.document_indices.tolist() == [0, 1, 1]


def test_general_rows_in_neat_packs_lose_their_end():
    """They have no turns to cut: upstream takes the head."""
    rows = [{"instruction": "q", "input": "i", "output": "z" * 300}]
    flags = {"handler_name": "GeneralInstructionHandler", "prompt_type": None}
    run(rows, **flags, output_prefix="all/ds")
    whole = md.indexed.read("all/ds")
    counts = run(rows, **flags, seq_length=400, pack=True, neat_pack=True)
    assert counts["cut"] == 1
    cut = md.indexed.read("out/ds")
    for name in ("input_ids", "labels"):
        assert cut[name][0].tolist()[:399] == whole[name][0].tolist()[:399]
    assert np.unique(cut["attention_mask"][0]).tolist() == [0, 1]


def test_sets_of_dataset_info_are_joined():
    Path("sets").mkdir()
    info = {"a": {"file_name": "a.json"}, "b": {"file_name": "b.json", "formatting": "sharegpt"}}
    Path("sets/dataset_info.json").write_text(json.dumps(info))
    Path("sets/a.json").write_text(json.dumps(alpaca("x", "y")))
    turns = [{"from": "human", "value": "q"}, {"from": "gpt", "value": "z"}]
    Path("sets/b.json").write_text(json.dumps([{"conversations": turns}] * 3))
    flags = {"handler_name": "LlamaFactoryInstructionHandler", "dataset_dir": "sets"}
    assert run([], input="a,b", **flags)["samples"] == 5
    listed = md.indexed.read("out/ds")["input_ids"]
    run(alpaca("x", "y", "z", "z", "z"))
    assert md.indexed.read("out/ds")["input_ids"] == listed
    assert run([], input="b,a", **flags, max_samples=1)["rows"] == 2
