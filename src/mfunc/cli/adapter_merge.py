r"""Multiply a LoRA adapter into its model, and write a model that needs no adapter.

  mfunc adapter merge --model llama --adapter runs/belle/adapter --output llama-belle

The adapter is a folder in PEFT's layout: adapter_config.json and adapter_model.safetensors. The
model is a folder in Hugging Face's layout or a .gguf file; the result is such a folder.
"""

from __future__ import annotations

import argparse


def options(parser: argparse.ArgumentParser) -> None:
    """The flags."""
    add = parser.add_argument
    add("--model", required=True, metavar="PATH", help="the model that the adapter was trained for")
    add("--adapter", required=True, metavar="FOLDER", help="the adapter, in PEFT's layout")
    add("--output", required=True, metavar="FOLDER", help="where the merged model is written")


def run(args: argparse.Namespace) -> int:
    """Do it."""
    from mfunc.adapt import lora, peft
    from mfunc.auto import from_pretrained, names_of, save_pretrained

    pretrained = from_pretrained(args.model)
    adapter, config = peft.load(args.adapter, pretrained.params, names_of(pretrained))
    merged = lora.merge(pretrained.params, adapter, config)
    save_pretrained(args.output, pretrained._replace(params=merged))
    print(f"{args.output}: {args.model} with the adapter {args.adapter} in its weights")
    return 0
