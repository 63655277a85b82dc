# First Questions: `make lab` to learn, `make test` to check everything, `make help` for the rest.
#
# Settings, given behind the target or in the environment:
#   PYTHON=python3.12     the Python that .venv is made from (3.11 or newer)
#   TORCH_INDEX=URL       take PyTorch from there: https://download.pytorch.org/whl/cpu is its index
#                         of CPU builds; on Linux the default build brings gigabytes for NVIDIA GPUs
#   COMPANION_SCALE=ci    how much the experiments do: ci, laptop (default) or gpu

NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
            $$p -c '$(NEW_ENOUGH)' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
READY := .venv/ready
SETTINGS := .venv/share/jupyter/lab/settings

.PHONY: help lab test soak lint lessons assets clean
.DEFAULT_GOAL := help

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

lab: $(READY)  ## open the course in JupyterLab
	@$(BIN)/python tools/lessons.py sync
	@echo "JupyterLab opens in your browser; if it does not, open the address below. Ctrl-C ends it."
	@$(BIN)/jupyter lab --ip=127.0.0.1 --ServerApp.root_dir=. --log-level=WARN \
	  $(if $(filter 0,$(shell id -u)),--allow-root) $(LAB_FLAGS) notebooks/00_start_here.ipynb

test: $(READY) lint  ## lint, the package's tests, every notebook, the browser tests
	@COMPANION_SCALE=ci $(BIN)/python -m pytest

soak: $(READY)  ## the long form of the tests that kill a training run: 20 times each, some minutes
	@COMPANION_SOAK=1 COMPANION_SCALE=ci $(BIN)/python -m pytest tests/test_pretrain.py

lint: $(READY)  ## check and format, without changing anything
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check companion tests tools benchmarks conftest.py
	@$(BIN)/ruff format --check --line-length 88 notebooks

lessons: $(READY)  ## after an edit: make text, notebook, outputs and companion/ agree
	@$(BIN)/python tools/lessons.py sync
	@$(BIN)/ruff format --quiet --line-length 88 notebooks
	@$(BIN)/python tools/lessons.py all

assets: $(READY)  ## list the optional texts and models, or fetch some: make assets NAMES=taylorswift
	@$(BIN)/python -m companion.assets $(NAMES)

clean:  ## remove the environment that the other targets made
	rm -rf .venv

# Made once, and again when the pins change. An install that was cut short leaves no `ready`.
$(READY): constraints.txt pyproject.toml tools/overrides.json
	@test -n "$(PYTHON)" || { echo "The course needs Python 3.11 or newer, and there is none on the PATH; name one by PYTHON=/path/to/python" >&2; exit 1; }
	@$(PYTHON) -c '$(NEW_ENOUGH)' 2>/dev/null || { echo "The course needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version 2>&1 || echo missing)" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "$(PYTHON) lacks the venv module; on Debian and Ubuntu: sudo apt install python3-venv" >&2; exit 1; }
	@echo "Making .venv with $$($(PYTHON) --version): once, a few minutes, about 2 GB"
	@rm -f $@ && $(PYTHON) -m venv .venv
	@$(if $(TORCH_INDEX),echo "Installing PyTorch from $(TORCH_INDEX)" && $(BIN)/pip install --quiet --disable-pip-version-check --index-url $(TORCH_INDEX) $$(grep '^torch==' constraints.txt))
	@echo "Installing the packages that constraints.txt pins"
	@$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@mkdir -p $(SETTINGS) && cp tools/overrides.json $(SETTINGS)/overrides.json
	@touch $@ && echo "Done: .venv is ready"
