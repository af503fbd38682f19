"""TRL's way from a file to packed rows: datasets' batched map in two processes, then pack_dataset.

    python files_trl.py FILE TOKENIZER SEQ_LENGTH

Needs trl, datasets, transformers and sentencepiece, which the project does not list.
"""

import sys
import tempfile

import datasets
from transformers import LlamaTokenizer
from trl.data_utils import pack_dataset

PROMPT = (
    "Below is an instruction that describes a task. Write a response that appropriately completes "
    "the request.\n\n### Instruction:\n{}\n\n### Response:\n"
)


def tokenized(rows: dict, tokenizer: LlamaTokenizer) -> dict:
    """Ids of prompts and answers, and which of them are answers."""
    asked = zip(rows["instruction"], rows["input"], strict=True)
    prompts = [PROMPT.format("\n".join(part for part in pair if part)) for pair in asked]
    first = tokenizer(prompts, add_special_tokens=False)["input_ids"]
    second = tokenizer(rows["output"], add_special_tokens=False)["input_ids"]
    pairs = [(a, [*b, tokenizer.eos_token_id]) for a, b in zip(first, second, strict=True)]
    return {
        "input_ids": [a + b for a, b in pairs],
        "completion_mask": [[0] * len(a) + [1] * len(b) for a, b in pairs],
    }


def main() -> None:
    """Do it, and print how many tokens there were."""
    path, model, size = sys.argv[1], sys.argv[2], int(sys.argv[3])
    tokenizer = LlamaTokenizer.from_pretrained(model.rpartition("/")[0])
    with tempfile.TemporaryDirectory() as cache:
        rows = datasets.load_dataset("json", data_files=path, split="train", cache_dir=cache)
        made = rows.map(
            tokenized, batched=True, num_proc=2, remove_columns=rows.column_names,
            fn_kwargs={"tokenizer": tokenizer},
        )  # fmt: skip
        packed = pack_dataset(made, size, "bfd")
        packed.save_to_disk(f"{cache}/packed")
        tokens = sum(len(row) for row in made.with_format("numpy")["input_ids"])
    print(f"tokens {tokens}")


if __name__ == "__main__":
    main()
