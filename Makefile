# One environment in .venv, made from constraints.txt; nothing else on the machine is touched.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
UV_VERSION := 0.13.8
INSTALL := $(BIN)/uv pip install --quiet --constraints constraints.txt --editable

.PHONY: demo test check bench clean

demo: $(VENV)/.ready
	$(BIN)/winnow demo --out demo-out

test: $(VENV)/.dev
	$(BIN)/python -m pytest

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Peers that nothing else needs lie in a folder of their own, which only the benchmarks look into.
bench: $(VENV)/.dev
	$(BIN)/uv pip install --quiet --no-deps --target .peers cc2dataset==1.5.0 pysimdjson==7.0.2 simplejpeg==1.9.0 \
		py-data-juicer==1.6.1 emoji==2.15.0 loguru==0.7.3
	$(BIN)/python -m pytest -n0 tests/benchmarks -s

clean:
	rm -rf $(VENV) .peers .flink demo-out

$(VENV)/.ready: pyproject.toml constraints.txt
	@echo "setting up $(VENV): about 7 GB, some minutes on a first run"
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet uv==$(UV_VERSION)
	$(INSTALL) .
	touch $@

$(VENV)/.dev: $(VENV)/.ready
	$(INSTALL) '.[dev]'
	touch $@
