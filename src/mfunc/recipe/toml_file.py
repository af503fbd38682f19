"""A recipe as a TOML file: read strictly, changed by `key=value`, shown with every default.

recipe = read("run.toml", ["train.steps=10"])
print(show(recipe))
"""

from __future__ import annotations

import difflib
import inspect
import json
import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import attrs

from mfunc.recipe.choices import CHOICES
from mfunc.recipe.settings import Chosen, Recipe, check_kind

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def read(path: str | os.PathLike[str], changes: Iterable[str] = ()) -> Recipe:
    r"""Read a recipe.

    Args:
      path: a TOML file.
      changes: `"section.key=value"`, which stand above the file; a value is TOML, or plain text.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: it is no TOML; a section or a key is unknown (the nearest one is named), or a
        value is not what its key takes.

    Example:
      >>> _ = Path("run.toml").write_text("[train]\nbatch_size = 4\n")
      >>> read("run.toml", ["train.steps=10"]).train.steps
      10
    """
    file = Path(path)
    if not file.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        table = tomllib.loads(file.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not TOML ({error})") from error
    return build(table, changes, where=str(path))


def build(table: Mapping[str, Any], changes: Iterable[str] = (), where: str = "recipe") -> Recipe:
    """Make a recipe of the tables of a TOML file; see `read`.

    Example:
      >>> build({"optimizer": {"name": "sgd", "learning_rate": 0.1}}).optimizer.name
      'sgd'
    """
    table = {key: dict(value) if isinstance(value, dict) else value for key, value in table.items()}
    for change in changes:
        _change(table, change)
    top = {field.name: field for field in attrs.fields(Recipe)}
    given: dict[str, Any] = {}
    for key, value in {**{section: {} for section in CHOICES}, **table}.items():
        _known(key, top, where)
        default = _default(top[key])
        if not attrs.has(type(default)):
            given[key] = value
            continue
        if not isinstance(value, dict):
            raise ValueError(f"{where}: {key}={value!r}; it is a section, [{key}]")
        if isinstance(default, Chosen):
            given[key] = _chosen(key, default.name, value, where)
        else:
            given[key] = _section(type(default), value, f"{where}: {key}.")
    return _section(Recipe, given, f"{where}: ")


def _change(table: dict[str, Any], change: str) -> None:
    """Put one `key=value` into the tables."""
    key, equals, text = change.partition("=")
    *sections, name = key.strip().split(".")
    if not equals or not name or len(sections) > 2:
        raise ValueError(f"{change!r} changes nothing; write section.key=value")
    for section in sections:
        table = table.setdefault(section, {})
        if not isinstance(table, dict):
            raise ValueError(f"{change!r}: {section} is not a section")
    table[name] = _value(text.strip())


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _known(key: str, names: Iterable[str], where: str) -> None:
    """Refuse a key that does not exist."""
    names = list(names)
    if key not in names:
        near = difflib.get_close_matches(key, names, 1, 0.5)
        hint = f"; did you mean {near[0]}?" if near else f"; known are {', '.join(names)}"
        raise ValueError(f"{where}: unknown key {key}{hint}")


def _section(kind: type, table: Mapping[str, Any], where: str) -> Any:
    """Make a section of its table."""
    for key in table:
        _known(key, [field.name for field in attrs.fields(kind)], where.rstrip(". :"))
    try:
        return kind(**table)
    except ValueError as error:
        raise ValueError(f"{where}{error}") from error


def _chosen(section: str, default: str, table: Mapping[str, Any], where: str) -> Chosen:
    """Make a section whose `name` says which settings it takes."""
    settings = dict(table)
    name = settings.pop("name", default)
    where = f"{where}: {section}"
    if name not in CHOICES[section]:
        known = ", ".join(CHOICES[section])
        near = difflib.get_close_matches(str(name), list(CHOICES[section]), 1, 0.5)
        hint = f"did you mean {near[0]}?" if near else f"known are {known}"
        raise ValueError(f"{where}.name={name!r}; {hint}")
    takes = arguments(section, name)
    for key, value in settings.items():
        _known(key, ["name", *takes], f"{where}, {name}")
        wrong = _wrong_kind(value, takes[key])
        if wrong:
            raise ValueError(f"{where}.{key}={value!r}; {wrong}")
    full = {**{key: value for key, value in takes.items() if not _unset(value)}, **settings}
    missing = [key for key in takes if takes[key] is inspect.Parameter.empty and key not in full]
    if missing:
        raise ValueError(f"{where}, {name}: {missing[0]} is missing; it has no default")
    return Chosen(name, {key: tuple(v) if isinstance(v, list) else v for key, v in full.items()})


# What the run itself gives, or what is no plain data.
HIDDEN = ("peak", "total_steps", "matrices", "adam_learning_rate", "mask")


def arguments(section: str, name: str) -> dict[str, Any]:
    """Return the settings that a named function takes, with their defaults.

    Example:
      >>> arguments("optimizer", "sgd")["learning_rate"]
      0.0001
    """
    fn, defaults = CHOICES[section][name]
    taken = inspect.signature(fn).parameters if fn else {}
    found = {key: parameter.default for key, parameter in taken.items() if key not in HIDDEN}
    return {**found, **defaults}


def _wrong_kind(value: Any, default: Any) -> str:
    """Say what is wrong with a value, seen from the default; where that is none all is right."""
    return "" if _unset(default) else check_kind(value, type(default))


def _unset(value: Any) -> bool:
    return value is None or value is inspect.Parameter.empty


def show(recipe: Recipe) -> str:
    """Write a recipe as TOML, with every default and what it is for.

    Laws:
      What is shown of a recipe that was read reads as the same recipe.

    Example:
      >>> print(show(Recipe()).splitlines()[0])
      name = "run"  # what it writes is in output/name
    """
    lines, sections = [], []
    for field in attrs.fields(Recipe):
        value = getattr(recipe, field.name)
        if isinstance(value, Chosen):
            sections += ["", f"[{field.name}]", *_chosen_lines(field.name, value)]
        elif attrs.has(type(value)):
            sections += ["", f"[{field.name}]", *_lines(value)]
        else:
            lines.append(_line(field.name, value, field.metadata["about"]))
    return "\n".join([*lines, *sections, ""])


def _lines(section: Any) -> list[str]:
    return [
        _line(field.name, getattr(section, field.name), field.metadata["about"])
        for field in attrs.fields(type(section))
    ]


def _chosen_lines(section: str, chosen: Chosen) -> list[str]:
    values = {**arguments(section, chosen.name), **chosen.settings}
    about = f"one of {', '.join(CHOICES[section])}"
    return [
        _line("name", chosen.name, about),
        *(_line(key, value) for key, value in values.items()),
    ]


def _line(key: str, value: Any, about: str = "") -> str:
    """One line of TOML, which knows no nothing: what is not set is a comment."""
    text = f"# {key} is not set" if _unset(value) else f"{key} = {_toml(value)}"
    return f"{text}  # {about}" if about else text


def _toml(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{json.dumps(k)} = {_toml(v)}" for k, v in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_toml, value)) + "]"
    # A text of JSON is one of TOML, but for DEL, which must be escaped there.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _default(field: Any) -> Any:
    """The default of a field, made anew where it is made by a function."""
    default = field.default
    return default.factory() if isinstance(default, attrs.Factory) else default  # type: ignore[arg-type]
