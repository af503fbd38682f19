"""Rows as MindSpeed-LLM's handlers read them: which columns, which tags, which rows."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.data.byte_folder import write_folder

from mfunc.data.mindspeed.rows import chunks, samples_of, source, sources
from mfunc.data.mindspeed.settings import Settings
from mfunc.data.mindspeed.tokenizer import folder_tokenizer


def settings(handler="AlpacaStyleInstructionHandler", prompt="qwen", **more):
    return Settings(
        input="rows.json",
        output_prefix="out",
        tokenizer_name_or_path="t",
        handler_name=handler,
        prompt_type=prompt,
        **more,
    )


@pytest.fixture
def tokenizer(tmp_path):
    return folder_tokenizer(write_folder(tmp_path / "t", eos_token="</s>"), prompt_type="qwen")


def read_all(one, rows, most=None):
    Path("rows.json").write_text(json.dumps(rows))
    (columns, counts), *rest = chunks(one, most)
    assert not rest
    columns.pop("_origin")
    return columns, counts


def made_of(tokenizer, rows, **flags):
    told = settings(**flags)
    Path("rows.json").write_text(json.dumps(rows))
    (one,) = sources(told)
    (columns, _), *_ = chunks(one)
    samples, counts = samples_of(told, one, tokenizer)(columns)
    return samples, {name: n for name, n in counts.items() if "dropped." in name}


def test_history_and_system_are_read_only_if_named():
    row = {"instruction": "a", "output": "b", "history": [["q", "a"]], "system": "s"}
    rows = [row, {**row, "system": ""}]
    columns, counts = read_all(sources(settings())[0], rows)
    assert columns == {"instruction": ["a"] * 2, "input": [None] * 2, "output": ["b"] * 2}
    assert counts == {"unread.history": 2, "unread.system": 1}
    (named,) = sources(settings(map_keys='{"history": "history", "query": null}'))
    columns, counts = read_all(named, rows)
    assert list(columns) == ["instruction", "output", "history"]
    assert counts == {"unread.system": 1}


def test_columns_of_other_names():
    (one,) = sources(settings(map_keys={"prompt": "q", "response": "a", "system": "history"}))
    columns, counts = read_all(one, [{"q": "1", "a": "2", "history": "s", "instruction": "no"}])
    assert columns == {"instruction": ["1"], "input": [None], "output": ["2"], "system": ["s"]}
    assert counts == {}


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"prompt": "question"}, "no column 'question'; .*did you mean|has no column 'question'"),
        ({"history": "turns"}, "rows.json has no column 'turns'; columns are instruction, output"),
        ({"foo": "instruction"}, "unknown key 'foo'"),
        ({"foo": None}, "unknown key 'foo'"),
        ("{", "not JSON|Expecting"),
    ],
)
def test_columns_that_are_not_there(keys, message):
    with pytest.raises(ValueError, match=message):
        read_all(sources(settings(map_keys=keys))[0], [{"instruction": "a", "output": "b"}])


def test_rows_are_left_out_as_upstream_does(tokenizer):
    whole = {"instruction": "a", "output": "b"}
    rows = [whole, {**whole, "output": None}, {**whole, "instruction": None}]
    samples, counts = made_of(tokenizer, rows)
    assert len(samples["input_ids"]) == 2
    assert counts == {"chat.dropped.missing_answer": 1}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"output": ["b", "c"]}, "row 1 .*not_text: 'output' is .*upstream writes something else"),
        ({"output": 3}, "row 1 .*not_text"),
        ({"instruction": 3}, "row 1 .*not_text"),
    ],
)
def test_rows_that_upstream_changes_are_refused(tokenizer, row, message):
    whole = {"instruction": "a", "output": "b"}
    with pytest.raises(ValueError, match=message):
        made_of(tokenizer, [whole, {**whole, **row}])


def share(*messages, role="from", content="value", **more):
    return {"conversations": [{role: r, content: c, **more} for r, c in messages]}


def test_only_the_tags_of_upstream_are_roles(tokenizer):
    rows = [
        share(("human", "a"), ("gpt", "b")),
        share(("human", "a"), ("assistant", "b")),
        share(("gpt", "a"), ("human", "b")),
        share(("human", "a")),
        share(),
    ]
    samples, counts = made_of(tokenizer, rows, handler="SharegptStyleInstructionHandler")
    assert len(samples["input_ids"]) == 1
    assert counts == {
        "chat.dropped.unknown_role": 1,
        "chat.dropped.roles_out_of_turn": 1,
        "chat.dropped.missing_answer": 1,
        "chat.dropped.empty_conversation": 1,
    }


def test_tags_that_are_given_are_all_there_are(tokenizer):
    tags = {"role_tag": "role", "content_tag": "text", "user_tag": "u", "assistant_tag": "a"}
    rows = [
        share(("u", "1"), ("a", "2"), role="role", content="text"),
        share(("system", "s"), ("u", "1"), ("a", "2"), role="role", content="text"),
        share(("observation", "1"), ("a", "2"), role="role", content="text"),
    ]
    flags = {"handler": "SharegptStyleInstructionHandler"}
    samples, counts = made_of(tokenizer, rows, map_keys={"tags": tags}, **flags)
    assert len(samples["input_ids"]) == 1
    assert counts == {"chat.dropped.unknown_role": 2}
    more = {**tags, "system_tag": "system", "observation_tag": "observation"}
    samples, counts = made_of(tokenizer, rows, map_keys={"tags": more}, **flags)
    assert (len(samples["input_ids"]), counts) == (3, {})
    del tags["user_tag"]
    with pytest.raises(ValueError, match="tags of --map-keys lack 'user_tag'"):
        sources(settings(map_keys={"tags": tags}, **flags))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (share(("human", "a"), ("gpt", "b"), reasoning_content="t"), "has reasoning_content"),
        (share(("human", "a"), ("gpt", "b"), tool_calls=[]), "has tool_calls"),
        (share(("human", "a"), ("function_call", "[]")), "has a list of calls"),
        (share(("human", "a"), ("function_call", "{")), "bad_function_call"),
        (share(("human", None), ("gpt", "b")), "not_text"),
    ],
)
def test_parts_of_messages_that_upstream_loses(tokenizer, row, message):
    with pytest.raises(ValueError, match=f"row 0 .*{message}"):
        made_of(tokenizer, [row], handler="SharegptStyleInstructionHandler")


def test_openai_messages(tokenizer):
    def row(*messages, **more):
        return {"messages": [{"role": r, "content": c} for r, c in messages], **more}

    ask, say = ("user", "a"), ("assistant", "b")
    rows = [row(("system", "s"), ask, say), row(ask), row(ask, ("bot", "b")), row(ask, say)]
    samples, counts = made_of(tokenizer, rows, handler="OpenAIInstructionHandler")
    expected, _ = made_of(
        tokenizer,
        [share(("system", "s"), ("human", "a"), ("gpt", "b")), share(("human", "a"), ("gpt", "b"))],
        handler="SharegptStyleInstructionHandler",
    )
    assert samples["input_ids"] == expected["input_ids"]
    assert counts == {"chat.dropped.missing_answer": 1, "chat.dropped.unknown_role": 1}
    with pytest.raises(ValueError, match=r"row 0 .*roles_out_of_turn.*upstream writes something"):
        made_of(tokenizer, [row(ask, ask, say)], handler="OpenAIInstructionHandler")
    (one,) = sources(settings("OpenAIInstructionHandler", map_keys={"messages": "chat"}))
    assert one.fields == {"messages": "chat", "tools": "tools"}


def test_share_gpt_pairs(tokenizer):
    row = {
        **share(("human", "q")),
        "chosen": {"from": "gpt", "value": "yes"},
        "rejected": {"from": "gpt", "value": "no"},
    }
    made, _ = made_of(tokenizer, [row], handler="SharegptStylePairwiseHandler")
    alpaca = [{"instruction": "q", "chosen": "yes", "rejected": "no"}]
    same, _ = made_of(tokenizer, alpaca, handler="AlpacaStylePairwiseHandler")
    assert made.keys() == same.keys()
    assert all(made[name] == same[name] for name in same if name != "_origin")
    assert made["chosen_labels"][0].tolist()[-2:] != [-100, -100]


def test_the_first_token_is_labelled_where_nothing_stands_before_it(tokenizer):
    rows = [{"instruction": "", "output": "b"}, {"instruction": "a", "output": "b"}]
    samples, _ = made_of(tokenizer, rows, prompt="empty")
    b = tokenizer.encode(["b"])[0]
    a = tokenizer.encode(["a"])[0]
    assert [row.tolist() for row in samples["labels"]] == [b, [-100, *b]]
    assert [row.tolist() for row in samples["input_ids"]] == [b, [*a, *b]]


def test_general_rows_are_encoded_whole_and_masked_by_length(tmp_path):
    """The newline before an answer and its first letter are one token: the mask ends behind it."""
    folder = write_folder(tmp_path / "b", bos_before=True, bos_token="<s>", eos_token="</s>")
    tokenizer = folder_tokenizer(folder, prompt_type=None)
    row = {"instruction": "q", "input": "", "output": "ab"}
    samples, _ = made_of(
        tokenizer, [row], handler="GeneralInstructionHandler", prompt=None, append_eod=True
    )
    ids, labels = (samples[name][0].tolist() for name in ("input_ids", "labels"))
    text = tokenizer.decode(ids)
    assert text.endswith("### Instruction:\nq\n\n### Response:\nab\n")
    assert (ids[0], ids[-1], labels[-1]) == (tokenizer.bos_id, tokenizer.eos_id, tokenizer.eos_id)
    asked = text.removesuffix("ab\n")
    masked = 1 + len(tokenizer.encode([asked])[0])
    assert labels == [-100] * masked + ids[masked:]
    joint = tokenizer.encode(["\na"])[0]
    assert len(joint) == 1
    assert ids[masked - 1] == joint[0], "the whole is one text"


def test_texts_of_several_keys():
    tokenizer = folder_tokenizer(write_folder(Path("t"), eos_token="</s>"), prompt_type=None)
    rows = [{"title": "a", "body": ""}, {"title": "b", "body": "c"}]
    flags = {"handler": "GeneralPretrainHandler", "prompt": None, "json_keys": ("title", "body")}
    told = settings(**flags, append_eod=True)
    Path("rows.json").write_text(json.dumps(rows))
    (one,) = sources(told)
    (columns, _), *_ = chunks(one)
    made, counts = samples_of(told, one, tokenizer)(columns)
    assert counts == {"title.empty": 0, "body.empty": 1}
    eos = tokenizer.eos_id
    assert [row.tolist()[-1] for row in made["title"]] == [eos, eos]
    assert [len(made[name]) for name in ("title", "body")] == [2, 1]


@pytest.mark.parametrize(
    ("handler", "row", "message"),
    [
        ("GeneralPretrainHandler", {"txt": "a"}, "no column 'text'; did you mean 'txt'"),
        ("GeneralPretrainHandler", {"text": 3}, "row 0 .*'text' is 3, but must be text"),
        ("GeneralInstructionHandler", {"instruction": "a"}, "no column 'input'"),
        (
            "GeneralInstructionHandler",
            {"instruction": "a", "input": None, "output": "b"},
            "'input' is missing, but must be text",
        ),
        (
            "AlpacaPretrainHandler",
            {"instruction": "a", "input": "", "output": "b"},
            "row 0 .*'input' is empty, .*'###None'",
        ),
    ],
)
def test_texts_that_are_none(tokenizer, handler, row, message):
    with pytest.raises(ValueError, match=message):
        made_of(tokenizer, [row], handler=handler, prompt=None)


def test_alpaca_texts_with_an_input_are_upstreams(shared, tokenizer):
    """The golden case has one row without, which is refused; the others are equal."""
    folder = shared / "golden/mindspeed/e2e/pretrain_alpaca"
    expected = json.loads((folder / "expected_v210.json").read_text())
    rows = json.loads((folder / "input.json").read_text())
    golden = folder_tokenizer(shared / "golden/mindspeed/tokenizer/llama_pad", prompt_type=None)
    flags = {"handler": "AlpacaPretrainHandler", "prompt": None, "append_eod": True}
    made, _ = made_of(golden, [rows[0], rows[2]], **flags)
    texts = expected["fields"]["ds_text_document"]["sequences"]
    assert [row.tolist() for row in made["text"]] == [texts[0], texts[2]]


def test_sets_of_dataset_info(tmp_path):
    info = {
        "plain": {"file_name": "a.json"},
        "named": {"file_name": "b.json", "columns": {"prompt": "q", "response": "a"}},
        "talk": {
            "file_name": "c.json",
            "formatting": "sharegpt",
            "columns": {"messages": "chat"},
            "tags": {"role_tag": "r", "content_tag": "c", "user_tag": "u", "assistant_tag": "a"},
        },
        "hub": {"hf_hub_url": "x/y"},
        "ranked": {"file_name": "a.json", "ranking": True},
    }
    Path("dataset_info.json").write_text(json.dumps(info))

    def listed(names):
        return sources(
            Settings(
                **{"input": names, "output_prefix": "o", "tokenizer_name_or_path": "t"},
                handler_name="LlamaFactoryInstructionHandler",
                prompt_type="qwen",
                dataset_dir=str(tmp_path),
            )
        )

    plain, named, talk = listed("plain, named,talk")
    assert plain.fields == {"instruction": "instruction", "input": "input", "output": "output"}
    assert (named.path, named.fields) == (
        str(tmp_path / "b.json"),
        {"instruction": "q", "output": "a"},
    )
    assert (talk.style, talk.fields, talk.tags["user_tag"]) == (
        "sharegpt",
        {"conversations": "chat"},
        "u",
    )
    with pytest.raises(ValueError, match="has no set 'plan'; did you mean 'plain'"):
        listed("plan")
    for wrong in ("hub", "ranked"):
        with pytest.raises(ValueError, match=f"the set '{wrong}' has .*supported are file_name"):
            listed(wrong)


def test_most_rows_of_a_set():
    one = source("rows.json", "alpaca", {}, usual={"instruction": "i", "output": "o"})
    rows = [{"i": str(n), "o": ""} for n in range(5)]
    columns, _ = read_all(one, rows, most=3)
    assert columns["instruction"] == ["0", "1", "2"]
    with pytest.raises(ValueError, match="has no column 'o'"):
        read_all(one, [{"i": "0"}] * 5, most=3)
