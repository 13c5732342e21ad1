# Everything runs in a private virtual environment. `make PYTHON=/path/to/python3` selects its
# interpreter; the default is the newest supported one that runs.

VENV := .venv
PY := $(VENV)/bin/python
DEMO := runs/demo
JOBS := 2
FAULT_JOBS := 3  # a third of their time they wait for a process that hangs or is lost
FAULTS := tests/faults tests/launch tests/checkpoint
UV := uv>=0.9,<1
LOCK = $(PY) -m uv pip compile --quiet --upgrade --universal --generate-hashes --python-version 3.11 \
  --custom-compile-command "make lock"

.PHONY: help install install-dev demo test faults golden test-all tolerances mutants fuzz check docs lock clean
.DEFAULT_GOAL := help

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(VENV)/.installed  ## create the environment and install the package in it

install-dev: $(VENV)/.installed-dev

demo: install  ## nuclei in two pictures by the shipped weights; then a training, ends with a report
	$(PY) -m segdiff_jax.predict --model=nuclei --input=segdiff_jax/samples --output=$(DEMO)-nuclei \
	  --overwrite
	@echo "outlines of nuclei: $(abspath $(DEMO))-nuclei/overlay; now a network is trained from nothing"
	$(PY) -m segdiff_jax.main --config=configs/synthetic.py --workdir=$(DEMO)
	@echo "open $(abspath $(DEMO))/report/report.html"

# A third of the time of these tests was LLVM's: here it compiles without optimization; `test-all`
# compiles as users do. Workers that take neighbouring tests share what a file compiles.
UNOPTIMISED = XLA_FLAGS="$$XLA_FLAGS --xla_backend_optimization_level=0"

test: install-dev  ## the fast tests
	$(UNOPTIMISED) $(PY) -m pytest -q -n $(JOBS) --dist worksteal --durations=12 -m "not slow and not fault"

faults: install-dev  ## kills, damage, lost and hung processes, launchers; prints its figures
	$(UNOPTIMISED) $(PY) -m pytest -q -n $(FAULT_JOBS) --dist worksteal --durations=15 -m "fault and not slow" -rP \
	  --show-capture=stdout $(FAULTS)

# The numbers of the authors' code on the accelerator of this machine, in full float32, and what its
# own precision costs.
golden: install-dev  ## the authors' numbers on a GPU or TPU; ACCELERATOR=cuda|tpu
	JAX_PLATFORMS=$(or $(ACCELERATOR),cuda),cpu $(PY) -m pytest -q -m accelerator -rP tests/models

test-all: install-dev  ## every test
	$(PY) -m pytest -q -n $(JOBS)

# Other machines round differently: the share of its tolerance that each test uses, under six code
# generators.
tolerances: install-dev  ## the tests that compare with a tolerance; prints the share that each uses
	$(PY) tests/support/code_generators.py -n $(JOBS)

# Each reader takes INPUTS files, and goes on for SECONDS: 1200 for 20 minutes a reader.
fuzz: install-dev  ## damaged files for every reader; INPUTS=1000 SECONDS=0 SEED=0
	$(PY) tests/fuzz/fuzz.py --inputs=$(or $(INPUTS),1000) --seconds=$(or $(SECONDS),0) \
	  --seed=$(or $(SEED),0)

# A test that cannot fail proves nothing: small faults are put into a copy of the code one by one.
mutants: install-dev  ## put faults into the code; every one must be noticed by the tests it names
	$(PY) tests/mutants/run.py --jobs $(JOBS) --table docs/tests.md

check: install-dev  ## lint, format, types, unsafe calls
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	PYRIGHT_PYTHON_IGNORE_WARNINGS=1 $(PY) -m pyright --pythonpath $(PY)
	$(PY) -m bandit -q -r segdiff_jax launch -ll

# The tools of the site are in no lock: the package and its tests do not need them.
docs: install  ## the documents as a site in build/site; fails at a link that leads nowhere
	$(call pip_install,-r docs/requirements.txt)
	NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --strict

lock: install-dev  ## take the newest versions within the bounds of requirements*.txt
	$(LOCK) requirements.txt -o requirements.lock
	$(LOCK) requirements-dev.txt -c requirements.lock -o requirements-dev.lock

clean:  ## remove the environment and the caches; runs/ stays
	rm -rf .venv .cache .pytest_cache .ruff_cache build *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The newest of the supported versions, on the PATH or kept by pyenv. A name on the PATH may be a
# launcher for a version that is not there, so each one is tried.
PYENV := $(or $(PYENV_ROOT),$(HOME)/.pyenv)/versions
FOUND := $(foreach v,3.13 3.12 3.11,python$(v) $(wildcard $(PYENV)/$(v).*/bin/python$(v))) python3

$(PY):
	@usable='import ensurepip, sys, venv; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))'; \
	for python in $(or $(PYTHON),$(FOUND)); do \
	  if "$$python" -c "$$usable" >/dev/null 2>&1; then \
	    echo "$$("$$python" --version) -> $(VENV)"; exec "$$python" -m venv $(VENV); \
	  fi; \
	done; \
	echo "Python 3.11, 3.12 or 3.13 with the venv module is needed: make PYTHON=/path/to/python3" >&2; \
	exit 64

# uv takes a tenth of pip's time. It does not read pip's settings: where only they name an index,
# a proxy or a certificate, pip installs.
define pip_install
$(PY) -m uv pip install --quiet $(1) || $(PY) -m pip install --quiet $(1)
endef

$(VENV)/.installed: requirements.lock pyproject.toml | $(PY)
	$(PY) -m pip install --quiet "$(UV)"
	$(call pip_install,--require-hashes -r requirements.lock)
	$(call pip_install,--no-deps --editable .)
	@touch $@

$(VENV)/.installed-dev: requirements-dev.lock $(VENV)/.installed
	$(call pip_install,--require-hashes -r requirements-dev.lock)
	@touch $@
