.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3.13
BIN := .venv/bin
UV := .tools/uv/bin/uv
export SAM_CLI_TELEMETRY := 0
export PATH := $(CURDIR)/.venv/bin:$(CURDIR)/.tools/sam/bin:$(PATH)

.PHONY: help
help: ## Say what there is to make
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 16

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

CLIENT := clients/typescript
$(CLIENT)/node_modules/.installed: $(CLIENT)/package-lock.json
	cd $(CLIENT) && npm ci --silent
	@touch $@

.PHONY: install
install: .venv/.installed .tools/sam/.installed .tools/emulator/.installed ## Install every pinned dependency

# --- Every day ----------------------------------------------------------------------------------------------------------
.PHONY: run
run: install ## The whole product on this machine, with neither AWS, Stripe nor Docker
	@$(BIN)/python -m local.run

.PHONY: invoke
invoke: install ## Run one built function: make invoke FUNCTION=checkout EVENT=events/checkout.json
	@$(BIN)/python -m local.invoke $(FUNCTION) $(EVENT)

.PHONY: sam-local
sam-local: install ## Run every sample event in a Docker container through sam local
	@$(BIN)/python -m local.sam_local

# --- Is it right? -------------------------------------------------------------------------------------------------------
.PHONY: test
test: install ## Every test: first the fast ones, then those on a DynamoDB engine beside those on the deployed stack
	$(BIN)/pytest -n 2 -m "not engine and not stack" --durations=5
	@$(MAKE) client
	+@$(MAKE) --jobs 2 $(if $(filter output-sync,$(.FEATURES)),--output-sync) engine e2e

.PHONY: engine
engine: install ## The tests on a DynamoDB engine alone
	$(BIN)/pytest -m "engine and not stack" --durations=5

.PHONY: check
check: install ## Everything that is known without running it
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy layers/billing/billing cli stripe_simulator local tests bench
	for app in functions/*/app.py; do $(BIN)/mypy $$app || exit 1; done
	$(BIN)/cfn-lint template.yaml
	.tools/sam/bin/sam validate --lint --region us-east-1
	$(BIN)/pytest -q tests/test_architecture.py tests/test_template.py

.PHONY: client
client: $(CLIENT)/openapi.json $(CLIENT)/node_modules/.installed ## Build and test the TypeScript client; needs Node 20
	cd $(CLIENT) && npm run --silent types -- --check && npm test --silent

.PHONY: client-types
client-types: $(CLIENT)/openapi.json $(CLIENT)/node_modules/.installed ## Make its types anew, after a change of the contract or the catalog
	cd $(CLIENT) && npm run --silent types

.PHONY: $(CLIENT)/openapi.json
$(CLIENT)/openapi.json: install
	$(BIN)/python -m local.openapi organization > $@

.PHONY: e2e
e2e: install $(CLIENT)/node_modules/.installed ## The tests on the deployed stack alone
	$(BIN)/pytest -m stack --durations=5

.PHONY: bench
bench: install ## Measure what docs/explanation/performance.md says
	$(BIN)/python -m bench

# --- AWS ----------------------------------------------------------------------------------------------------------------
ENV ?= default

.PHONY: build
build: install ## sam build
	.tools/sam/bin/sam build

.PHONY: deploy
deploy: build ## sam deploy to the account of your AWS credentials: make deploy ENV=prod
	.tools/sam/bin/sam deploy --config-env $(ENV)

# --- Housekeeping -------------------------------------------------------------------------------------------------------
.PHONY: clean
clean: ## Remove what was built, not what was installed
	rm -rf .aws-sam .local .hypothesis .mypy_cache .pytest_cache .ruff_cache clients/typescript/{build,dist,openapi.json}
	find . -name __pycache__ -not -path './.venv/*' -not -path './.tools/*' -prune -exec rm -rf {} +

.PHONY: lock
lock: $(UV) ## Resolve requirements/*.in again
	for pair in billing-layer:layers/billing/requirements stripe-layer:layers/stripe_sdk/requirements \
	            dev:requirements/dev sam:requirements/sam emulator:requirements/emulator uv:requirements/uv; do \
	  $(UV) pip compile --quiet --upgrade --python-version 3.13 --generate-hashes --no-header --no-emit-index-url \
	    --no-emit-find-links requirements/$${pair%%:*}.in --output-file $${pair##*:}.txt || exit 1; done
