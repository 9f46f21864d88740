# make demo: install, train on built-in data, print the paths of the reports.   make test: lint, format, types and tests.
# make test-all: the slow tests too, such as the commands of all guides, speed and the reliability harness.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
TESTS ?= not slow

.PHONY: demo test test-all reliability docs format web clean

demo: $(VENV)/.installed
	$(BIN)/sightline demo

test: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/ty check
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "$(TESTS)"

test-all: TESTS =
test-all: test

# Inject faults and count the outcomes, in under 40 minutes on 2 cores. Writes reliability.json and two pages in docs/.
reliability: $(VENV)/.installed-dev
	$(BIN)/python -m reliability

# Build the documentation into build/site; open build/site/index.html.
docs: $(VENV)/.installed-dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Bundle the scripts of the pages from web/. Needs Node.js; the bundles are committed, so nothing else needs it.
web:
	cd web && npm ci --no-audit --no-fund && npm run check && npm run build

# The environment is up to date if its stamp file is newer than pyproject.toml; then nothing is installed again.
# Modules are compiled when they are first imported: compiling all of them took about a third of the installation's time.
# PYTHONDONTWRITEBYTECODE is unset because starting without bytecode takes three times as long.
$(VENV)/.installed: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	env -u PYTHONDONTWRITEBYTECODE $(BIN)/python -m pip install --quiet --no-compile --editable '.[serve,onnx]'  # for the commands that the demo suggests
	touch $@

$(VENV)/.installed-dev: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	env -u PYTHONDONTWRITEBYTECODE $(BIN)/python -m pip install --quiet --no-compile --editable '.[dev]'
	touch $@ $(VENV)/.installed

clean:
	rm -rf $(VENV) runs
