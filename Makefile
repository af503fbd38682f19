# Every target makes .venv on its first run, installs what it needs, and is instant the next time.
#
#   make install    the package and its optional parts
#   make demo       train a small language model, fine-tune it with LoRA, look at it before and after
#   make test       lint and every test but the slow ones; test-all runs those too
#   make lint       ruff and mypy
#   make bench      each script in bench/ prints its table
#   make clean      removes what the above left behind, except .venv
#
# Needs Python 3.11 (3.12 and 3.10 also do) with its venv module; PYTHON=... names another.

PYTHON ?= $(firstword $(foreach p,python3.11 python3.12 python3.10,\
  $(shell $(p) -c 'import ensurepip, venv' 2>/dev/null && echo $(p))))
BIN := .venv/bin
VENV := .venv/.made
INSTALLED := .venv/.installed
TESTABLE := .venv/.testable

.PHONY: install demo test test-all lint bench clean
.DELETE_ON_ERROR:

install: $(INSTALLED)

demo: $(INSTALLED)
	$(BIN)/python examples/finetune.py

test: lint
	$(BIN)/python -m pytest -n 2 -m "not slow"

test-all: lint
	$(BIN)/python -m pytest -n 2

lint: $(TESTABLE)
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: $(TESTABLE)
	@set -e; for script in $(wildcard bench/*.py); do echo "== $$script"; $(BIN)/python $$script; done

clean:
	rm -rf build dist runs rank_0 kernel_meta .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +

$(VENV):
	@test -n "$(PYTHON)" || { echo "no Python 3.11, 3.12 or 3.10 with venv was found; install one, or give PYTHON=..."; exit 1; }
	$(PYTHON) -m venv .venv
	@touch $@

$(INSTALLED): pyproject.toml | $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[arrow,hf,plot,zst]'
	@touch $@

$(TESTABLE): pyproject.toml | $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[test,dev]'
	@touch $@
