# PostgreSQL's major version: 14 to 18, where installed (15 is fetched).
PG_MAJOR ?= 15
export PG_MAJOR
SECONDS ?= 600
export SECONDS SEED

LAYERS = fmt clippy envelope miri pgrx regress isolation scenarios drivers attacks docs sql structure

.PHONY: help setup build install demo test fuzz-sql bench clean $(LAYERS:%=test-%)

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z][a-z-]*:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo "  make test-LAYER       one layer of tests: $(LAYERS)"
	@echo "  PG_MAJOR=$(PG_MAJOR); make install takes PG_CONFIG (default: pg_config on PATH)"

setup: ## install what building needs: packages, cargo-pgrx, a private copy of PostgreSQL
	@tools/setup

build: setup ## release build, installed into the private copy of PostgreSQL
	@tools/install

install: ## release build, installed into the PostgreSQL of PG_CONFIG
	@tools/install --system

demo: build ## encrypt a column of 100,000 rows, read it, rotate its key, on a private server
	@tools/demo

test: ## all tests; ends with "N passed, N failed"
	@tools/setup tests
	@tools/test

$(LAYERS:%=test-%): test-%:
	@tools/setup tests
	@tools/test $*

fuzz-sql: ## ask a private server random queries for SECONDS=600, with a seed that it prints (SEED=… repeats one)
	@tools/setup tests
	@tools/install
	@tools/fuzz-sql

bench: build ## measure, and write docs/benchmarks.md
	@benches/bench

clean: ## remove build output and logs
	@. ./tools/env.sh && cargo clean
