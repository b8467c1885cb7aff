# make demo    restore a real picture, into demo-output/
# make test    the whole test suite
# make lowest  the same with the lowest versions that pyproject.toml allows, with Python 3.10
# make gpu     tests and figures that need a GPU, as JSON
# make docs    the documentation, in docs/_build/html
# make lint    formatters, linters, type checks and the Rust tests
#
# Everything happens in a virtual environment of the project's own, made on first use.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Whole files of tests at once, in as many processes as there are cores.  No more than four: each takes
# a gigabyte.  They start in the order of tests/conftest.py, those that take longest first.
PARALLEL := -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder

# Python sources are installed in place; only these ask for another installation.
SOURCES := pyproject.toml Cargo.toml $(wildcard rust/*/Cargo.toml) $(shell find rust -name '*.rs')

# What pyproject.toml says that one extra brings of the others.
INCLUDED_IN_test := demo
INCLUDED_IN_docs := demo
INCLUDED_IN_dev := demo test

.PHONY: demo test lowest gpu docs lint clean

demo: $(VENV)/.installed-demo
	$(BIN)/python examples/demo.py demo-output

test: $(VENV)/.installed-test
	$(BIN)/python -m pytest $(PARALLEL)

# Of what is asked for the lowest, of what that brings the newest: old versions warn of deprecations in
# newer ones, which is nothing to mend here.
lowest: $(VENV)-lowest/.installed
	$(VENV)-lowest/bin/python -m pytest $(PARALLEL) -W ignore::DeprecationWarning

$(VENV)-lowest/.installed: $(SOURCES)
	rm -rf $(VENV)-lowest
	$(PYTHON) -m venv $(VENV)-lowest
	$(VENV)-lowest/bin/python -m pip install --disable-pip-version-check uv
	$(VENV)-lowest/bin/uv pip install --python $(VENV)-lowest --resolution lowest-direct --editable '.[test]'
	@touch $@

gpu: $(VENV)/.installed-test
	$(BIN)/python -m benches.gpu

# Without a network.  Warnings are errors, and so are links within that lead nowhere.
docs: $(VENV)/.installed-docs
	$(BIN)/python -m sphinx --nitpicky --fail-on-warning --keep-going --quiet docs docs/_build/html
	@echo "the pages are in docs/_build/html/index.html"

lint: $(VENV)/.installed-dev
	cargo fmt --check
	cargo clippy --workspace --all-targets -- -D warnings
	cargo test --workspace --quiet
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m mypy.stubtest dipfast._native
	$(BIN)/basedpyright --pythonpath $(BIN)/python --level error tests/ops/test_types.py
	PYTHONPATH=python $(BIN)/lint-imports
	$(BIN)/codespell
	$(BIN)/python .ci/check_docstrings.py
	$(BIN)/zizmor --offline --quiet .github

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
		{ echo "Python 3.10 or newer is needed: make PYTHON=/path/to/python3"; exit 1; }
	@command -v cargo >/dev/null || \
		{ echo "Rust 1.89 or newer is needed: https://rustup.rs"; exit 1; }
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

$(VENV)/.installed-%: $(BIN)/python $(SOURCES)
	$(BIN)/python -m pip install --disable-pip-version-check --editable '.[$*]'
	@touch $@ $(foreach extra,$(INCLUDED_IN_$*),$(VENV)/.installed-$(extra))

clean:
	rm -rf $(VENV) $(VENV)-lowest target demo-output docs/_build docs/generated
