.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3.13
BIN := .venv/bin
UV := .tools/uv/bin/uv
export SAM_CLI_TELEMETRY := 0
export PATH := $(CURDIR)/.venv/bin:$(CURDIR)/.tools/sam/bin:$(PATH)

.PHONY: help
help: ## Say what there is to make
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 16

# --- What everything else stands on: one environment per set of pins --------------------------------------------------
$(UV): requirements/uv.txt
	$(PYTHON) -m venv --clear .tools/uv
	.tools/uv/bin/pip install --quiet --disable-pip-version-check --require-hashes --requirement $<
	@touch $@

.venv/.installed: requirements/dev.txt pyproject.toml $(UV)
	$(UV) venv --quiet --clear --python $(PYTHON) .venv
	VIRTUAL_ENV=$(CURDIR)/.venv $(UV) pip sync --quiet --require-hashes requirements/dev.txt
	VIRTUAL_ENV=$(CURDIR)/.venv $(UV) pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

.tools/%/.installed: requirements/%.txt $(UV)
	$(UV) venv --quiet --clear --python $(PYTHON) .tools/$*
	VIRTUAL_ENV=$(CURDIR)/.tools/$* $(UV) pip sync --quiet --require-hashes $<
	@touch $@

.PHONY: install
install: .venv/.installed .tools/sam/.installed .tools/emulator/.installed ## Install every pinned dependency

.PHONY: lock
lock: $(UV) ## Resolve requirements/*.in again
	for pair in billing-layer:layers/billing/requirements stripe-layer:layers/stripe_sdk/requirements \
	            dev:requirements/dev sam:requirements/sam emulator:requirements/emulator uv:requirements/uv; do \
	  $(UV) pip compile --quiet --upgrade --python-version 3.13 --generate-hashes --no-header --no-emit-index-url \
	    --no-emit-find-links requirements/$${pair%%:*}.in --output-file $${pair##*:}.txt || exit 1; done
