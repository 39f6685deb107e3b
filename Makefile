# SPDX-License-Identifier: Apache-2.0
# Needs Python 3.11 with venv, gcc/g++, make and perl; everything else comes into .venv from pip.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
JOBS ?= 2
DEMO := c03_tls13_aes128_max c02_tls12_aes256_mixed l3_tls13_aes256_loss3_srv

export PIP_DISABLE_PIP_VERSION_CHECK = 1

.PHONY: demo test test-long docs install lint types docs-check pytest clean docs/img/replay.png

demo: install
	@mkdir -p out
	@for name in $(DEMO); do \
	  echo "== $$name"; \
	  $(BIN)/sealane replay captures/$$name.pcap.gz --keylog captures/$$name.keys --engine rtl \
	    --report out/$$name.json --plaintext out/$$name --plot out/$$name.png || exit 1; \
	done
	@echo "pictures, reports and plaintext are in out/"

test: lint types docs-check pytest

docs: install
	$(BIN)/python -m sealane.scripts.docs.registers
	$(BIN)/python -m sealane.scripts.docs.worked_example --write

# The README's picture: 3 % of the packets dropped, reordered and duplicated each.
docs/img/replay.png: install
	$(BIN)/sealane replay captures/l3_tls13_aes256_loss3_srv.pcap.gz \
	  --keylog captures/l3_tls13_aes256_loss3_srv.keys --engine rtl --plot $@

install: $(INSTALLED)

# setuptools stands in the environment itself so that the checks below can build without fetching.
$(INSTALLED): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "needs Python 3.11 or newer: make PYTHON=..."; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "== installing into $(VENV)"
	@$(BIN)/python -m pip install --quiet "setuptools>=77"
	@$(BIN)/python -m pip install --quiet --no-build-isolation --editable ".[dev]"
	@touch $@

lint: install
	$(BIN)/ruff check --quiet .
	$(BIN)/ruff format --check --quiet .

# Types and layers, on the tree as it is.
types: install
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

docs-check: install
	$(BIN)/python -m sealane.scripts.docs.registers --check

# -rs names every test that was left out and the program that it wanted.
pytest: install
	$(BIN)/python -m pytest -q -rs -n $(JOBS) --dist loadgroup --durations=25

# The full form of the random trials that `test` has a short form of.
test-long: install
	$(BIN)/python -m pytest -q -rs -n $(JOBS) --dist loadgroup --durations=25 -m long

clean:
	rm -rf build out .mypy_cache .pytest_cache .ruff_cache
