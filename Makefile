# Everything runs in .venv, made on first use from pyproject.toml with the versions in constraints.txt.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: demo test check slow bench clean

$(BIN)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e ".[dev]"
	touch $@

demo: $(BIN)/.installed          ## the digits suite, from training to the page reports/digits/leaderboard.html
	$(BIN)/genbench run suites/digits.yaml

test: $(BIN)/.installed          ## the tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2

check: $(BIN)/.installed         ## what CI runs: lint, types, tests (the import directions are among them)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2

slow: $(BIN)/.installed          ## the tests that take minutes
	$(BIN)/python -m pytest -m slow

bench: $(BIN)/.installed         ## timings, on this machine
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest benchmarks --benchmark-enable --benchmark-only -m ""

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache
