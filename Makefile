# make run: install and open a working project.  make test: install and pass the tests.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
PORT ?= 8000

.PHONY: run test lint bench messages install install-dev clean

run: install
	@PORT=$(PORT) $(BIN)/python manage.py up --demo

test: install-dev
	@$(BIN)/python -m tests

lint: install-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python manage.py makemigrations --check --dry-run

bench: install
	$(BIN)/python -m benchmarks --list

# Collects the texts for translators and compiles what they wrote; needs GNU gettext.
messages: install
	$(BIN)/python manage.py makemessages --locale de --locale ar --no-wrap --no-location --ignore .venv --ignore clients
	$(BIN)/python manage.py compilemessages --locale de --locale ar

install: $(VENV)/installed
install-dev: $(VENV)/installed-dev

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Touchstone needs Python 3.11 or newer. Name one: make run PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -m venv $(VENV)

$(VENV)/installed: requirements.txt | $(VENV)/bin/python
	@echo "Installing (once; torch is large) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@

$(VENV)/installed-dev: requirements-dev.txt $(VENV)/installed
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache
