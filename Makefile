# PostgreSQL's major version, for what uses a private copy: 14 to 18, the system's or one that is fetched.
PG_MAJOR ?= 15
# The PostgreSQL to build for and to install into.
PG_CONFIG ?= pg_config
# For the processor that builds; empty for any.
OPTFLAGS ?= -C target-cpu=native
# Where the command-line tool goes.
PREFIX ?= /usr/local
export PG_MAJOR PG_CONFIG DESTDIR PREFIX OPTFLAGS SECONDS SEED

LAYERS = fmt clippy envelope cli miri fuzz pgrx cargo-install regress isolation scenarios drivers attacks tools packages docs sql structure

.PHONY: all install uninstall cli install-cli uninstall-cli installcheck clean help setup build demo test test-all fuzz fuzz-sql deb dist release-sql bench $(LAYERS:%=test-%)

all: ## release build for the PostgreSQL of PG_CONFIG
	@tools/install --build

install: ## release build, installed into the PostgreSQL of PG_CONFIG, below DESTDIR if that is set
	@tools/install --system

uninstall: ## remove what install installs
	@tools/install --uninstall

cli: ## release build of prism-crypt, the command-line tool, in target/install/cli
	@tools/cli --build

install-cli: ## release build of prism-crypt, installed below PREFIX, with man pages and completions
	@tools/cli --install

uninstall-cli: ## remove what install-cli installs
	@tools/cli --uninstall

installcheck: ## try what is installed on the running server of PGHOST and PGPORT
	@tools/installcheck

clean: ## remove build output and logs
	@. ./tools/env.sh && cargo clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z][a-z-]*:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo "  make test-LAYER       one layer of tests: $(LAYERS)"
	@echo "  PG_CONFIG=$(PG_CONFIG); OPTFLAGS='$(OPTFLAGS)' are rustc's (nothing: for any processor)"
	@echo "  PG_MAJOR=$(PG_MAJOR) is what demo, test and bench use"

setup: ## install what building needs: packages, a private copy of PostgreSQL PG_MAJOR
	@tools/setup

build: setup ## release build, installed into the private copy
	@tools/install

demo: build ## encrypt a column of 100,000 rows, read it, rotate its key, on a private server
	@tools/demo

test: ## all tests on PG_MAJOR; ends with "N passed, N failed"
	@tools/setup tests
	@tools/test

test-all: ## all tests on PostgreSQL 14 to 18
	@for major in 14 16 17 18; do PG_MAJOR=$$major tools/setup || exit 1; done
	@PG_MAJOR=15 tools/setup tests
	@PG_MAJOR=15 tools/test --all-majors

$(LAYERS:%=test-%): test-%:
	@tools/setup tests
	@tools/test $*

fuzz: ## give the formats random bytes, for SECONDS=60 each (a nightly compiler)
	@tools/setup
	@tools/cargo-layer fuzz

fuzz-sql: ## ask a private server random queries for SECONDS=600, with a seed that it prints (SEED=… repeats one)
	@tools/setup tests
	@tools/install
	@tools/fuzz-sql

release-sql: ## freeze the install script of this version in sql/releases
	@tools/release-sql

deb: ## Debian packages for MAJORS="14 15 16 17 18", in target/deb
	@tools/deb $(MAJORS)

dist: ## the source as PGXN distributes it, in target/
	@tools/dist

bench: build ## measure, and write docs/benchmarks.md
	@benches/bench
