# The first of these that fits and can make environments; `make PYTHON=...` names another.
FITS = import sys, ensurepip, venv; sys.exit(not (3, 11) <= sys.version_info < (3, 14))
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3 python; do \
  $$p -c "$(FITS)" 2> /dev/null && echo $$p && break; done)

# Software rendering and TensorFlow both start many threads; tests share few cores.
JOBS ?= 2
# The longest tests take a minute: a process that has no more takes the other's.
PARALLEL = -n $(JOBS) --dist worksteal

# $(call environment,DIRECTORY,PYTHON,REQUIREMENTS): of all that these files list.
define environment
	@$(or $(2),false) -c "$(FITS)" 2> /dev/null || { echo "make needs Python 3.11," \
	  "3.12 or 3.13 with its modules venv and ensurepip (on Debian: python3-venv)" \
	  "$(if $(2),and $(2) is not one,and finds none): give PYTHON=/path/to/python." >&2; exit 1; }
	$(2) -m venv $(1)
	$(call add,$(1),$(3))
endef
define add
	$(1)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps \
	  $(patsubst %,-r %,$(2))
	@touch $@
endef

.PHONY: env env-jax env-cluster env-gpu env-gpu-jax reproduce bench lint docs
.PHONY: test test-all test-jax test-jax-next test-all-jax test-cluster test-faults
.PHONY: test-faults-jax

env: .venv/.complete
env-jax: .venv-jax/.complete
env-cluster: .venv/.complete-cluster
env-gpu: .venv/.complete-gpu
env-gpu-jax: .venv-jax/.complete-gpu

.venv/.complete: requirements.txt requirements-dev.txt
	$(call environment,.venv,$(PYTHON),$^)

.venv/.complete-cluster: .venv/.complete requirements-cluster.txt
	$(call add,.venv,requirements-cluster.txt)

.venv/.complete-gpu: .venv/.complete requirements-gpu.txt
	$(call add,.venv,requirements-gpu.txt)

.venv-jax/.complete: requirements-jax.txt requirements-dev.txt
	$(call environment,.venv-jax,$(PYTHON),$^)

.venv-jax/.complete-gpu: .venv-jax/.complete requirements-gpu-jax.txt
	$(call add,.venv-jax,requirements-gpu-jax.txt)

# The next JAX needs a newer Python.
NEXT_PYTHON ?= $(shell for p in python3.12 python3.13 python3 python; do \
  $$p -c "$(subst 11,12,$(FITS))" 2> /dev/null && echo $$p && break; done)

.venv-jax-next/.complete: requirements-jax-next.txt requirements-dev.txt
	@test "$(NEXT_PYTHON)" || { echo "JAX 0.11 needs Python 3.12 or 3.13, and make" \
	  "finds neither: give NEXT_PYTHON=/path/to/python." >&2; exit 1; }
	$(call environment,.venv-jax-next,$(NEXT_PYTHON),$^)

# The documentation site, in site/; links that lead nowhere are errors.
docs: .venv-docs/.complete
	NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --strict --quiet
	@echo "site/index.html; with search: python -m http.server --directory site"

.venv-docs/.complete: requirements-docs.txt
	$(call environment,.venv-docs,$(PYTHON),$^)

# Trains all versions for a few minutes and compares with the published scores.
reproduce: env
	.venv/bin/python -m reproductions.reproduce

# Speed and memory of every workload, in results/bench.
bench: env
	.venv/bin/python -m benchmarks.bench

lint: env
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

# The environments' tests come in a process without TensorFlow: Mesa's software
# renderer and XLA both bring an LLVM along, which crash in one process.
test: lint
	.venv/bin/python -m pytest -q $(PARALLEL) -m "not slow" tests/envs
	.venv/bin/python -m pytest -q $(PARALLEL) -m "not slow" --ignore tests/envs

test-all: lint env-cluster
	.venv/bin/python -m pytest -q $(PARALLEL) tests/envs
	.venv/bin/python -m pytest -q $(PARALLEL) --ignore tests/envs

# Kills 50 runs, damages files, fills disks: twenty minutes.
test-faults: env
	.venv/bin/python -m tests.faults --kills=50 --jobs=$(JOBS)

test-faults-jax: env-jax
	KERAS_BACKEND=jax .venv-jax/bin/python -m tests.faults --kills=10 --jobs=$(JOBS)

# Parity, smoke and two devices on the JAX backend; the second compares every file.
test-jax: env-jax
	KERAS_BACKEND=jax .venv-jax/bin/python -m pytest -q $(PARALLEL) \
	  -m "not slow" tests/test_parity.py tests/test_v3.py tests/test_devices.py \
	  tests/test_rssm.py::test_gradients_of_a_scan

test-jax-next: .venv-jax-next/.complete
	KERAS_BACKEND=jax .venv-jax-next/bin/python -m pytest -q $(PARALLEL) \
	  -m "not slow" tests/test_parity.py tests/test_v1.py tests/test_v2.py \
	  tests/test_v3.py tests/test_devices.py tests/test_rssm.py

test-all-jax: env-jax
	KERAS_BACKEND=jax .venv-jax/bin/python -m pytest -q $(PARALLEL) \
	  tests/test_parity.py tests/test_moving.py tests/test_v1.py tests/test_v2.py \
	  tests/test_v3.py tests/test_devices.py

# A real Ray cluster of two nodes on this machine, one of which is lost.
test-cluster: env-cluster
	.venv/bin/python -m pytest -q tests/reproductions/test_cluster.py
