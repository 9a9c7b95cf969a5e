# What a person does here, and what the CI does: the same targets. `make` lists them.

PYTHON ?= python3
ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/installed-for

.DEFAULT_GOAL := help
.PHONY: help setup demo test check kills pipeline page monitoring dashboards-check tools boards sweep vectors fix docs bench lock

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(STAMP) ## the environment in .venv, every package pinned by hash; a second run changes nothing

demo: setup ## a recorded network through all three daemons into Postgres; nothing else needs to run (ARGS=--until-drained)
	@$(BIN)/sluice demo $(ARGS)

test: setup ## every test, on up to four cores, with a Redis and a Postgres for each
	@$(BIN)/pytest -n auto --maxprocesses 4 --dist loadfile $(ARGS)

check: setup ## lint, format, types, imports, unit tests: run it before every commit
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/pytest tests/unit

sweep: setup ## long random histories against the model, about 10 minutes
	@EXAMPLES=1500 $(BIN)/pytest tests/integration/test_model.py --timeout=3600 $(ARGS)

vectors: setup ## a thousand commits of a recording of your own, each altered a bit in every place (RECORDING=load-1.tar.zst)
	@RECORDING=$(abspath $(RECORDING)) $(BIN)/pytest tests/unit/test_altered_commits.py $(ARGS)

kills: setup ## the ingester killed at 100 random moments, every event on the stream once (SEED=N for the same again)
	@KILLS=100 $(BIN)/pytest tests/integration/test_several_relays.py -k killed $(ARGS)

pipeline: setup ## the three daemons as processes, killed on the way
	@$(BIN)/pytest tests/pipeline $(ARGS)

page: setup ## the status page in a headless Chromium (Debian: apt install chromium); SHOTS=FOLDER keeps pictures
	@$(BIN)/pytest tests/browser $(ARGS)

monitoring: setup tools ## rules, boards and alerts, on a real Prometheus beside the real daemons; about 3 minutes
	@$(BIN)/pytest tests/monitoring $(ARGS)

dashboards-check: setup tools ## the Grafana boards alone: their queries, their data from the real daemons, their types
	@$(BIN)/pytest tests/unit/test_rules_and_boards.py tests/monitoring/test_grafana.py tests/monitoring/test_whole_stack.py -k board $(ARGS)

tools: ## what `make monitoring` runs and no Python package brings, into .tools (Debian's packages, and npm)
	@ops/fetch-tools

boards: setup ## write ops/grafana/dashboards from ops/boards
	@$(BIN)/python -m ops.boards

fix: setup ## format, and mend what the linter can mend
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

docs: setup ## write the pages of docs/ that are made from the code
	@$(BIN)/python -m sluice.docs

bench: setup ## events a second through each stage
	@$(BIN)/python -m bench $(ARGS)

lock: ## resolve requirements.lock again from pyproject.toml (needs uv)
	@printf 'hatchling\neditables\n' | uv pip compile pyproject.toml - --all-extras --universal --python-version 3.11 \
	  --generate-hashes --no-emit-index-url --custom-compile-command 'make lock' --quiet --output-file requirements.lock

# An environment knows the folder it was made in. One that came along with a copied checkout, or whose Python
# is gone, is made anew.
ifneq ($(shell $(BIN)/python -c pass 2>/dev/null && cat $(STAMP) 2>/dev/null),$(CURDIR))
.PHONY: $(STAMP)
endif

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo 'Sluice needs Python 3.11 or newer. Name one that is installed: make setup PYTHON=python3.12' >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { \
	  echo 'This Python cannot make environments. Install its venv module (Debian: apt install python3-venv)' >&2; exit 1; }
	@[ "$$(cat $(STAMP) 2>/dev/null)" = "$(CURDIR)" ] || $(PYTHON) -m venv --clear $(VENV)
	@echo 'installing into $(VENV), about a minute the first time'
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all: -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@echo "$(CURDIR)" > $(STAMP)
