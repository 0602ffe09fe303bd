PYTHON ?= python3
UV_VERSION := 0.13.8
BIN := .venv/bin
# uv takes seconds; where only pip is set up to reach the packages, pip takes a minute for the same.
# --python: another virtual environment may be active in this shell.
UV_INSTALL := $(BIN)/uv pip install --system-certs --quiet --python $(BIN)/python --require-hashes
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes
# What this machine says about indexes and versions must not reach the committed lock files.
NEUTRAL := env -u UV_INDEX -u UV_INDEX_URL -u UV_DEFAULT_INDEX -u UV_EXTRA_INDEX_URL -u UV_FIND_LINKS \
	-u UV_CONSTRAINT -u UV_OVERRIDE -u UV_EXCLUDE_NEWER -u UV_PRERELEASE -u UV_RESOLUTION
COMPILE := $(NEUTRAL) $(BIN)/uv --no-config --system-certs pip compile pyproject.toml --quiet --universal \
	--python-version 3.11 --generate-hashes --no-header --no-annotate

.PHONY: help run test interop fuzz mutants screenshots check messages lock format clean

help:  ## Show the targets
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' Makefile | expand -t 16

run: .venv/runtime.stamp  ## Start the portal with demo data on http://localhost:8000
	$(BIN)/python manage.py quickstart

test: .venv/dev.stamp  ## Run every test: SQLite, PostgreSQL, browser (ARGS="--only sqlite -k name")
	$(BIN)/python -m tests $(ARGS)

interop: .venv/dev.stamp  ## Try clients and verifiers from npm on a running server (Node 20; ARGS="express.test.js")
	$(BIN)/python -m tests.interop $(ARGS)

fuzz: SEED ?= $(shell od -An -N3 -tu4 /dev/urandom | tr -d ' ')
fuzz: .venv/dev.stamp  ## Try 5,000 random orders of everything on SQLite (EXAMPLES=…, SEED=… to repeat one)
	@echo "seed $(SEED)"
	FUZZ_EXAMPLES=$(or $(EXAMPLES),5000) FUZZ_SEED=$(SEED) $(BIN)/python -m tests --only sqlite tests/test_any_order.py

mutants: .venv/dev.stamp  ## Turn each rule off in turn; a suite that stays green is a failure (RULES="R3 R4")
	$(BIN)/python -m tests.mutants $(RULES)

screenshots: .venv/dev.stamp  ## Draw every page, light and dark, narrow and wide, to screenshots/ (IN=de)
	$(BIN)/python -m tests.screenshots --language $(or $(IN),en-gb) $(ARGS)

# The deployment checks want a production's environment; these keys protect nothing.
check: export VAR_DIR = $(CURDIR)/.venv/throw-away-keys
check: export ORIGIN = https://tallystick.example
check: .venv/dev.stamp  ## Check format, lint, types, architecture, deployment settings, migrations, translations
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/djlint --quiet --lint templates
	$(BIN)/python -m config.keyfiles $(VAR_DIR)
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python manage.py check --deploy --fail-level WARNING
	$(BIN)/python manage.py makemigrations --check --dry-run
	$(BIN)/python -m tests.catalogs --check

messages: .venv/dev.stamp  ## Bring the translations' catalogs up to date with the texts in the code, and compile them
	$(BIN)/python -m tests.catalogs

format: .venv/dev.stamp  ## Format the code and apply the safe lint fixes
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

lock: $(BIN)/uv  ## Pin what pyproject.toml asks for (UPGRADE=1: to the newest it admits)
	$(COMPILE) $(if $(UPGRADE),--upgrade) --output-file requirements.txt
	$(COMPILE) $(if $(UPGRADE),--upgrade) --group dev --constraint requirements.txt \
		--output-file requirements-dev.txt

clean:  ## Remove everything that the other targets made, the demo's data too
	rm -rf .venv var .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis screenshots
	rm -rf tests/interop/node_modules
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/uv:
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)

.venv/runtime.stamp: requirements.txt | $(BIN)/uv
	$(UV_INSTALL) -r $< || $(PIP_INSTALL) -r $<
	@touch $@

.venv/dev.stamp: requirements-dev.txt | $(BIN)/uv
	$(UV_INSTALL) -r $< || $(PIP_INSTALL) -r $<
	@touch $@
