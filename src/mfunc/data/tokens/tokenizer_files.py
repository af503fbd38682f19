"""A tokenizer by the path that a user has at hand: a file of either kind, or a folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import attrs

from mfunc.data.storage.pair import PathLike
from mfunc.data.tokens.hf_tokenizers import HFTokenizer, hf_tokenizer
from mfunc.data.tokens.tokenizers import SentencePiece, sentencepiece

MODELS = ("tokenizer.model", "spiece.model", "sentencepiece.bpe.model")
ROLES = ("bos", "eos", "pad")


def load_tokenizer(
    path: PathLike, *, bos: str | None = None, eos: str | None = None, pad: str | None = None
) -> SentencePiece | HFTokenizer:
    """Load a SentencePiece model or a `tokenizer.json`, whichever it is, or a folder with one.

    A folder's SentencePiece model goes before its `tokenizer.json`: it is what the model was
    trained with, and conversions differ from it. `tokenizer_config.json` beside them names bos, eos
    and pad, if they are not named here.

    Args:
      path: the file or the folder.
      bos: name of the token that begins a text.
      eos: name of the token that ends it.
      pad: name of the token for padding.

    Returns:
      What `sentencepiece` or `hf_tokenizer` gives.

    Raises:
      FileNotFoundError: if there is no such path, or no tokenizer in the folder.
      ValueError: if it is of neither kind, or lacks a named token.
    """
    path = Path(path)
    given: dict[str, Any] = {"bos": bos, "eos": eos, "pad": pad}
    template = None
    if path.is_dir():
        given = {**_roles(path), **{role: name for role, name in given.items() if name is not None}}
        template = _template(path)
        found = [path / name for name in (*MODELS, "tokenizer.json") if (path / name).is_file()]
        if not found:
            raise FileNotFoundError(
                f"load_tokenizer: the folder {path} has none of {', '.join(MODELS)}, tokenizer.json"
            )
        path = found[0]
    if not path.is_file():
        raise FileNotFoundError(f"load_tokenizer: there is no file or folder {path}")
    with path.open("rb") as file:
        is_json = file.read(64).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{")
    if not is_json:
        return sentencepiece(path, **given)
    return attrs.evolve(hf_tokenizer(path, **given), chat_template=template)


def _template(folder: Path) -> str | None:
    """The folder's chat template, if it has a single one."""
    alone = folder / "chat_template.jinja"
    if alone.is_file():
        return alone.read_text(encoding="utf-8")
    found = json_of(folder / "tokenizer_config.json").get("chat_template")
    return found if isinstance(found, str) else None


def _roles(folder: Path) -> dict[str, str]:
    """Names of bos, eos and pad that the folder's configuration tells."""
    path = folder / "tokenizer_config.json"
    try:
        config = json_of(path)
        named = {role: token_text(config.get(f"{role}_token")) for role in ROLES}
    except (ValueError, AttributeError) as error:
        raise ValueError(f"load_tokenizer: {path} is not a JSON object: {error}") from error
    return {role: name for role, name in named.items() if isinstance(name, str) and name}


def json_of(path: Path) -> dict[str, Any]:
    """What one of the folder's files says; nothing where it is missing."""
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def token_text(token: Any) -> Any:
    """A token's text, which these files hold bare or in an object."""
    return token.get("content") if isinstance(token, dict) else token
