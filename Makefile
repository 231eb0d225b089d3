# make help lists the targets. Everything is installed into .venv on first use.
PYTHON ?= $(or $(shell command -v python3.11),python3)
CONSTRAINTS := constraints.txt
VENV := .venv
BIN := $(VENV)/bin
CONFIG ?= configs/default.yaml
PICK ?= --knee
CLUSTER ?= infra/local.yaml
STORAGE ?= runs
FUZZ ?= --count 100000
KILLS ?= --count 20
SHELL := /bin/bash

.DEFAULT_GOAL := help
.PHONY: help sweep study test test-wheel fuzz kill-points mlflow-server test-slow families check bench docs ui pick doctor submit test-cluster clean setup

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 14

$(VENV)/ready: pyproject.toml constraints.txt infra/torchvision_hook.py
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null || { echo "goodnet needs Python 3.11, 3.12 or 3.13; point PYTHON at one: make PYTHON=/path/to/python3.11" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	@# torch first: whatever else wants torch then finds this version.
	$(BIN)/pip install -q -c $(CONSTRAINTS) torch
	$(BIN)/pip install -q -c $(CONSTRAINTS) -e '.[test]'
	@# Package indexes serve torchvision for CUDA, which a torch for the CPU cannot import by itself.
	@$(BIN)/python -c 'import torchvision' 2>/dev/null || $(BIN)/python infra/torchvision_hook.py
	@touch $@

setup: $(VENV)/ready  ## make the environment (the other targets do it by themselves)

sweep: $(VENV)/ready  ## search; CONFIG=configs/default.yaml; again: goes on where it was
	$(BIN)/goodnet sweep $(CONFIG)

study: $(VENV)/ready  ## compare orders and policies; writes docs/study.md (needs GOODNET_SHARED)
	$(BIN)/goodnet study $(sort $(wildcard configs/study/*.yaml))

pick: $(VENV)/ready  ## take a GoodNet from the last sweep; PICK='--max-accuracy-drop 2'
	$(BIN)/goodnet pick $(PICK) --storage $(STORAGE)

ui: $(VENV)/ready  ## the MLflow UI on http://127.0.0.1:5000
	$(BIN)/mlflow ui --host 127.0.0.1 --port 5000 --backend-store-uri sqlite:///$(abspath $(STORAGE))/mlflow.db

mlflow-server: $(VENV)/ready  ## MLflow on PostgreSQL; MLFLOW_BACKEND_STORE_URI=postgresql+psycopg://...
	@$(BIN)/python -c 'import psycopg' 2>/dev/null || $(BIN)/pip install -q -c $(CONSTRAINTS) -e '.[server]'
	@infra/mlflow-server.sh

doctor: $(VENV)/ready  ## check versions, data, model, storage, tracking before a long run
	$(BIN)/goodnet doctor $(CONFIG)

submit: $(VENV)/ready  ## a sweep on a cluster; CLUSTER=infra/local.yaml CONFIG=...; see infra/README.md
	@infra/submit.sh "$(CLUSTER)" $(CONFIG)

# Two files at a time, each with one thread of torch: more threads than cores only wait for each other.
test test-slow: export OMP_NUM_THREADS ?= 1

test: $(VENV)/ready  ## the tests, about six minutes on two quiet cores
	$(BIN)/pytest -n 2 --dist loadfile

test-wheel:  ## the wheel in empty environments of Python 3.11, 3.12, 3.13: without extras, then with all
	@.ci/wheel

fuzz: $(VENV)/ready  ## hostile files in numbers; FUZZ='--count 100000 --seed 1'
	PYTHONPATH=.:tests:tests/nets $(BIN)/python -m fuzz $(FUZZ)

kill-points: $(VENV)/ready  ## kill worker, driver, MLflow server at random; KILLS='--count 20 --seed 1'
	PYTHONPATH=.:tests:tests/nets $(BIN)/python -m kill_points $(KILLS)

test-slow: $(VENV)/ready  ## the slower ones: embedded default end to end, real browser
	$(BIN)/pytest -m 'slow or browser' -n 2 --dist loadfile

families: $(VENV)/ready  ## the networks of the field by every way in; an hour; writes docs/families.md
	OMP_NUM_THREADS=1 PYTHONPATH=.:tests:tests/nets $(BIN)/python -m family_table

test-cluster: $(VENV)/ready  ## clusters of machines made of namespaces: ssh, ray submit, a node that dies (as root)
	@if [ "$$(id -u)" != 0 ]; then echo "make test-cluster makes machines of namespaces; run it as root" >&2; exit 2; fi
	@PATH=$$PATH:/usr/sbin:/sbin; for tool in sshd:openssh-server ssh:openssh-client rsync:rsync ip:iproute2 pgrep:procps docker-compose:docker-compose; do \
	  command -v $${tool%%:*} >/dev/null || missing="$$missing $${tool##*:}"; done; \
	if [ -n "$$missing" ]; then apt-get update -q >/dev/null && \
	  DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $$missing >/dev/null; fi
	$(BIN)/pytest -m cluster

bench: $(VENV)/ready  ## what trials cost, to docs/performance.md; KERAS=1: the author's own framework too
	@if [ -n "$(KERAS)" ] && [ ! -x $(VENV)-keras/bin/python ]; then \
	  $(PYTHON) -m venv $(VENV)-keras && \
	  $(VENV)-keras/bin/pip install -q $$(sed -nE 's/^ *"(tensorflow-cpu==[^"]+)".*/\1/p' pyproject.toml); fi
	$(BIN)/python -m tests.bench $(if $(KERAS),--keras $(VENV)-keras/bin/python)

docs: $(VENV)/ready  ## the documentation as a site, to build/site/index.html
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

check: $(VENV)/ready  ## format, lint, types, and who imports whom
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

clean:  ## remove the environment and caches; runs/ and goodnets/ stay
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache
