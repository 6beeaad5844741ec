# make run    installs Odradek into .venv and starts the broker on 127.0.0.1:9092
# make test   installs what the tests need and runs all of them, with ruff, mypy and import-linter
# make torture  campaigns of kills, power cuts and bad disks, long, by SEED=n; with COUNT=n so many of each
# make docs   builds the documentation's site into build/site
# make bench  beside Apache Kafka, shape by shape (needs Java, Maven and a C compiler); make bench-full has all shapes

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUN_READY := $(VENV)/.run-ready
TEST_READY := $(VENV)/.test-ready

SEED ?= 1
COUNT ?=

.PHONY: run test torture test-setup lint types imports format docs bench bench-full system-packages clean

run: $(RUN_READY)
	$(BIN)/odradek serve

test-setup: $(TEST_READY)

test: $(TEST_READY) system-packages lint types imports
	$(BIN)/python -m pytest

torture: $(TEST_READY)
	$(BIN)/python -m tests.adversity.torture --seed $(SEED) $(if $(COUNT),--count $(COUNT))

lint: $(TEST_READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(TEST_READY)
	$(BIN)/mypy

imports: $(TEST_READY)
	$(BIN)/lint-imports

format: $(TEST_READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# mkdocs-material prints a notice about other programs unless told not to.
docs: $(TEST_READY)
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

bench: $(TEST_READY)
	$(BIN)/pip install --quiet --disable-pip-version-check --requirement requirements-bench.txt
	$(BIN)/python -m benchmarks.bench --write

bench-full: $(TEST_READY)
	$(BIN)/pip install --quiet --disable-pip-version-check --requirement requirements-bench.txt
	$(BIN)/python -m benchmarks.bench --full --write

$(RUN_READY): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --editable .
	@$(BIN)/pip install --quiet --disable-pip-version-check --only-binary :all: google-re2 2>/dev/null \
		|| echo "no wheel of google-re2 for this system: only simple regular expressions of clients are served"
	@touch $@

$(TEST_READY): pyproject.toml requirements-test.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --editable . --requirement requirements-test.txt
	@touch $(RUN_READY) $@

# These come from Debian; elsewhere, or without root, what needs them says that it was skipped.
# Each a command, and the package that has it.
SYSTEM_PACKAGES := kcat=kcat strace=strace mkfs.xfs=xfsprogs openssl=openssl

system-packages:
	@missing=; for one in $(SYSTEM_PACKAGES); do \
		PATH="$$PATH:/usr/sbin:/sbin" command -v $${one%=*} >/dev/null || missing="$$missing $${one#*=}"; done; \
	[ -z "$$missing" ] || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get update -qq \
		&& apt-get install -y -qq --no-install-recommends $$missing >/dev/null; } \
		|| echo "not installed, and the tests that need them are skipped:$$missing"

clean:
	rm -rf $(VENV) dist
