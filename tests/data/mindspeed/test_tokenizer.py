"""A tokenizer's folder as MindSpeed-LLM loads it."""

from __future__ import annotations

import json
import pickle

import pytest
from tests.data.byte_folder import SPECIAL, write_folder

import mfunc.data as md
from mfunc.data.mindspeed.tokenizer import affixes, folder_tokenizer, slots


def test_eos_is_the_templates_and_pad_is_eos_where_there_is_none(tmp_path):
    folder = write_folder(tmp_path / "t", eos_token={"content": "</s>"})
    plain = folder_tokenizer(folder, prompt_type=None)
    assert (plain.eos_id, plain.pad_id) == (plain.token_id("</s>"), None)
    alpaca = folder_tokenizer(folder, prompt_type="alpaca")
    assert alpaca.eos_id == alpaca.pad_id == alpaca.token_id("</s>")
    qwen = folder_tokenizer(folder, prompt_type="qwen")
    assert qwen.eos_id == qwen.pad_id == qwen.token_id("<|im_end|>")
    padded = write_folder(tmp_path / "p", eos_token="</s>", pad_token="<s>")
    made = folder_tokenizer(padded, prompt_type="qwen")
    assert (made.eos_id, made.pad_id) == (made.token_id("<|im_end|>"), made.token_id("<s>"))


def test_roles_may_stand_in_the_other_file(tmp_path):
    folder = write_folder(tmp_path / "t")
    assert folder_tokenizer(folder, prompt_type=None).eos_id is None
    none = folder_tokenizer(folder, prompt_type="alpaca")
    assert none.eos_id == none.token_id("<|endoftext|>")
    (folder / "special_tokens_map.json").write_text(json.dumps({"eos_token": "</s>"}))
    made = folder_tokenizer(folder, prompt_type="alpaca")
    assert made.eos_id == made.token_id("</s>")


def test_special_tokens_are_read_in_text_also_in_another_process(tmp_path):
    folder = write_folder(tmp_path / "t", eos_token="</s>")
    parsed = folder_tokenizer(folder, prompt_type="qwen")
    end = parsed.token_id("<|im_end|>")
    for each in (parsed, pickle.loads(pickle.dumps(parsed))):
        assert end in each.encode(["a<|im_end|>b"])[0]
    plain = md.hf_tokenizer(folder / "tokenizer.json", eos="<|im_end|>", pad="<|im_end|>")
    for each in (plain, pickle.loads(pickle.dumps(plain))):
        assert end not in each.encode(["a<|im_end|>b"])[0]
    assert plain != parsed


def test_a_tokenizer_of_another_family_is_refused(tmp_path):
    folder = write_folder(tmp_path / "t", special=SPECIAL[:3], eos_token="</s>")
    with pytest.raises(ValueError, match=r"has no token '<\|im_end\|>'"):
        folder_tokenizer(folder, prompt_type="qwen")
    with pytest.raises(ValueError, match=r"'\[gMASK\]'.*tokenizer for --prompt-type chatglm2\?"):
        folder_tokenizer(folder, prompt_type="chatglm2")
    assert folder_tokenizer(folder, prompt_type="alpaca").eos_id is not None


def test_files_that_contradict_one_another(tmp_path):
    added = {"5": {"content": "</s>"}}
    folder = write_folder(tmp_path / "t", eos_token="</s>", added_tokens_decoder=added)
    with pytest.raises(ValueError, match=r"'</s>' is \d+ in .*, but 5 in its tokenizer_config"):
        folder_tokenizer(folder, prompt_type=None)
    folder = write_folder(tmp_path / "u", add_bos_token=True)
    with pytest.raises(ValueError, match=r"add_bos_token=True, but tokenizer.json adds \[\]"):
        affixes(folder_tokenizer(folder, prompt_type=None))


def test_what_is_put_around_a_text_encoded_whole(tmp_path):
    folder = write_folder(tmp_path / "t", bos_before=True, bos_token="<s>", add_bos_token=True)
    tokenizer = folder_tokenizer(folder, prompt_type=None)
    assert affixes(tokenizer) == ([tokenizer.bos_id], [])
    bare = folder_tokenizer(write_folder(tmp_path / "u"), prompt_type=None)
    assert affixes(bare) == ([], [])


def test_there_is_no_fast_tokenizer(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no .*tokenizer\.json$"):
        folder_tokenizer(tmp_path, prompt_type=None)
    (tmp_path / "tokenizer.model").touch()
    with pytest.raises(FileNotFoundError, match=r"tokenizer\.model is there, for which use"):
        folder_tokenizer(tmp_path, prompt_type=None)


def test_slots_are_texts_but_for_three_templates(shared):
    summary = json.loads((shared / "golden/mindspeed/templates_summary.json").read_text())
    for name, told in summary["mindspeed_v2.1.0"]["templates"].items():
        by_name = "{token:" in json.dumps(told)
        assert bool(slots(name).special) == by_name, name


def test_a_bos_that_the_tokenizer_lacks_is_left_out():
    assert slots("llama3").prefix == "{bos}"
    assert slots("llama3", bos=False).prefix == ""
    assert slots("llama2", bos=False).user == "[INST] {system}{content} [/INST]"
