# The two commands a newcomer types: `make demo` and `make test`. Nothing but Python 3.11+ is needed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

# The tests start hundreds of Pythons. Without compiled files each takes a second more.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help install chaos demo test test-fast e2e lint format docs bench clean

help:  ## this list
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

install: $(STAMP)  ## the virtual environment, with arbiter in it

# uv installs in seconds what pip needs minutes for; it is put into the environment itself if missing.
$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "arbiter needs Python 3.11 or newer; set PYTHON=python3.11"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python -e '.[dev,skypilot]'
	@touch $@

demo: install  ## the whole job on a recorded market, with servers on loopback
	$(BIN)/arbiter demo

WORKERS ?= 2  # tests side by side

test: install  ## every test that this machine can run
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup --no-loadscope-reorder -m 'not e2e'
	$(BIN)/python -m pytest -m e2e  # alone: SkyPilot's servers choose their own ports

test-fast: install  ## the tests without the slow, real parts
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup --no-loadscope-reorder -m 'not e2e and not wheel and not browser'

lint: install  ## ruff, mypy, shellcheck and hadolint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	@for tool in "shellcheck .ci/run" "hadolint Dockerfile"; do \
		if [ -x $(BIN)/$${tool%% *} ]; then echo "$(BIN)/$$tool"; $(BIN)/$$tool || exit 1; \
		else echo "not checked: $$tool (it has no wheel for this machine)"; fi; done

docs: install  ## docs/commands.md, from the commands
	$(BIN)/python tests/docs/command_pages.py

format: install
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

chaos: install  ## 50 seeded schedules of faults on loopback; SEEDS and SECONDS change that
	$(BIN)/arbiter chaos --seeds $(or $(SEEDS),50) --seconds $(or $(SECONDS),4)

clean:
	rm -rf $(VENV) dist build .pytest_cache .mypy_cache .ruff_cache
