"""`mfunc data pack --compat mindspeed`, held to the files that the real program wrote."""

from __future__ import annotations

import json
import re

import pytest

from mfunc.cli import main

E2E = "golden/mindspeed/e2e"
# What each case of the real program's outputs is to us: equal to the byte, or refused, and why.
V210 = (
    "alpaca_alpaca_hist_nopack",
    "alpaca_chatglm2_hist_neatpack",
    "alpaca_chatglm3_hist_nopack",
    "alpaca_chatml_hist_nopack",
    "alpaca_default_hist_nopack",
    "alpaca_empty_hist_nopack",
    "alpaca_intern2_hist_nopack",
    "alpaca_llama3_hist_nopack",
    "alpaca_mistral_hist_nopack",
    "alpaca_qwen_long_neatpack",
    "alpaca_qwen_long_pack",
    "alpaca_qwen_longmt_neatpack",
    "alpaca_qwen_neatpack",
    "alpaca_qwen_neatpack_appendeod",
    "alpaca_qwen_nopack",
    "alpaca_qwen_nopack_seqlen",
    "alpaca_qwen_pack",
    "general_instruction_nopack",
    "pairwise_alpaca_qwen",
    "pretrain_text",
    "pretrain_text_eod",
    "sharegpt_qwen_nopack",
    "sharegpt_qwen_tools_nopack",
)
LATER = ("head_qwen3_think_false", "head_qwen3_think_true", "head_qwen_lf_hist")
DEFECTS = {
    "pretrain_text_eod_padmult8": "pads with an id outside the vocabulary",
    "pretrain_alpaca": "writes '###None' into the text",
}


def argv_of(shared, case, version="v210"):
    """The case's own words, with paths of this machine."""
    golden = shared / "golden/mindspeed"
    words = json.loads((golden / "e2e" / case / f"expected_{version}.json").read_text())["argv"]
    words[words.index("--input") + 1] = str(golden / "e2e" / case / "input.json")
    at = words.index("--tokenizer-name-or-path") + 1
    words[at] = str(golden / words[at])
    words[words.index("--output-prefix") + 1] = "out/ds"
    return words


def pack(*words):
    return main(["data", "pack", "--compat", "mindspeed", *words])


def files_of(folder, names="*"):
    return {p.name: p.read_bytes() for p in folder.glob(names) if p.suffix in (".bin", ".idx")}


def test_every_case_is_listed(shared):
    there = {path.name for path in (shared / E2E).iterdir()}
    assert there == {*V210, *LATER, *DEFECTS}
    assert len(there) == 28


@pytest.mark.parametrize(
    ("case", "version"),
    [*((case, "v210") for case in V210), *((case, "head_c77308a") for case in LATER)],
)
def test_parity_equal_to_the_byte(shared, case, version, tmp_path):
    assert pack(*argv_of(shared, case, version)) == 0
    expected = files_of(shared / E2E / case / version)
    assert len(expected) >= 2
    made = files_of(tmp_path / "out")
    assert made.keys() == expected.keys()
    assert [name for name in made if made[name] != expected[name]] == []


@pytest.mark.parametrize(("case", "why"), DEFECTS.items())
def test_parity_refused_because(shared, case, why, capsys, tmp_path):
    assert pack(*argv_of(shared, case)) == 2
    assert re.search(why, capsys.readouterr().err)
    assert not list(tmp_path.rglob("*_document.*")), "nothing is left of what was refused"


def test_the_summary_says_what_upstream_does_not(shared, capsys):
    words = argv_of(shared, "sharegpt_qwen_nopack")
    assert pack(*words) == 0
    said = capsys.readouterr().out
    assert said.startswith("4 rows, 2 samples\n")
    assert "1 rows left out, as upstream does with a warning: missing_answer" in said
    assert "1 rows left out, as upstream does with a warning: roles_out_of_turn" in said
    assert "without effect on the files: --workers, --log-interval, --overwrite-cache" in said
    assert "wrote out/ds_packed_labels_document.bin, .idx" in said


def test_columns_that_are_not_read_are_said(shared, capsys):
    words = argv_of(shared, "alpaca_default_hist_nopack")
    at = words.index("--map-keys")
    assert pack(*words[:at], *words[at + 2 :]) == 0
    said = capsys.readouterr().out
    assert re.search(r"\d rows with a column that --map-keys does not name.*: history", said)
    assert re.search(r"\d rows with a column that --map-keys does not name.*: system", said)


def test_what_is_too_long_is_said(shared, capsys):
    assert pack(*argv_of(shared, "alpaca_qwen_long_pack")) == 0
    said = capsys.readouterr().out
    assert re.search(r"\d samples left out: as long as --seq-length, or longer", said)
    assert re.search(r"1 rows packed, filled to \d\d\.\d\d %", said)
    assert pack(*argv_of(shared, "alpaca_qwen_long_neatpack")) == 0
    assert re.search(r"\d samples cut: as long as --seq-length", capsys.readouterr().out)


def test_merging_one_pair_gives_its_bytes(shared, capsys, tmp_path):
    folder = shared / E2E / "alpaca_qwen_pack" / "v210"
    words = ["--input", str(folder), "--output-prefix", "out/all"]
    assert pack(*words, "--merge-group-keys", "labels", "input_ids") == 0
    assert "out/all_labels: ds_packed_labels_document" in capsys.readouterr().out
    for end in ("bin", "idx"):
        merged = (tmp_path / f"out/all_labels.{end}").read_bytes()
        assert merged == (folder / f"ds_packed_labels_document.{end}").read_bytes()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--streaming"], "--streaming is not supported: leave it out"),
        (["--split-sentences"], "--split-sentences is not supported: split the texts before"),
        (["--mix-strategy", "concat"], "--mix-strategy is not supported"),
        (["--handler-name", "AlpacaHandler"], "unknown --handler-name 'AlpacaHandler'; did you"),
        ([], "unknown --handler-name ''"),
        (["--handler-name", "GeneralPretrainHandler"], "there is no tokenizer.json"),
    ],
)
def test_refusals_are_one_line(words, message, capsys):
    common = ["--input", "x.json", "--output-prefix", "out/x", "--tokenizer-name-or-path", "."]
    assert pack(*common, *words) == 2
    said = capsys.readouterr().err
    assert said.startswith("mfunc data pack: ")
    assert message in said
    assert said.count("\n") == 1


def test_flags_that_are_nobodys(capsys):
    with pytest.raises(SystemExit) as caught:
        pack("--input", "x", "--output-prefix", "y", "--cutoff", "3")
    assert caught.value.code == 2
    assert "unrecognized arguments: --cutoff" in capsys.readouterr().err


@pytest.mark.parametrize("compat", [["--compat", "mindspeed"], ["--compat=mindspeed"]])
def test_the_flag_chooses_the_module_wherever_it_stands(compat, capsys):
    with pytest.raises(SystemExit) as caught:
        main(["data", "pack", "--help", *compat])
    assert caught.value.code == 0
    assert "--tokenizer-name-or-path" in capsys.readouterr().out
