from __future__ import annotations

import sys

import pytest

from mfunc.data.dialogue.jinja import CLOSE, OPEN, compiled, jinja_tags, render_jinja
from mfunc.data.dialogue.messages import RowError


def write(source, **given):
    return render_jinja(source, given, messages=[])


def test_blocks_leave_no_lines_behind():
    assert write("a\n  {% if true %}\nb\n  {% endif %}\nc") == "a\nb\nc"


def test_json_keeps_its_characters():
    assert write("{{ x | tojson }}", x={"a": "ü<"}) == '{"a": "ü<"}'
    assert write("{{ x | tojson(indent=1) }}", x=[1]) == "[\n 1\n]"


def test_loop_controls():
    assert (
        write("{% for i in [1, 2, 3] %}{% if i == 2 %}{% break %}{% endif %}{{ i }}{% endfor %}")
        == "1"
    )


def test_generation_blocks_are_marked():
    source = "a{% generation %}b{% endgeneration %}c"
    assert write(source) == f"a{OPEN}b{CLOSE}c"
    assert "generation" in jinja_tags(source)
    assert "generation" in jinja_tags("{%- generation -%}{%- endgeneration -%}")
    assert "generation" not in jinja_tags("{{ generation }} endgeneration")


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("{{ raise_exception('no system role') }}", "the chat template refuses: no system role"),
        ("{{ ''.__class__.__mro__ }}", "refuses: access to attribute '__class__'"),
        ("{{ x.append(1) }}", "refuses: access to attribute 'append'"),
        ("{{ none + 'a' }}", "refuses: unsupported operand"),
        ("{{ nothing.at.all }}", "refuses: 'nothing' is undefined"),
        ("{% for i in range(10 ** 9) %}{% endfor %}", "refuses: Range too big"),
    ],
)
def test_what_a_template_may_not_do(source, text):
    with pytest.raises(RowError, match=text) as caught:
        write(source, x=[])
    assert caught.value.reason == "refused_by_template"


def test_no_template():
    with pytest.raises(ValueError, match="hf_template: not a Jinja template: unexpected '}'"):
        compiled("{{ } }}")


def test_without_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(ImportError, match=r"needs the package jinja2: pip install 'mfunc\[hf\]'"):
        compiled("never seen before")
