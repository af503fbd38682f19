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
