# Munim: every command a newcomer needs. Only Python 3.11 or newer has to be installed.
.DEFAULT_GOAL := help
SCALE ?= 1
ARGS ?=
FLAGS := $(if $(filter-out 0 no,$(ONCE)),--once)

.PHONY: help setup demo up test check bench shell lock clean

help: ## show this
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

setup: ## make .venv with everything the lock files name
	@bin/munim setup

demo: ## live a year from nothing and serve it [SCALE=n ONCE=1]
	@bin/munim demo --scale $(SCALE) $(FLAGS)

up: ## serve what this checkout has, until Ctrl-C
	@bin/munim up

test: ## run the tests with a private database and broker [ARGS="tests/billing -k ledger"]
	@bin/munim test $(ARGS)

check: ## lint, format, types, import layers, missing migrations, stray addresses
	@bin/check

bench: ## measure the product beside the limits of the machine [ARGS=...]
	@bin/munim setup runtime local test bench
	@bin/munim run manage.py bench $(ARGS)

shell: ## Django's shell on the running services, else on private ones
	@bin/munim setup
	@if [ -s var/up.env ] || [ -s var/services.env ]; then .venv/bin/python manage.py shell; else bin/munim run manage.py shell; fi

lock: ## resolve requirements/*.in anew
	@bin/lock

clean: ## remove the environment, the data and all caches of this checkout
	@bin/dev-services stop
	rm -rf .venv var .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis htmlcov .coverage
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
