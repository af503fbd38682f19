from __future__ import annotations

import json
from pathlib import Path

import pytest

import mfunc.data as md

TAGS = {"role_tag": "role", "content_tag": "content", "user_tag": "user"}


@pytest.mark.parametrize("form", [json.dumps, dict], ids=["text", "mapping"])
def test_their_keys_become_our_columns(form):
    alpaca = {"prompt": "question", "query": "context", "response": "answer", "history": "turns"}
    fields = {
        "instruction": "question",
        "input": "context",
        "output": "answer",
        "history": "turns",
    }
    assert md.map_keys(form(alpaca), style="alpaca") == md.MapKeys(fields, None)
    pair = {"system": "s", "chosen": "good", "rejected": "bad"}
    assert md.map_keys(form(pair), style="alpaca").fields == pair
    sharegpt = {"messages": "chat", "tools": "functions", "system": "s", "tags": TAGS}
    fields = {"conversations": "chat", "tools": "functions", "system": "s"}
    assert md.map_keys(form(sharegpt), style="sharegpt") == (fields, TAGS)
    assert md.map_keys(form({}), style="sharegpt") == ({}, None)


@pytest.mark.parametrize(
    ("keys", "style", "message"),
    [
        ('{"promt": "q"}', "alpaca", "unknown key 'promt'; did you mean 'prompt'.*keys are prompt"),
        ('{"messages": "q"}', "alpaca", "unknown key 'messages'; keys are prompt, query"),
        ('{"tags": {}}', "alpaca", "unknown key 'tags'"),
        ('{"tag": {}}', "sharegpt", "unknown key 'tag'; did you mean 'tags'"),
        ('{"tags": {"rol_tag": "x"}}', "sharegpt", "'rol_tag'; did you mean 'role_tag'"),
        ('{"tags": "from"}', "sharegpt", "tags must be an object, got 'from'"),
        ('{"query": null}', "alpaca", "'query' must name a field, got None; leave out"),
        ('{"query": ""}', "alpaca", "'query' must name a field, got ''"),
        ({"query": 3}, "alpaca", "'query' must name a field, got 3"),
        ("{'prompt': 'q'}", "alpaca", "is not JSON"),
        (
            '{"prompt": "q", "prompt": "r"}',
            "alpaca",
            "is not JSON .the key 'prompt' is there twice",
        ),
        ("[]", "alpaca", r"needs an object of keys and field names, got \[\]"),
        ("{}", "openai", "style must be one of 'alpaca', 'sharegpt', got 'openai'"),
    ],
)
def test_wrong_keys_are_refused(keys, style, message):
    with pytest.raises(ValueError, match=f"map_keys: .*{message}"):
        md.map_keys(keys, style=style)


def test_fields_go_to_chat_or_read():
    """To chat, so that a history that the keys do not name is used all the same."""
    row = {"question": "And 3?", "output": "5", "history": [["1 + 1?", "2"]]}
    Path("a.jsonl").write_text(json.dumps(row))
    keys = md.map_keys('{"prompt": "question"}', style="alpaca")
    assert list(next(md.read("a.jsonl", fields=keys.fields))) == ["instruction", "_origin"]
    chat = md.chat(style="alpaca", template="qwen", fields=keys.fields)
    text = "".join(piece.text for piece in chat(next(md.read("a.jsonl")))["pieces"][0])
    assert "1 + 1?" in text
    assert "And 3?" in text


def test_the_keys_of_real_runs(shared):
    """Every --map-keys in the golden cases is taken."""
    files = [*(shared / "golden/mindspeed/e2e").glob("*/expected_*.json")]
    lines = [json.loads(file.read_text()).get("argv") or [] for file in files]
    given = [argv[argv.index("--map-keys") + 1] for argv in lines if "--map-keys" in argv]
    assert given
    for text in given:
        keys = md.map_keys(text, style="sharegpt" if "messages" in text else "alpaca")
        assert sorted(keys.fields.values()) == sorted(json.loads(text).values())


def test_chat_understands_the_fields():
    keys = md.map_keys('{"messages": "talk", "tags": {"user_tag": "me"}}', style="sharegpt")
    talk = [[{"from": "me", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]]
    pieces = md.chat(style="sharegpt", template="qwen", fields=keys.fields, tags=keys.tags)
    assert "Hi" in "".join(piece.text for piece in pieces({"talk": talk})["pieces"][0])
    keys = md.map_keys({"prompt": "q", "response": "a"}, style="alpaca")
    assert md.chat(style="alpaca", template="qwen", fields=keys.fields)({"q": ["1"], "a": ["2"]})
