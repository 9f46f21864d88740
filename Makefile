# make demo: install, train on embedded data, say where the report is.   make test: everything that must hold.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: demo test reliability format web clean

demo: $(VENV)/.installed
	$(BIN)/sightline demo

test: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/ty check
	$(BIN)/python -m pytest -n 2 --dist worksteal

# Puts faults in and counts what comes of them: under 40 minutes on 2 cores. Writes reliability.json, docs/reliability.md.
reliability: $(VENV)/.installed-dev
	$(BIN)/python -m reliability

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The report's script, out of web/. Needs Node.js; what it gives is committed, so that nobody else does.
web:
	cd web && npm ci --no-audit --no-fund && npm run check && npm run build

# A stamp newer than pyproject.toml says that the environment is right, so the second call is quick.
# PYTHONDONTWRITEBYTECODE is cleared because start-up without byte code takes three times as long.
$(VENV)/.installed: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	env -u PYTHONDONTWRITEBYTECODE $(BIN)/python -m pip install --quiet --editable '.[serve,onnx]'  # what the demo's last lines name
	touch $@

$(VENV)/.installed-dev: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	env -u PYTHONDONTWRITEBYTECODE $(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@ $(VENV)/.installed

clean:
	rm -rf $(VENV) runs
