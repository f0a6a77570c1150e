# Everything runs in .venv, made on first use from pyproject.toml with the versions in constraints.txt.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: demo test check slow page-test faults fuzz mutants docs bench bench-peers bench-compare bench-save gpu gpu-rehearse clean

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

# axe-core's rules run too where npm is installed; without Chromium every test is skipped.
AXE := $(VENV)/axe/node_modules/axe-core/axe.min.js

$(AXE):
	npm install --silent --no-fund --no-audit --prefix $(VENV)/axe axe-core@4.14.1 || true

page-test: $(BIN)/.installed $(AXE) ## the page in headless Chromium
	GENBENCH_AXE="$$(ls $(AXE) 2>/dev/null)" $(BIN)/python -m pytest -m slow tests/report/test_browser.py

FAULT := PYTHONPATH=.:tests $(BIN)/python tests/faults
faults: $(BIN)/.installed        ## faulty models, kills, full disks, signals, mutated inputs, load: make faults ONLY="kills disks"
	OMP_NUM_THREADS=1 $(FAULT)/campaigns.py $(ONLY)

SECONDS_EACH ?= 1800
fuzz: $(BIN)/.installed          ## an hour of coverage-guided fuzzing of suites and records: make fuzz SECONDS_EACH=600
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e ".[fuzz]"
	$(FAULT)/guided.py suites $(SECONDS_EACH)
	$(FAULT)/guided.py records $(SECONDS_EACH)

mutants: $(BIN)/.installed     ## mutation testing, resumable: make mutants ONLY=zoo/vae.py SHARE=0.1 (docs/mutants.md)
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e ".[mutants]"
	$(BIN)/python tools/mutants/run.py $(ONLY) --share $(or $(SHARE),1) $(if $(AGAIN),--again) $(if $(QUICK),--quick)

docs: $(BIN)/.installed          ## the documentation site in build/site; its search needs a server: python -m http.server -d build/site
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e ".[docs]"
	$(BIN)/python tools/docs_site.py build/docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet

# CPU seconds, which a busy neighbour changes least; and an allocator that keeps what is freed, as in genbench.machine:
# docs/performance.md says why.
BENCH := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --benchmark-enable --benchmark-only -m "" \
	--benchmark-timer=time.process_time --benchmark-storage=file://benchmarks/stored --benchmark-columns=min,median,rounds
STEADY := MALLOC_MMAP_THRESHOLD_=33554432 MALLOC_TRIM_THRESHOLD_=1000000000 GLIBC_TUNABLES=glibc.malloc.hugetlb=1
COMPARED := $(addprefix benchmarks/test_,sampling.py training.py metrics.py report.py)
KIND ?= 2-cores-of-an-amd-epyc
COMPARE = $(STEADY) $(BENCH) $(COMPARED) --benchmark-compare --benchmark-compare-fail=min:60%

bench: $(BIN)/.installed         ## timings, on this machine; against peers too where they are installed
	$(BENCH) benchmarks -s

PEERS ?= benchmarks/peers
bench-peers: $(BIN)/.installed   ## against diffusers, torchcfm, normflows, nflows, prdc and torch-fidelity, which it installs
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e ".[peers]"
	$(STEADY) $(BENCH) $(PEERS) -s

bench-compare: $(BIN)/.installed ## every model, metric and the report against the stored run; fails when three runs fail
	$(COMPARE) || $(COMPARE) || $(COMPARE)

bench-save: $(BIN)/.installed    ## stores a run of this kind of machine: make bench-save KIND=its-name
	$(STEADY) $(BENCH) $(COMPARED) --benchmark-save=$(KIND)

gpu: $(BIN)/.installed           ## the first hour on a GPU (docs/gpu.md), on a machine with a network: make gpu STEPS="facts tests"
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e ".[peers]"
	GENBENCH_DOWNLOAD=1 PYTHON=$(BIN)/python tools/gpu_session.sh --seconds 5400 $(or $(STEPS),all)

gpu-rehearse: $(BIN)/.installed  ## the same at a tiny size on the CPU: make gpu-rehearse DEVICE=other, on the simulated device
	PYTHON=$(BIN)/python tools/gpu_session.sh --rehearse --device $(or $(DEVICE),cpu) --seconds 3600 \
		--out build/gpu-rehearsal-$(or $(DEVICE),cpu) $(or $(STEPS),all)

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache
