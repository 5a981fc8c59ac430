# Each target sets up what it needs; nothing is installed by hand.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: venv demo test lint format bench coverage docs constraints clean

venv: $(STAMP)

$(STAMP): pyproject.toml constraints/py311.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints/py311.txt --editable '.[dev]'
	touch $@

# From nothing to results: eight emulated cards, a listed model of each of four families, random weights, no hub.
DEMO_FARM := env FARM_HOME=$(CURDIR)/.demo $(BIN)/farm
DEMO_MODELS := prajjwal1/bert-tiny prajjwal1/bert-mini ckiplab/albert-tiny-chinese \
  google/electra-small-discriminator distilbert-base-cased
demo: $(STAMP)
	rm -rf .demo
	trap '$(DEMO_FARM) down' EXIT; \
	$(DEMO_FARM) up --emulate 8 --detach \
	&& $(DEMO_FARM) submit $(DEMO_MODELS:%=-m %) --weights random -o all --time 3 --label demo --wait \
	&& $(DEMO_FARM) status \
	&& $(DEMO_FARM) results
	@echo "The cards were emulated and the weights random: these figures are this computer's, not a card's."

# Two at a time, a file at a time: most of it waits for processes of its own.
test: $(STAMP)
	$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Each benchmark prints its ratio last; docs/benchmarks.md keeps the figures.
bench: $(STAMP)
	set -e; for benchmark in bench/bench_*.py; do $(BIN)/python "$$benchmark"; done

# docs/coverage.md: every listed model at full size, random weights, eight emulated cards.
coverage: $(STAMP)
	$(BIN)/python bench/coverage.py

# The command reference, from the commands' own help.
docs: $(STAMP)
	$(BIN)/python docs/make_reference.py > docs/commands.md

# Pins anew what pyproject.toml allows: an empty environment, the newest of everything, frozen.
# Card hosts (constraints/py310.txt) the same way, with PYTHON=python3.10 EXTRA=worker PINS=constraints/py310.txt.
EXTRA ?= dev
PINS ?= constraints/py311.txt
constraints:
	rm -rf build/constraints
	$(PYTHON) -m venv build/constraints
	build/constraints/bin/python -m pip install --quiet '.[$(EXTRA)]'
	sed -i '/^[^#]/d' $(PINS)
	build/constraints/bin/python -m pip freeze --all \
	  | sed -e '/^pip==/d' -e '/^aic-farm/d' -e 's/+cpu$$//' >> $(PINS)

clean:
	rm -rf build dist .demo .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
