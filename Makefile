.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3.13
BIN := .venv/bin
UV := .tools/uv/bin/uv
export SAM_CLI_TELEMETRY := 0
export PATH := $(CURDIR)/.venv/bin:$(CURDIR)/.tools/sam/bin:$(PATH)
# Without cached bytecode, every pytest, sam and worker process compiles its imports again, for several seconds each.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help
help: ## List the targets
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 16

# --- Installation: one environment for each lock file -----------------------------------------------------------------
$(UV): requirements/uv.txt
	$(PYTHON) -m venv --clear .tools/uv
	.tools/uv/bin/pip install --quiet --disable-pip-version-check --require-hashes --requirement $<
	@touch $@

.venv/.installed: requirements/dev.txt pyproject.toml $(UV)
	$(UV) venv --quiet --clear --python $(PYTHON) .venv
	VIRTUAL_ENV=$(CURDIR)/.venv $(UV) pip sync --quiet --compile-bytecode --require-hashes requirements/dev.txt
	VIRTUAL_ENV=$(CURDIR)/.venv $(UV) pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

.tools/%/.installed: requirements/%.txt $(UV)
	$(UV) venv --quiet --clear --python $(PYTHON) .tools/$*
	VIRTUAL_ENV=$(CURDIR)/.tools/$* $(UV) pip sync --quiet --compile-bytecode --require-hashes $<
	@touch $@

CLIENT := clients/typescript
$(CLIENT)/node_modules/.installed: $(CLIENT)/package-lock.json
	cd $(CLIENT) && npm ci --silent
	@touch $@

.PHONY: install
install: .venv/.installed .tools/sam/.installed .tools/emulator/.installed ## Install every pinned dependency

# --- Run --------------------------------------------------------------------------------------------------------------
.PHONY: run
run: install ## Run the whole product on this machine, without AWS, Stripe or Docker
	@$(BIN)/python -m local.run

.PHONY: invoke
invoke: install ## Run one built function: make invoke FUNCTION=checkout EVENT=events/checkout.json
	@$(BIN)/python -m local.invoke $(FUNCTION) $(EVENT)

.PHONY: sam-local
sam-local: install ## Run every sample event in Docker with sam local
	@$(BIN)/python -m local.sam_local

# --- Test -------------------------------------------------------------------------------------------------------------
.PHONY: test
test: install ## Run all tests with a quarter of the random examples; TEST_PROFILE=thorough runs all examples
	$(BIN)/pytest -n 2 -m "not engine" --ignore=tests/e2e --durations=5
	@$(MAKE) client
	+@$(MAKE) --jobs 2 $(if $(filter output-sync,$(.FEATURES)),--output-sync) engine e2e

.PHONY: engine
engine: install ## Run the tests on a DynamoDB engine
	$(BIN)/pytest -n 2 -m engine --ignore=tests/e2e --durations=5

.PHONY: check
check: install ## Run linters, type checker, template validation and architecture tests
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy layers/billing/billing cli stripe_simulator local tests bench functions/*/app.py
	$(BIN)/cfn-lint template.yaml
	.tools/sam/bin/sam validate --lint --region us-east-1
	$(BIN)/pytest -q tests/test_architecture.py tests/test_vocabulary.py tests/test_template.py tests/test_version.py

.PHONY: client
client: $(CLIENT)/openapi.json $(CLIENT)/node_modules/.installed ## Build and test the TypeScript client (needs Node 20)
	cd $(CLIENT) && npm run --silent types -- --check && npm test --silent

.PHONY: client-types
client-types: $(CLIENT)/openapi.json $(CLIENT)/node_modules/.installed ## Generate the client's types after a change of the contract or the catalog
	cd $(CLIENT) && npm run --silent types

.PHONY: $(CLIENT)/openapi.json
$(CLIENT)/openapi.json: install
	$(BIN)/python -m local.openapi organization --webhooks > $@

.PHONY: e2e
e2e: install $(CLIENT)/node_modules/.installed ## Run the tests on the deployed stack
	$(BIN)/pytest tests/e2e --durations=5

.PHONY: bench
bench: install ## Run the benchmarks of docs/explanation/performance.md
	$(BIN)/python -m bench

# --- Deploy -----------------------------------------------------------------------------------------------------------
ENV ?= default

.PHONY: build
build: install ## Run sam build
	.tools/sam/bin/sam build

.PHONY: deploy
deploy: build ## Deploy to the AWS account of your credentials: make deploy ENV=prod
	.tools/sam/bin/sam deploy --config-env $(ENV)

# --- Housekeeping -------------------------------------------------------------------------------------------------------
.PHONY: clean
clean: ## Remove build output and caches, but not installed dependencies
	rm -rf .aws-sam .local .hypothesis .mypy_cache .pytest_cache .ruff_cache clients/typescript/{build,dist,openapi.json}
	find . -name __pycache__ -not -path './.venv/*' -not -path './.tools/*' -prune -exec rm -rf {} +

.PHONY: lock
lock: $(UV) ## Update the lock files from requirements/*.in
	for pair in billing-layer:layers/billing/requirements stripe-layer:layers/stripe_sdk/requirements \
	            dev:requirements/dev sam:requirements/sam emulator:requirements/emulator uv:requirements/uv; do \
	  $(UV) pip compile --quiet --upgrade --python-version 3.13 --generate-hashes --no-header --no-emit-index-url \
	    --no-emit-find-links requirements/$${pair%%:*}.in --output-file $${pair##*:}.txt || exit 1; done
