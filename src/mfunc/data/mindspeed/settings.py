"""The flags of MindSpeed-LLM's `preprocess_data.py` as one frozen value, checked.

Beside them tables: which handlers there are, which prompt types, which flags change nothing.
Where upstream passes over something without a word (an unknown handler, a flag that the handler
does not read), this refuses it by name.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import attrs

from mfunc.data.check import choice, flag, integer, nearest
from mfunc.data.dialogue.templates import TEMPLATES
from mfunc.data.mindspeed.rules import check_neat_pack


class Handler(NamedTuple):
    """What a handler makes of rows, and what these look like."""

    makes: str  # "instruction", "pairwise", "general", "text", "alpaca_text"
    style: str = ""

    @property
    def templated(self) -> bool:
        """Whether it needs a prompt type."""
        return self.makes in ("instruction", "pairwise")


HANDLERS = {
    "AlpacaStyleInstructionHandler": Handler("instruction", "alpaca"),
    "SharegptStyleInstructionHandler": Handler("instruction", "sharegpt"),
    "OpenAIInstructionHandler": Handler("instruction", "openai"),  # later than v2.1.0
    "LlamaFactoryInstructionHandler": Handler("instruction", "dataset_info"),  # works since then
    "AlpacaStylePairwiseHandler": Handler("pairwise", "alpaca"),
    "SharegptStylePairwiseHandler": Handler("pairwise", "sharegpt"),
    "GeneralInstructionHandler": Handler("general"),
    "GeneralPretrainHandler": Handler("text"),
    "AlpacaPretrainHandler": Handler("alpaca_text"),
}
_REINFORCE = "prompts for reinforcement learning; write them with chat(prompt_only=True)"
_OTHER_ROWS = "turn its rows into Alpaca's or ShareGPT's"
OTHER_HANDLERS = {
    "BelleMultiTurnInstructionHandler": "use `mfunc data convert`, or chat(style='belle')",
    "MOSSMultiTurnHandler": _OTHER_ROWS,
    "MOSSInstructionHandler": _OTHER_ROWS,
    "LeetcodePythonInstructionHandler": _OTHER_ROWS,
    "StackOverflowPythonPretrainHandler": "write the text into a column for GeneralPretrainHandler",
    "SharegptStylePretrainHandler": "no output of it is known to be held to",
    "HunyuanInstructionHandler": "use chat(template=hf_template(folder)), the tokenizer's own",
    "PPOAlpacaStyleInstructionHandler": _REINFORCE,
    "R1AlpacaStyleInstructionHandler": _REINFORCE,
    "R1SharegptStyleInstructionHandler": _REINFORCE,
    "AlpacaStyleProcessRewardHandler": "rewards of steps are not ours",
}

# Of the version after v2.1.0, held to outputs of the real program.
LATER = ("qwen3", "qwen_lf")
_UNPROVEN = ("minicpm3", "plm", "glm4_moe", "magistral", "bailing_mini", "gpt_oss", "deepseek4")
PROMPT_TYPES = tuple(name for name in TEMPLATES if name not in (*_UNPROVEN, "vicuna"))
# What a flag is about that changes nothing in the files.
NO_EFFECT = {
    "workers": "processes", "log_interval": "messages", "overwrite_cache": "its cache",
    "cache_dir": "its cache", "keep_newlines": "sentences", "script_data_dir": "scripts",
    "make_vocab_size_divisible_by": "the model", "pad_vocab_size_to": "the model",
    "dataset_impl": "reading", "datasets": "nothing", "seed": "interleaving",
    "tokenizer_model": "other tokenizers", "vocab_file": "other tokenizers",
    "merge_file": "other tokenizers", "reward_tokens": "rewards", "placeholder_token": "rewards",
}  # fmt: skip
_HUB = "save the rows to files and give these to --input"
_ONE_BY_ONE = "write each set, then join them with --merge-group-keys"
REFUSED = {
    "streaming": "leave it out: files are read in chunks anyway",
    "hf_datasets_params": _HUB,
    "split_sentences": "split the texts before, one row a sentence",
    "tokenizer_not_use_fast": "only the fast form (tokenizer.json) is read; leave it out",
    "prompt_type_path": "the templates are those of v2.1.0; leave it out if yours are too, "
    "else write a Template and use chat(template=...)",
    "dataset_additional_keys": "its handlers are not ours",
    "mix_strategy": "sets are joined one behind the other; leave it out",
    "interleave_probs": _ONE_BY_ONE,
    "data_obfuscation": "it is not ours",
    "obf_seed_content": "it is not ours",
    "reasoning_effort": "its template, deepseek4, is not held to outputs of the real program",
    "drop_thinking": "its template, deepseek4, is not held to outputs of the real program",
}


@attrs.frozen(kw_only=True)
class Settings:
    """The flags, under their names; checked together when built.

    Args:
      input: `--input`, a file, or a folder of files of one format. For
        `LlamaFactoryInstructionHandler` names in `{dataset_dir}/dataset_info.json`, with commas.
      output_prefix: `--output-prefix`, to which names of files are added as upstream does.
      handler_name: `--handler-name`, a key of `HANDLERS`.
      tokenizer_name_or_path: `--tokenizer-name-or-path`, a folder with a `tokenizer.json`.
      tokenizer_type: `--tokenizer-type`.
      prompt_type: `--prompt-type`, one of `PROMPT_TYPES`.
      map_keys: `--map-keys`, JSON text or a mapping.
      seq_length: `--seq-length`; without it nothing is too long.
      pack: `--pack`.
      neat_pack: `--neat-pack`.
      append_eod: `--append-eod`.
      json_keys: `--json-keys`, the columns of `GeneralPretrainHandler`.
      pad_to_multiple_of: `--pad-to-multiple-of`.
      enable_thinking: `--enable-thinking`, `"true"`, `"false"` or `"none"`; for `qwen3`.
      n_subs: `--n-subs`, of so many parts each is packed for itself (one more if they are not
        equal).
      dataset_dir: `--dataset-dir`, of `LlamaFactoryInstructionHandler`.
      max_samples: `--max-samples`, of `LlamaFactoryInstructionHandler`: most rows of each set.

    Raises:
      ValueError: naming the flag, for what upstream refuses, and for what it passes over.
    """

    input: str
    output_prefix: str
    handler_name: str
    tokenizer_name_or_path: str
    tokenizer_type: str = "PretrainedFromHF"
    prompt_type: str | None = None
    map_keys: Any = None
    seq_length: int | None = None
    pack: bool = False
    neat_pack: bool = False
    append_eod: bool = False
    json_keys: tuple[str, ...] = attrs.field(default=("text",), converter=tuple)
    pad_to_multiple_of: int = 1
    enable_thinking: str | None = None
    n_subs: int = 1
    dataset_dir: str | None = None
    max_samples: int | None = None

    def __attrs_post_init__(self) -> None:
        for name in ("pack", "neat_pack", "append_eod"):
            flag("mindspeed", f"--{name.replace('_', '-')}", getattr(self, name))
        check_neat_pack(neat_pack=self.neat_pack, pack=self.pack)
        for name in ("input", "output_prefix", "tokenizer_name_or_path"):
            if not getattr(self, name):
                raise ValueError(f"mindspeed: --{name.replace('_', '-')} is missing")
        _check_handler(self)
        _check_lengths(self)
        _check_template(self)

    @property
    def handler(self) -> Handler:
        """What `handler_name` means."""
        return HANDLERS[self.handler_name]


def _check_handler(s: Settings) -> None:
    if s.handler_name in OTHER_HANDLERS:
        raise ValueError(
            f"mindspeed: --handler-name {s.handler_name} is not supported: "
            f"{OTHER_HANDLERS[s.handler_name]}"
        )
    if s.handler_name not in HANDLERS:
        raise ValueError(
            f"mindspeed: unknown --handler-name {s.handler_name!r}"
            f"{nearest(s.handler_name, HANDLERS)}; there are {', '.join(HANDLERS)} (upstream would "
            "take GeneralPretrainHandler without a word)"
        )
    if s.tokenizer_type != "PretrainedFromHF":
        raise ValueError(
            f"mindspeed: --tokenizer-type {s.tokenizer_type} is not supported: only "
            "PretrainedFromHF, a folder with tokenizer.json; for a SentencePiece model use "
            "`mfunc data pack --tokenizer` without --compat"
        )
    from_info = s.handler.style == "dataset_info"
    for name in ("dataset_dir", "max_samples"):
        if (getattr(s, name) is not None) > from_info:
            raise ValueError(
                f"mindspeed: --{name.replace('_', '-')} is read by LlamaFactoryInstructionHandler "
                f"only, not by {s.handler_name}; leave it out"
            )
    if from_info and not s.dataset_dir:
        raise ValueError(
            "mindspeed: LlamaFactoryInstructionHandler needs --dataset-dir, the folder of "
            "dataset_info.json; for a file use AlpacaStyle- or SharegptStyleInstructionHandler"
        )
    if s.map_keys is not None and (from_info or not s.handler.style):
        raise ValueError(f"mindspeed: --map-keys is not read by {s.handler_name}; leave it out")


def _check_lengths(s: Settings) -> None:
    integer("mindspeed", "--n-subs", s.n_subs, least=1)
    if s.seq_length is not None:
        integer("mindspeed", "--seq-length", s.seq_length, least=2)
    if s.max_samples is not None:
        integer("mindspeed", "--max-samples", s.max_samples, least=1)
    if s.pack and s.seq_length is None:
        raise ValueError("mindspeed: --pack needs --seq-length, the length of a row")
    if s.pack and s.handler.makes not in ("instruction", "general"):
        raise ValueError(f"mindspeed: {s.handler_name} does not pack; leave out --pack")
    if integer("mindspeed", "--pad-to-multiple-of", s.pad_to_multiple_of, least=1) > 1:
        raise ValueError(
            f"mindspeed: --pad-to-multiple-of {s.pad_to_multiple_of} is refused: upstream pads "
            "with an id outside the vocabulary; use pack(segment_multiple=...)"
        )
    if len(s.json_keys) != len(set(s.json_keys)) or not s.json_keys:
        raise ValueError(f"mindspeed: --json-keys must be different names, got {s.json_keys}")
    if len(s.json_keys) > 1 and s.seq_length is not None and s.handler.makes == "text":
        raise ValueError(
            "mindspeed: --seq-length with several --json-keys drops texts for the length of "
            "others; run it once a key"
        )


def _check_template(s: Settings) -> None:
    if s.handler.templated != (s.prompt_type is not None):
        needs = "needs" if s.handler.templated else "has a text of its own and takes no"
        raise ValueError(f"mindspeed: {s.handler_name} {needs} --prompt-type")
    if s.prompt_type in _UNPROVEN:
        raise ValueError(
            f"mindspeed: --prompt-type {s.prompt_type} is not in v2.1.0, and not held to outputs "
            "of the real program; use `mfunc data pack --prompt-type` without --compat"
        )
    if s.prompt_type is not None:
        choice("mindspeed", "--prompt-type", s.prompt_type, PROMPT_TYPES)
    if s.enable_thinking is not None:
        choice("mindspeed", "--enable-thinking", s.enable_thinking, ("true", "false", "none"))
        if s.prompt_type is None or not TEMPLATES[s.prompt_type].thought:
            raise ValueError(
                f"mindspeed: --enable-thinking changes nothing with --prompt-type {s.prompt_type}, "
                "which writes no thoughts; leave it out"
            )
