"""Tools in conversations: definitions and calls read from rows, and written as text."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mfunc.data.dialogue.messages import Call, RowError

Tool = Mapping[str, Any]


def read_tools(value: Any) -> tuple[Tool, ...]:
    """Tool definitions of a row: a JSON list, as text or parsed; OpenAI's wrapping is taken off.

    Args:
      value: `[{"name": ..., "description": ..., "parameters": {JSON schema}}, ...]` or the text of
        it; `[{"type": "function", "function": {...}}]` is accepted too. None and "" are no tools.

    Raises:
      RowError: for anything else.

    Example:
      >>> read_tools('[{"type": "function", "function": {"name": "f"}}]')
      ({'name': 'f'},)
    """
    if value is None or value == "":
        return ()
    listed = _parsed(value, "unknown_tools", "tools")
    if not isinstance(listed, (list, tuple)):
        raise RowError("unknown_tools", f"tools are {_short(value)}, but must be a list of them")
    tools = [
        tool["function"] if isinstance(tool, Mapping) and "function" in tool else tool
        for tool in listed
    ]
    for tool in tools:
        if not isinstance(tool, Mapping) or not isinstance(tool.get("name"), str):
            raise RowError("unknown_tools", f"a tool is {_short(tool)}, which has no name")
    return tuple(tools)


def read_calls(value: Any) -> tuple[Call, ...]:
    """Calls of an answer in ShareGPT's form: `{"name": ..., "arguments": ...}` or a list of them.

    Raises:
      RowError: if it is not that, or not JSON.

    Example:
      >>> read_calls('{"name": "weather", "arguments": {"city": "Paris"}}')
      (Call(name='weather', arguments='{"city": "Paris"}'),)
    """
    parsed = _parsed(value, "bad_function_call", "the function call")
    listed = parsed if isinstance(parsed, list) else [parsed]
    if not listed:
        raise RowError("bad_function_call", "the function call is an empty list")
    return tuple(_call(each) for each in listed)


def read_openai_calls(value: Any) -> tuple[Call, ...]:
    """Calls of an answer in OpenAI's form (`tool_calls`), the arguments as JSON text or parsed."""
    if value is None:
        return ()
    if not isinstance(value, (list, tuple)):
        raise RowError("bad_function_call", f"tool_calls are {_short(value)}, but must be a list")
    calls = []
    for each in value:
        inner = each.get("function", each) if isinstance(each, Mapping) else each
        if isinstance(inner, Mapping) and isinstance(inner.get("arguments"), str):
            arguments = _parsed(inner["arguments"], "bad_function_call", "arguments")
            inner = {**inner, "arguments": arguments}
        calls.append(_call(inner))
    return tuple(calls)


def write_calls(form: str, calls: Sequence[Call]) -> str:
    r"""Calls as text, one below the other.

    Args:
      form: how one is written; it holds `{name}` and `{arguments}`, or `{call}`, both as JSON.
      calls: the calls.

    Example:
      >>> write_calls("Action: {name}\nAction Input: {arguments}", [Call("f", '{"x": 1}')])
      'Action: f\nAction Input: {"x": 1}'
    """
    written = []
    for name, arguments in calls:
        both = f'{{"name": {_json(name)}, "arguments": {arguments}}}'
        if "{call}" in form:
            before, _, after = form.partition("{call}")
            written.append(f"{before}{both}{after}")
        else:
            before, _, rest = form.partition("{name}")
            between, _, after = rest.partition("{arguments}")
            written.append(f"{before}{name}{between}{arguments}{after}")
    return "\n".join(written)


def write_tools(kind: str, tools: Sequence[Tool]) -> str:
    """Tool definitions as the text that follows the system text.

    Args:
      kind: `"default"` (LLaMA-Factory's ReAct text) or `"qwen"` (JSON lines in `<tools>`).
      tools: the definitions; none give no text.

    Raises:
      ValueError: for another kind.

    Source:
      MindSpeed-LLM v2.1.0, tool format `default`; Qwen 2.5's and 3's own chat template.
    """
    if not tools:
        return ""
    if kind not in WRITERS:
        raise ValueError(
            f"the template's tool format {kind!r} is not known; known are "
            f"{', '.join(map(repr, WRITERS))}: give the template another by "
            "attrs.evolve(template, tools=...), or use the tokenizer's own with hf_template(path)"
        )
    return WRITERS[kind](tools)


def _default(tools: Sequence[Tool]) -> str:
    """Every tool with its parameters, then how to call one."""
    blocks = [
        f"> Tool Name: {tool['name']}\nTool Description: {tool.get('description', '')}\n"
        f"Tool Args:\n{_parameters(tool)}\n"
        for tool in tools
    ]
    names = ", ".join(tool["name"] for tool in tools)
    return (
        f"You have access to the following tools:\n{''.join(blocks)}"
        "Use the following format if using a tool:\n```\n"
        f"Action: tool name (one of [{names}]).\n"
        "Action Input: the input to the tool, in a JSON format representing the kwargs "
        '(e.g. ```{"input": "hello world", "num_beams": 5}```).\n```\n'
    )


def _parameters(tool: Tool) -> str:
    """A line for every parameter of a tool."""
    schema = tool.get("parameters") or {}
    try:
        return "".join(
            _parameter(name, parameter, name in schema.get("required", ()))
            for name, parameter in schema.get("properties", {}).items()
        )
    except (AttributeError, TypeError):
        seen = f"tool {tool['name']!r} has the parameters {_short(schema)}"
        raise RowError("unknown_tools", f"{seen}, but they must be a JSON schema") from None


def _parameter(name: str, parameter: Mapping[str, Any], required: bool) -> str:
    allowed = ", ".join(v if isinstance(v, str) else _json(v) for v in parameter.get("enum") or ())
    item = (parameter.get("items") or {}).get("type", "")
    return (
        f"  - {name} ({parameter.get('type', '')}{', required' if required else ''}): "
        f"{parameter.get('description', '')}"
        f"{f', should be one of [{allowed}]' if allowed else ''}"
        f"{f', where each item should be {item}' if parameter.get('items') else ''}\n"
    )


def _qwen(tools: Sequence[Tool]) -> str:
    """Every tool as a line of JSON, then how to call one."""
    lines = "".join(f"\n{_json({'type': 'function', 'function': tool})}" for tool in tools)
    return (
        "\n\n# Tools\n\nYou may call one or more functions to assist with the user query.\n\n"
        "You are provided with function signatures within <tools></tools> XML tags:\n"
        f"<tools>{lines}\n</tools>\n\n"
        "For each function call, return a json object with function name and arguments within "
        "<tool_call></tool_call> XML tags:\n<tool_call>\n"
        '{"name": <function-name>, "arguments": <args-json-object>}\n</tool_call>'
    )


WRITERS: Mapping[str, Callable[[Sequence[Tool]], str]] = {"default": _default, "qwen": _qwen}


def _call(each: Any) -> Call:
    named = isinstance(each, Mapping) and isinstance(each.get("name"), str)
    if not named or "arguments" not in each:
        raise RowError(
            "bad_function_call",
            f'a function call is {_short(each)}, but must be {{"name": ..., "arguments": ...}}',
        )
    return Call(each["name"], _json(each["arguments"]))


def _parsed(value: Any, reason: str, what: str) -> Any:
    """JSON text parsed; what is no text is taken as parsed."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError) as error:
        seen = f"{what} {_short(value)} cannot be read as JSON: {error}"
        raise RowError(reason, seen) from None


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _short(value: Any) -> str:
    """A value as an error quotes it."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
