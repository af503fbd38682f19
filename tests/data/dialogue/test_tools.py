from __future__ import annotations

import json

import pytest

from mfunc.data import Call
from mfunc.data.dialogue.messages import RowError
from mfunc.data.dialogue.tools import (
    read_calls,
    read_openai_calls,
    read_tools,
    write_calls,
    write_tools,
)

WEATHER = {
    "name": "weather",
    "description": "Tell it.",
    "parameters": {
        "type": "object",
        "properties": {
            "city": {"type": "string", "description": "Where"},
            "unit": {"type": "string", "enum": ["C", 1]},
            "days": {"type": "array", "items": {"type": "integer"}},
        },
        "required": ["city"],
    },
}


def test_tools_as_text_or_parsed_or_wrapped():
    wrapped = [{"type": "function", "function": WEATHER}]
    for value in ([WEATHER], json.dumps([WEATHER]), wrapped, json.dumps(wrapped)):
        assert read_tools(value) == (WEATHER,)
    assert read_tools(None) == read_tools("") == read_tools([]) == ()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("[", "tools '\\[' cannot be read as JSON"),
        ("[" * 100_000, "cannot be read as JSON"),
        ('{"name": "f"}', "must be a list of them"),
        (3, "tools are 3, but must be a list"),
        ("[3]", "a tool is 3, which has no name"),
        ('[{"description": "x"}]', "which has no name"),
        ('[{"name": 3}]', "which has no name"),
    ],
)
def test_unknown_tools(value, text):
    with pytest.raises(RowError, match=text) as caught:
        read_tools(value)
    assert caught.value.reason == "unknown_tools"


def test_calls():
    both = '[{"name": "f", "arguments": {"x": "\u00fc"}}, {"name": "g", "arguments": {}}]'
    calls = read_calls(both)
    assert calls == (Call("f", '{"x": "\u00fc"}'), Call("g", "{}"))
    assert read_openai_calls(
        [{"type": "function", "function": {"name": "f", "arguments": '{"x":1}'}}]
    ) == (Call("f", '{"x": 1}'),)
    assert read_openai_calls(None) == ()
    assert write_calls("{name}({arguments})", calls) == 'f({"x": "\u00fc"})\ng({})'
    assert write_calls("<{call}>", calls[1:]) == '<{"name": "g", "arguments": {}}>'


def test_a_name_that_looks_like_a_place_stays_text():
    assert write_calls("{name}: {arguments}", [Call("{arguments}", "{}")]) == "{arguments}: {}"


@pytest.mark.parametrize(
    "value", ["no json", "3", "[]", '{"name": "f"}', '{"arguments": {}}', '[{"name": 1}]', "{" * 9]
)
def test_bad_calls(value):
    with pytest.raises(RowError) as caught:
        read_calls(value)
    assert caught.value.reason == "bad_function_call"


@pytest.mark.parametrize("value", [3, [3], [{"function": {"name": "f", "arguments": "{"}}]])
def test_bad_openai_calls(value):
    with pytest.raises(RowError) as caught:
        read_openai_calls(value)
    assert caught.value.reason == "bad_function_call"


def test_the_text_of_parameters():
    text = write_tools("default", [WEATHER])
    assert "  - city (string, required): Where\n" in text
    assert "  - unit (string): , should be one of [C, 1]\n" in text
    assert "  - days (array): , where each item should be integer\n" in text
    assert "(one of [weather])" in text
    assert write_tools("anything", []) == ""


def test_parameters_that_are_no_schema():
    with pytest.raises(RowError, match="tool 'f' has the parameters 'x', but they must be a JSON"):
        write_tools("default", [{"name": "f", "parameters": "x"}])


def test_qwen_writes_a_line_of_json_for_each():
    text = write_tools("qwen", [WEATHER])
    line = json.dumps({"type": "function", "function": WEATHER}, ensure_ascii=False)
    assert f"<tools>\n{line}\n</tools>" in text


def test_an_unknown_format_is_refused():
    with pytest.raises(
        ValueError, match="tool format 'glm4' is not known; known are 'default', 'q"
    ):
        write_tools("glm4", [WEATHER])
