# Everything here needs only make, Python 3.11 or newer with venv, and a package index:
# tools/bootstrap makes .venv from uv.lock, once, and again when what it was made from changes.

READY := .venv/.ready
BIN := .venv/bin
SUITES := $(wildcard tests/house tests/unit tests/services tests/globe)

.DEFAULT_GOAL := help
.PHONY: help up test long check bench soak drills failover docs image

help: ## Say what can be made
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1	\2/p' Makefile | expand -t 16

up: $(READY) ## Run Viral Engine in two regions on this machine (ARGS="--regions iad,lhr,nrt")
	@exec $(BIN)/viral up $(ARGS)

test: $(READY) ## Run every test, two at a time (ARGS="-k replay", and -n 0 for one)
	@exec $(BIN)/pytest $(SUITES) -n 2 --no-loadscope-reorder $(ARGS)

long: $(READY) ## Run the tests that take minutes of a quiet machine
	@exec $(BIN)/pytest $(SUITES) -m long $(ARGS)

check: $(READY) ## Lint, format, types, imports and the rules of the house
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@exec $(BIN)/pytest --quiet --durations=0 tests/house

bench: $(READY) ## Measure it beside what it replaces, and print the tables (ARGS="--only handler")
	@exec $(BIN)/python bench/run.py $(ARGS)

soak: $(READY) ## Read one's own writes 100,000 times through lag and failovers, about 10 minutes
	@exec $(BIN)/python bench/soak.py $(ARGS)

drills: $(READY) ## Break it on purpose and judge what its users saw (ARGS="--only register")
	@exec $(BIN)/python bench/drills.py $(ARGS)

failover: $(READY) ## The headline drills, the worst of 9 runs each, about an hour (ARGS="--only switchover --runs 3")
	@exec $(BIN)/python bench/failover.py $(ARGS)

image: $(READY) ## Run the steps of the Dockerfile's build in an empty folder, and start each engine from there
	@exec $(BIN)/python tools/try-image

docs: $(READY) ## Write the pages that are made from code
	@$(BIN)/python -m viral_engine.topology.reference docs/reference/viral.toml.md
	@$(BIN)/python -m viral_engine.fly.runbook.page docs/reference/fly.toml.md
	@$(BIN)/python -m viral_engine.operations.cost.page docs/reference/cost.md

$(READY): pyproject.toml uv.lock tools/bootstrap
	@tools/bootstrap
	@touch $@
