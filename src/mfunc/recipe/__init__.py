"""A run described by a file, and run.

recipe = read("run.toml", ["train.steps=10"])
train(recipe)
evaluate(recipe)
"""

from mfunc.recipe.evaluation import evaluate
from mfunc.recipe.settings import Recipe
from mfunc.recipe.toml_file import build, read, show
from mfunc.recipe.training import train

__all__ = ["Recipe", "build", "evaluate", "read", "show", "train"]
