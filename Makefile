# Two commands: `make demo` shows the whole of it, `make test` checks the whole of it.
# Both install what they need into .venv inside this checkout and touch nothing else.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
LOWEST := $(VENV)/lowest
BENCH := $(VENV)/bench
BENCH_PYTHON ?= $(firstword $(wildcard /usr/bin/python3.11) $(BIN)/python)
TESTS_OF_LOWEST ?= tests/wire tests/contracts tests/transport tests/observe tests/octopus tests/settings tests/services tests/calling tests/devserver tests/cli

.PHONY: demo test test-lowest bench kills lint clean install lock pages wheel packages image test-packages figures

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, this is " + sys.version.split()[0])'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[devserver]' --group dev
	@touch $@

# KEEP=1 leaves it running, with the address of its page, until Ctrl-C.
demo: install
	@$(BIN)/python -m tests.e2e.demo $(if $(KEEP),--keep)

# The parts of docs/ that are made from the code: after a change of commands, options, settings or variables.
pages: install
	cd packaging && ../$(BIN)/python -m builder.pages

# Kills the embedded server, and an agent that polls it by HTTPS, at every message between the two: five minutes.
kills: install
	$(BIN)/python -m tests.e2e.kills

# How fast it is and what it costs, each figure beside a reference of the same run: about ten minutes on a machine that does
# nothing else.  ONLY=name for some of the rows, LONG=1 for the memory after 100,000 scripts.
bench: $(BENCH)/.installed
	@$(BENCH)/bin/python -m benchmarks $(ONLY:%=--only=%) $(LONG:%=--long)

# With the interpreter that the packages carry, where there is one: others are built without optimizations, and take a third
# more time.
$(BENCH)/.installed: pyproject.toml $(VENV)/.packages
	$(BIN)/uv venv --quiet --no-config --clear --python $(BENCH_PYTHON) $(BENCH)
	$(BIN)/uv pip install --quiet --no-config --python $(BENCH) --editable '.[devserver]' --group dev
	@touch $@

# What the packages hold, exactly: after a change of the dependencies, and to take up their newer versions.
lock: $(VENV)/.packages
	$(BIN)/uv pip compile --quiet --no-config --upgrade --all-extras --universal --generate-hashes --python-version 3.11 \
		--custom-compile-command 'make lock' pyproject.toml --output-file packaging/requirements.lock

# A wheel and an sdist in dist/, the same bytes wherever and whenever they are built.
wheel: $(VENV)/.packages
	cd packaging && ../$(BIN)/python -m builder wheel

# These, a deb and an rpm, each with its bill of materials.  ARCH='amd64 arm64' for more than this machine's kind.
packages: $(VENV)/.packages
	cd packaging && ../$(BIN)/python -m builder packages $(ARCH:%=--arch=%)

# An OCI image, without an engine: load it with `skopeo copy oci-archive:dist/...oci.tar docker-daemon:tentacle:latest`.
image: $(VENV)/.packages
	cd packaging && ../$(BIN)/python -m builder image $(ARCH:%=--arch=%)

# Installs, upgrades and removes them on a fresh Debian that is booted in a namespace.  Needs root; a quarter of an hour.
test-packages: $(VENV)/.packages
	packaging/peers.sh
	cd packaging && ../$(BIN)/python -m builder all
	$(BIN)/pytest -p no:cacheprovider -s packaging/tests
	$(BIN)/python packaging/tests/figures.py

# What they weigh on a host, beside OpenSSH's server and Salt's minion: after `make packages image`, on a quiet machine.
figures: $(VENV)/.packages
	$(BIN)/python packaging/tests/figures.py

$(VENV)/.packages: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --group packages
	@touch $@

# Real clients of Octopus Deploy against the embedded server.  Needs Node.js and npm's registry.
test-clients: install
	@mkdir -p $(VENV)/clients && cp tests/clients/package.json $(VENV)/clients
	npm install --silent --no-audit --no-fund --no-package-lock --prefix $(VENV)/clients
	$(BIN)/python -m tests.clients.run $(VENV)/clients/node_modules

lint: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

test: lint
	tests/peers.sh
	$(BIN)/pytest -n 4 --dist worksteal

# The tests that meet other people's packages most, with the lowest versions that pyproject.toml allows: after a change there.
test-lowest: $(VENV)/.packages
	$(BIN)/uv pip compile --quiet --no-config --resolution lowest-direct --all-extras pyproject.toml --output-file $(VENV)/lowest.txt
	$(BIN)/uv venv --quiet --no-config --clear --python $(BIN)/python $(LOWEST)
	$(BIN)/uv pip install --quiet --no-config --python $(LOWEST) --constraint $(VENV)/lowest.txt --editable ".[devserver]" --group dev
	$(LOWEST)/bin/pytest -p no:cacheprovider -n 2 $(TESTS_OF_LOWEST)

clean:
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
