# Every target sets .venv up by itself when needed; only Python 3.11 or newer has to be there.
# GNU Make answers any failure with its own code 2; `edgeattn` itself returns the exit codes of the contract.
PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3.13 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
RECIPE ?= digit_scenes
TARGET ?= cpu
ARGS ?=
PIP_ARGS ?=
PARALLEL ?= -n auto --maxprocesses 4 --dist loadfile

.DEFAULT_GOAL := help
.PHONY: help setup deploy zoo test check format bench report clean

help:  ## what there is
	@awk -F':.*## ' '/^[a-z]+:.*## /{printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# The stamp is younger than what it was made from, so a second call does nothing. A failed set-up leaves no stamp.
$(VENV)/.complete: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed and none was found; set PYTHON=/path/to/python3.11." >&2; exit 3; }
	@"$(PYTHON)" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || { echo "Python 3.11 to 3.13 is needed, $(PYTHON) is not; set PYTHON=/path/to/python3.11." >&2; exit 3; }
	@echo "setting up $(VENV) (once, a minute or two)"
	@"$(PYTHON)" -m venv --clear $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt $(PIP_ARGS) --editable ".[dev]"
	@touch $@

setup: $(VENV)/.complete  ## make .venv

# Some shells export HOST, this machine's own name: what counts is a HOST given to make, even an empty one, which
# edgeattn refuses. By way of the environment its value is never read as shell or make.
ifneq ($(findstring command line,$(origin HOST)),)
export EDGEATTN_MAKE_HOST := $(value HOST)
unexport HOST
ON := --host "$$EDGEATTN_MAKE_HOST"
endif

deploy: $(VENV)/.complete  ## RECIPE to TARGET: engine, bundle, report (RECIPE=digit_scenes TARGET=cpu [HOST=user@device] ARGS="...")
	@$(BIN)/edgeattn deploy "$(RECIPE)" --target "$(TARGET)" $(ON) $(ARGS)

# Tests of clocks run alone first; 5 is pytest's code for "none were selected".
test: $(VENV)/.complete  ## the test suite with coverage
	@$(BIN)/python -m pytest -q -m serial --cov --cov-report= $(ARGS) || [ $$? -eq 5 ]
	@$(BIN)/python -m pytest -m "not serial" $(PARALLEL) --cov --cov-append --cov-report=term:skip-covered $(ARGS)

check: $(VENV)/.complete  ## format, lint, types, tests
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/python -m pytest -q -m serial $(ARGS) || [ $$? -eq 5 ]
	@$(BIN)/python -m pytest -q -m "not serial" $(PARALLEL) $(ARGS)

format: $(VENV)/.complete  ## rewrite the sources in the house's format
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

zoo: $(VENV)/.complete  ## every model family through every stage on the embedded default
	@$(BIN)/edgeattn zoo --target "$(TARGET)" --out reports/zoo-scenes $(ARGS)

bench: $(VENV)/.complete  ## the side-by-side benchmarks
	@for file in benchmarks/*.py; do $(BIN)/python $$file $(ARGS) || exit 1; done

report: $(VENV)/.complete  ## render reports/ and the tables of README and docs again from their JSON
	@for file in reports/*/report.json reports/zoo/*/report.json reports/jetson/*/report.json; do [ -e "$$file" ] || continue; $(BIN)/edgeattn report $$(dirname $$file) > /dev/null || exit 1; done
	@for file in reports/zoo/*/report.json; do [ -e "$$file" ] || continue; $(BIN)/edgeattn zoo --pages --into README.md --into docs/models.md > /dev/null || exit 1; break; done

clean:  ## remove .venv and the artifact store
	rm -rf $(VENV) .edgeattn
