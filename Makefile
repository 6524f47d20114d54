# make demo | test | lint | bench: each sets up what it needs in .venv
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
DJANGO42 := $(CURDIR)/.venv/django42
DJANGO42_TESTS := $(patsubst %,tests/test_%.py,called commands detect exact history introspect restore restore_faults restore_formats restore_former_ids restore_psycopg2 restore_rules roundtrip schema)
DJANGO42_NAMES := roundtrip or not (postgres or mysql)
SOURCES := $(wildcard src/fastnk/*.pyx src/fastnk/*.pxi src/fastnk/*.pxd src/fastnk/*.h) setup.py pyproject.toml

unexport PYTHONDONTWRITEBYTECODE  # the tests start many processes, each of which would compile all

# What is never imported need not be compiled.
export PIP_NO_COMPILE := 1

.PHONY: demo test lint bench clean

demo: .venv/demo.ok
	$(BIN)/fastnk demo

test: .venv/test.ok .venv/django42.ok
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile
	PYTHONPATH="$(DJANGO42)" $(BIN)/python -m pytest --numprocesses auto --dist loadfile $(DJANGO42_TESTS) \
		-k "$(DJANGO42_NAMES)"

lint: .venv/lint.ok
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m mypy.stubtest fastnk._core

bench: .venv/test.ok
	$(BIN)/python -m benchmarks
	$(BIN)/python -m pytest tests/test_bench_core.py --benchmark-enable --benchmark-max-time=0.5 \
		--benchmark-group-by=func --benchmark-columns=min,median,iqr,rounds

clean:
	rm -rf .venv build src/fastnk/_core.c src/fastnk/*.so src/*.egg-info

.venv/pip.ok:
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"  # the first with --group
	touch $@

.venv/demo.ok: .venv/pip.ok $(SOURCES)
	$(BIN)/python -m pip install --quiet --editable ".[django]"
	touch $@

.venv/test.ok: .venv/demo.ok
	$(BIN)/python -m pip install --quiet --group test
	touch $@

.venv/django42.ok: .venv/pip.ok pyproject.toml
	$(BIN)/python -m pip install --quiet --upgrade --target "$(DJANGO42)" --group django42
	touch $@

.venv/lint.ok: .venv/test.ok pyproject.toml
	$(BIN)/python -m pip install --quiet --group lint
	touch $@
