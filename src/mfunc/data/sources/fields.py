"""The field mapping of MindSpeed-LLM, `--map-keys`, in our names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from mfunc.data.check import choice, nearest
from mfunc.data.sources.json_rows import parse

# Their key of a field: our name of the column.
STYLES = {
    "alpaca": {
        "prompt": "instruction",
        "query": "input",
        "response": "output",
        "history": "history",
        "system": "system",
        "chosen": "chosen",
        "rejected": "rejected",
    },
    "sharegpt": {
        "messages": "conversations",
        "system": "system",
        "tools": "tools",
        "chosen": "chosen",
        "rejected": "rejected",
    },
}
TAGS = (
    "role_tag",
    "content_tag",
    "user_tag",
    "assistant_tag",
    "observation_tag",
    "function_tag",
    "system_tag",
)


class MapKeys(NamedTuple):
    """Columns and the fields they are in; how messages name roles and text (None: as usual)."""

    fields: dict[str, str]
    tags: dict[str, str] | None = None


def map_keys(keys: str | Mapping[str, Any], *, style: str) -> MapKeys:
    """Read the JSON of MindSpeed-LLM's `--map-keys`.

        {"prompt": "question", "history": "turns"}
        MapKeys(fields={"instruction": "question", "history": "turns"}, tags=None)

    `fields` is meant for `chat(fields=...)`, which takes the columns that are not named under
    their own names: upstream passes over a `history` or `system` that is not named.
    `read(fields=...)` accepts it too, and takes the named fields only.

    Args:
      keys: JSON text or a mapping. Style `"alpaca"`: prompt, query, response, history, system,
        chosen, rejected. Style `"sharegpt"`: messages, system, tools, chosen, rejected, and `tags`,
        an object of role_tag, content_tag, user_tag, assistant_tag, observation_tag, function_tag,
        system_tag.
      style: whose keys these are.

    Returns:
      `fields`, from our column names to the names in the files, and `tags` as they were given.

    Raises:
      ValueError: for text that is not JSON, an unknown key, or a value that is not a name.

    Example:
      >>> map_keys('{"messages": "chat", "tags": {"role_tag": "role"}}', style="sharegpt")
      MapKeys(fields={'conversations': 'chat'}, tags={'role_tag': 'role'})

    Source:
      MindSpeed-LLM v2.1.0 `--map-keys`.
    """
    known = STYLES[choice("map_keys", "style", style, STYLES)]
    try:
        given = parse(keys) if isinstance(keys, str) else keys
    except ValueError as error:
        raise ValueError(f"map_keys: {keys!r} is not JSON ({error})") from error
    if not isinstance(given, Mapping):
        raise ValueError(f"map_keys: needs an object of keys and field names, got {given!r}")
    named = dict(given)
    tags = named.pop("tags", None) if style == "sharegpt" else None
    keys_of_style = [*known, "tags"] if style == "sharegpt" else known
    fields = {known[key]: field for key, field in _checked(named, keys_of_style).items()}
    return MapKeys(fields, None if tags is None else _checked(tags, TAGS))


def _checked(names: Any, known: Iterable[str]) -> dict[str, str]:
    """The names, if every key is known and every name a text."""
    if not isinstance(names, Mapping):
        raise ValueError(f"map_keys: tags must be an object, got {names!r}")
    for key, name in names.items():
        if key not in known:
            raise ValueError(
                f"map_keys: unknown key {key!r}{nearest(key, known)}; keys are {', '.join(known)}"
            )
        if not isinstance(name, str) or not name:
            raise ValueError(
                f"map_keys: {key!r} must name a field, got {name!r}; leave out what is not there"
            )
    return dict(names)
