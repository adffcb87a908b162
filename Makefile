# make demo    set up, then watch a mixed-precision network classify digits on an emulated Nucleo
# make test    set up, then run every test but the long ones
# make soak    set up, then the long runs: whole networks, 20,000 damaged files
# make check   lint, types and the quick tests, under three minutes

SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test soak check lint types setup toolchain clean

demo: setup
	$(BIN)/python -m benchmarks.demo

test: setup
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not slow"

soak: setup
	$(BIN)/python -m pytest -n 2 --dist worksteal -m slow

check: setup lint types
	$(BIN)/python -m pytest -n 2 --dist worksteal -q -m "null and not slow"

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup
	$(BIN)/mypy

setup: toolchain $(READY)

# Pinned wheels. torch is the CPU build wherever pip is offered one.
$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' \
	  || { echo "tvm_mpq needs Python 3.10 or newer; found $$($(PYTHON) --version)"; exit 1; }
	@$(PYTHON) -m venv $(VENV) \
	  || { echo "No venv module: apt-get install python3-venv"; exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[emulator,test,bench]'
	@touch $@

# The cross compiler with newlib-nano, a host C compiler and make, from Debian's packages.
PACKAGES := gcc-arm-none-eabi libnewlib-arm-none-eabi gcc libc6-dev make
toolchain:
	@if command -v arm-none-eabi-gcc cc make >/dev/null \
	    && [ -f "$$(arm-none-eabi-gcc -print-file-name=nano.specs)" ]; then exit 0; fi; \
	if ! command -v apt-get >/dev/null; then \
	  echo "Missing tools and no apt-get here. Install: $(PACKAGES)"; exit 1; fi; \
	if [ "$$(id -u)" != 0 ]; then \
	  echo "Missing tools and no root here. Run: sudo apt-get install $(PACKAGES)"; exit 1; fi; \
	echo "Installing $(PACKAGES)"; \
	apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
	  apt-get install -y -qq --no-install-recommends $(PACKAGES) >/dev/null

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
