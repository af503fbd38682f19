"""What padding costs: the same model and rows in seven layouts, measured.

    python examples/padding.py --data alpaca.json --tokenizer tokenizer.model --seq-length 2048

The same as `mfunc bench padding`; every flag is explained there (`--help`). From a program:

    from mfunc import comparison

    settings = comparison.Settings(data="alpaca.json", tokenizer="tokenizer.model")
    found = comparison.compare(settings, "runs/padding")
"""

from __future__ import annotations

import sys

from mfunc.cli import main

if __name__ == "__main__":
    sys.exit(main(["bench", "padding", *sys.argv[1:]]))
