# SPDX-License-Identifier: Apache-2.0
# Needs Python 3.11 with venv, gcc/g++, make and perl; everything else comes into .venv from pip.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
JOBS ?= 2
DEMO := c03_tls13_aes128_max c02_tls12_aes256_mixed l3_tls13_aes256_loss3_srv

export PIP_DISABLE_PIP_VERSION_CHECK = 1

.PHONY: demo test test-long check install lint types docs-check pytest docs clean help \
	docs/img/replay.png

demo: install  ## replay three captures on the simulated gateware; pictures go to out/
	@mkdir -p out
	@for name in $(DEMO); do \
	  echo "== $$name"; \
	  $(BIN)/sealane replay captures/$$name.pcap.gz --keylog captures/$$name.keys --engine rtl \
	    --report out/$$name.json --plaintext out/$$name --plot out/$$name.png || exit 1; \
	done
	@echo "pictures, reports and plaintext are in out/"

test: lint types docs-check pytest  ## run all checks, as CI runs them

# Arguments of pytest may stand in T: make check T="tests/net -k ipv6". JOBS=0 starts no workers.
check: JOBS = auto
check: install  ## run some of the tests: make check T=tests/net
	@test -n "$(T)" || { echo "say which tests: make check T=tests/net"; exit 2; }
	$(BIN)/python -m pytest -q -rs -n $(JOBS) --dist loadgroup $(T)

docs: install  ## write the generated parts of docs/ anew
	$(BIN)/python -m sealane.scripts.docs.registers
	$(BIN)/python -m sealane.scripts.docs.worked_example --write

# The README's picture: 3 % of the packets dropped, reordered and duplicated each.
docs/img/replay.png: install
	$(BIN)/sealane replay captures/l3_tls13_aes256_loss3_srv.pcap.gz \
	  --keylog captures/l3_tls13_aes256_loss3_srv.keys --engine rtl --plot $@

install: $(INSTALLED)  ## make .venv with everything that development needs

# setuptools stands in the environment itself so that the checks below can build without fetching.
$(INSTALLED): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "needs Python 3.11 or newer: make PYTHON=..."; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "== installing into $(VENV)"
	@$(BIN)/python -m pip install --quiet "setuptools>=77"
	@$(BIN)/python -m pip install --quiet --no-build-isolation --editable ".[dev]"
	@touch $@

lint: install  ## check style, format and spelling
	$(BIN)/ruff check --quiet .
	$(BIN)/ruff format --check --quiet .
	$(BIN)/codespell

# Types and layers, on the tree as it is.
types: install  ## check types and the layers of imports
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

docs-check: install  ## check that the generated pages are current
	$(BIN)/python -m sealane.scripts.docs.registers --check

# -rs names every test that was left out and the program that it wanted.
pytest: install  ## run all tests and proofs, random trials in their short form
	$(BIN)/python -m pytest -q -rs -n $(JOBS) --dist loadgroup --durations=25

test-long: install  ## run the long form of the random trials
	$(BIN)/python -m pytest -q -rs -n $(JOBS) --dist loadgroup --durations=25 -m long

clean:  ## remove build products and caches, but not .venv
	rm -rf build out .import_linter_cache .mypy_cache .pytest_cache .ruff_cache

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 12
