# One command sets up and shows the product, one sets up and runs the tests; each works on a machine with
# Python 3.11 to 3.13, git and make.
PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3.13 || echo python3)
BIN := .venv/bin

.PHONY: demo test test-schedulers check format lock

demo: .venv/installed
	$(BIN)/python -m flows demo

# In three processes on two cores, since much of the time is spent waiting for servers; tests/groups.py has
# what runs in which.
test: .venv/installed
	$(BIN)/python -m pytest -n 3 --dist loadgroup --no-loadscope-reorder -m "not schedulers"

# Installs Dagster and Airflow from the registry, each apart, and runs README's examples in them.
test-schedulers: .venv/installed
	$(BIN)/python -m pytest -m schedulers tests/test_readme.py

check: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_house.py

format: .venv/installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Pins every dependency, with hashes, for Python 3.11 to 3.13.
lock: .venv/installed
	$(BIN)/uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --no-header --quiet -o requirements.txt
	$(BIN)/uv pip compile pyproject.toml --group dev -c requirements.txt --universal --python-version 3.11 \
		--generate-hashes --no-emit-index-url --no-header --quiet -o requirements-dev.txt

.venv/installed: requirements-dev.txt hatch_build.py flows/public/checkout.py
	$(PYTHON) -m venv .venv
	# The file is complete, so nothing is left to resolve.
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements-dev.txt
	# The command `summarize-parquet`, and that package's name for the modules here.
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@
