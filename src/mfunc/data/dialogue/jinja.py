"""Jinja as Hugging Face's `transformers` sets it up, in a sandbox."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from mfunc.data.dialogue.messages import RowError

# Around the blocks of `{% generation %}`; no characters, so no text has them.
OPEN, CLOSE = "\ufdd1", "\ufdd2"
# What expressions of a template may raise, beside Jinja's own errors.
REFUSALS = (TypeError, ValueError, ArithmeticError, LookupError)


def render_jinja(source: str, given: Mapping[str, Any], **variables: Any) -> str:
    """The text that a chat template makes, its generation blocks between OPEN and CLOSE.

    Raises:
      RowError: with the template's own words, if it refuses.
    """
    template = compiled(source)
    import jinja2

    try:
        return template.render(**given, documents=None, **variables)
    except (jinja2.TemplateError, *REFUSALS) as error:
        raise RowError("refused_by_template", f"the chat template refuses: {error}") from None


@functools.lru_cache(maxsize=16)
def compiled(source: str) -> Any:
    """A template in the sandbox, with the settings, tests and filters of transformers.

    Raises:
      ImportError: without jinja2.
      ValueError: if it is no template.
    """
    try:
        import jinja2
    except ImportError as error:
        raise ImportError(
            "hf_template(...) needs the package jinja2: pip install 'mfunc[hf]'"
        ) from error
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=[_generation_tag(), "jinja2.ext.loopcontrols"],
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise
    try:
        return environment.from_string(source)
    except jinja2.TemplateError as error:
        raise ValueError(f"hf_template: not a Jinja template: {error}") from error


def _generation_tag() -> Any:
    """`{% generation %}`: its block as it is, with a mark at each end."""
    from jinja2 import nodes
    from jinja2.ext import Extension

    class Generation(Extension):
        tags = {"generation"}  # noqa: RUF012 - jinja2 declares it so

        def parse(self, parser: Any) -> Any:
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            call = self.call_method("marked")
            return nodes.CallBlock(call, [], [], body).set_lineno(line)

        def marked(self, caller: Callable[[], str]) -> str:
            return f"{OPEN}{caller()}{CLOSE}"

    return Generation


def jinja_tags(source: str) -> set[str]:
    """The tags that a template uses."""
    return set(re.findall(r"\{%[-+]?\s*(\w+)", source))


def _to_json(value: Any, ensure_ascii: bool = False, **settings: Any) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, **settings)


def _raise(message: str) -> None:
    import jinja2

    raise jinja2.TemplateError(message)
