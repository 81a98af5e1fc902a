# make demo: see a network shrink while it trains.  make test: the test suite.  make lint: style and types.  make docs: the site.
PYTHON ?= python3
BIN := .venv/bin

# The suite runs in two processes, one half each.
HALF := tests/integrations tests/models tests/tuning tests/structure tests/spectral tests/sphere tests/export tests/training

.PHONY: demo test test-half test-rest slow lint docs clean

demo: .venv/ready
	$(BIN)/parsinet demo --out runs/demo --overwrite

test: .venv/ready-dev
	$(MAKE) --jobs=2 --output-sync --no-print-directory test-half test-rest

test-half: .venv/ready-dev
	OMP_NUM_THREADS=1 $(BIN)/pytest -p no:cacheprovider -m "not slow" $(HALF)

test-rest: .venv/ready-dev
	OMP_NUM_THREADS=1 $(BIN)/pytest -p no:cacheprovider -m "not slow" $(HALF:%=--ignore=%)

slow: .venv/ready-dev
	OMP_NUM_THREADS=1 $(BIN)/pytest -m slow

lint: .venv/ready-dev
	$(BIN)/ruff check src tests benchmarks examples docs
	$(BIN)/ruff format --check src tests benchmarks examples docs
	$(BIN)/mypy

docs: .venv/ready-docs
	$(BIN)/mkdocs build --strict
	@echo "The site is in build/site; open build/site/index.html."

.venv/pyvenv.cfg:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "parsinet needs Python 3.11 or newer; this is $$($(PYTHON) --version). Name another: make demo PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv .venv

.venv/ready: .venv/pyvenv.cfg pyproject.toml constraints.txt
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	@touch $@

.venv/ready-dev: .venv/ready
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	@touch $@

.venv/ready-docs: .venv/ready
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[docs]"
	@touch $@

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache build/site runs
