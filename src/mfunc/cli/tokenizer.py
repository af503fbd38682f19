"""The tokenizer that a path means."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

MODELS = ("tokenizer.model", "spiece.model", "tokenizer.json")
ROLES = ("bos", "eos", "pad")


def load(path: str) -> Any:
    """A SentencePiece model, a `tokenizer.json`, or a folder that holds one.

    Of a `tokenizer.json` the `tokenizer_config.json` beside it says what bos, eos and pad are.

    Raises:
      FileNotFoundError: if there is neither.
      ValueError: if it is no tokenizer.
    """
    import mfunc.data as md

    file = Path(path)
    if file.is_dir():
        held = [file / name for name in MODELS if (file / name).is_file()]
        if not held:
            raise FileNotFoundError(f"--tokenizer: {path} has none of {', '.join(MODELS)}")
        file = held[0]
    if file.suffix != ".json":
        return md.sentencepiece(file)
    return md.hf_tokenizer(file, **_roles(file.with_name("tokenizer_config.json")))


def _roles(path: Path) -> dict[str, str]:
    """Names of the special tokens, in whichever of the two ways they are written."""
    config = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    found = {role: config.get(f"{role}_token") for role in ROLES}
    named = {r: t.get("content") if isinstance(t, dict) else t for r, t in found.items()}
    return {role: text for role, text in named.items() if text}
