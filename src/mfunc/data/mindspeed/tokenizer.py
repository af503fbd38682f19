"""A tokenizer and a template as MindSpeed-LLM uses them.

Special tokens are read wherever a text spells them, the text of a slot of a template is encoded
whole, and eos is the template's.
"""

from __future__ import annotations

import os
from pathlib import Path

import attrs

from mfunc.data.dialogue.template import Template
from mfunc.data.dialogue.templates import TEMPLATES
from mfunc.data.tokens.hf_tokenizers import HFTokenizer, hf_tokenizer
from mfunc.data.tokens.tokenizer_files import ROLES, json_of, token_text

# Their special tokens are looked up by name; those of all other templates are spelt in its texts.
BY_NAME = ("chatglm2", "chatglm3", "chatglm3_system")


def folder_tokenizer(folder: str | os.PathLike[str], *, prompt_type: str | None) -> HFTokenizer:
    """Load a tokenizer's folder, with eos and pad as upstream sets them for a prompt type.

    Args:
      folder: with `tokenizer.json`, and `tokenizer_config.json` or `special_tokens_map.json`.
      prompt_type: a name in `TEMPLATES`. Its eos is used, and for pad, if the folder names none.

    Returns:
      A tokenizer that reads special tokens wherever a text spells them.

    Raises:
      FileNotFoundError: if there is no `tokenizer.json`.
      ValueError: if the tokenizer lacks a token of the template: upstream would give it an id
        outside the model's vocabulary, or spell it in letters.

    Source:
      MindSpeed-LLM v2.1.0 `fix_model_tokenizer` and `PretrainedFromHF`.
    """
    folder = Path(folder)
    path = folder / "tokenizer.json"
    if not path.is_file():
        slow = "; tokenizer.model is there, for which use `mfunc data pack` without --compat"
        raise FileNotFoundError(
            f"mindspeed: there is no {path}{slow * (folder / 'tokenizer.model').is_file()}"
        )
    config = json_of(folder / "tokenizer_config.json")
    told = {**json_of(folder / "special_tokens_map.json"), **config}
    bos, eos, pad = (token_text(told.get(f"{role}_token")) or None for role in ROLES)
    if prompt_type is not None:
        form = TEMPLATES[prompt_type]
        eos = (form.eos if form.eos != "eos" else eos) or "<|endoftext|>"
        pad = pad or eos
    made = hf_tokenizer(path, bos=bos, eos=eos, pad=pad, parse_special=True)
    names = TEMPLATES[prompt_type].special if prompt_type is not None else ()
    ids = {token["content"]: int(i) for i, token in config.get("added_tokens_decoder", {}).items()}
    for name in (*names, *ids):
        try:
            found = made.token_id(name)
        except ValueError as error:
            raise ValueError(
                f"{error}; is it the tokenizer for --prompt-type {prompt_type}?"
            ) from None
        if ids.get(name, found) != found:
            raise ValueError(
                f"mindspeed: {name!r} is {found} in {path}, but {ids[name]} in its "
                "tokenizer_config.json"
            )
    return made


def affixes(tokenizer: HFTokenizer) -> tuple[list[int], list[int]]:
    """Ids before and behind a text that is encoded whole: `tokenizer(text)` of transformers.

    Raises:
      ValueError: if the folder's files contradict one another.
    """
    before, behind = tokenizer.affixes
    config = json_of(Path(tokenizer.path).with_name("tokenizer_config.json"))
    for name, ids in (("add_bos_token", before), ("add_eos_token", behind)):
        if config.get(name, bool(ids)) != bool(ids):
            raise ValueError(
                f"mindspeed: tokenizer_config.json has {name}={config[name]}, but tokenizer.json "
                f"adds {ids}; which upstream takes depends on its version: save it again"
            )
    return before, behind


def slots(prompt_type: str, *, bos: bool = True) -> Template:
    """A template whose special tokens are spelt in its texts, which are encoded whole, as upstream.

    Args:
      prompt_type: its name.
      bos: whether the tokenizer has one; what it lacks upstream leaves out.
    """
    form = TEMPLATES[prompt_type]
    special = form.special if prompt_type in BY_NAME else ()
    texts = {} if bos else {n: getattr(form, n).replace("{bos}", "") for n in ("prefix", "user")}
    return attrs.evolve(form, special=special, **texts)
