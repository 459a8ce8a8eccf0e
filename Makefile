# Every daily command. `make` lists them. Cargo is always asked for the whole workspace: another selection would unify
# features otherwise, and compile every dependency again.
SHELL := /usr/bin/env bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
CARGO ?= cargo
TARGET := $(or $(CARGO_TARGET_DIR),target)
N ?= 100
T ?= 60
SEED ?=

.PHONY: help setup check clarity api docs test formatted built documented killed clients crash races delegations sequences conformance tenants approvals sandbox-races foreign chaos eval-security fuzz bench mutants demo picture release

help: ## List the commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-13s %s\n", $$1, $$2}'

setup: ## Install what the tests need (prints the list first)
	@scripts/setup.sh

# In a directory of its own: nothing of it is used to build, and the two can go on side by side. What is only looked at
# is not made fast, in C above all.
slow = $(foreach crate,libsqlite3-sys blake3 ring,--config profile.dev.package.$(crate).opt-level=0)
check documented: export CARGO_TARGET_DIR = $(TARGET)/check
check: formatted ## Format, names, lints and docs; needs cargo and Python only
	@scripts/phase.sh clippy   $(CARGO) $(slow) clippy --workspace --all-targets -- -D warnings
	@$(MAKE) --no-print-directory documented

clarity: ## Count what makes the code hard to read, beside its goals; WHAT=names|prose|circles|types lists where
	@scripts/clarity.py $(if $(WHAT),--list $(WHAT))

api: ## Write docs/openapi.json anew and show what changed
	@DROMIA_WRITE_GOLDEN=1 $(CARGO) test --quiet --workspace --test it -- reference::the_document_is_the_one_in_the_docs
	@git --no-pager diff --stat -- docs/openapi.json

# The build of the tests lints what it compiles: Clippy's driver is rustc with more lints, and with a run of its own it
# would compile every dependency once more. Every phase has the same compiler, so nothing is compiled again.
test: export RUSTC_WORKSPACE_WRAPPER = $(shell rustc --print sysroot)/bin/clippy-driver
test: export CLIPPY_ARGS = -Dwarnings__CLIPPY_HACKERY__
test: setup ## Everything: lints, docs, all tests, 100 kills, the demo, programs of others
	@$(MAKE) --no-print-directory formatted
	@$(MAKE) --no-print-directory --jobs=2 built documented
	@scripts/phase.sh tests    scripts/tests.sh
	@$(MAKE) --no-print-directory --jobs=2 killed clients
	@scripts/phase.sh demo     $(TARGET)/debug/dromia demo
	@echo "all phases passed"

# Parts of `test`, two at a time where one alone leaves a processor idle.
formatted:
	@scripts/phase.sh clarity  scripts/clarity.py
	@scripts/phase.sh format   $(CARGO) fmt --all --check
built:
	@scripts/phase.sh build    $(CARGO) build --workspace --tests --bins --examples
documented: export RUSTDOCFLAGS = -D warnings
documented:
	@scripts/phase.sh docs     env -u RUSTC_WORKSPACE_WRAPPER $(CARGO) $(slow) doc --workspace --no-deps --quiet
# A release is linked with musl, whose types of system calls differ; one crate makes such calls.
	@scripts/phase.sh static   env -u RUSTC_WORKSPACE_WRAPPER $(CARGO) check --quiet --package dromia-sandbox \
		--target $(shell uname -m)-unknown-linux-musl
killed:
	@scripts/phase.sh crash    $(MAKE) --no-print-directory crash N=$(N) SEED=$(SEED)
clients:
	@scripts/phase.sh foreign  scripts/foreign.sh $(TARGET) tests/foreign

crash: ## Kill a loaded server N times (N=100) and let a witness count
	@DROMIA_CRASH_N=$(N) DROMIA_CRASH_SEED=$(SEED) $(CARGO) test --workspace --test kills -- --nocapture

races: ## Swap links under every file operation N times each (N=1000000), in memory where there is room
	@DROMIA_RACES=$(if $(filter file,$(origin N)),1000000,$(N)) TMPDIR=$(if $(wildcard /dev/shm/.),/dev/shm,/tmp) \
		$(CARGO) test --workspace --test it -- --nocapture no_swapped_link_leads_out_of_any_operation

sandbox-races: ## Exchange guarded names with links while N programs (N=1000) start at every backend (hours, most of it guests)
	@DROMIA_SANDBOX_RACES=$(if $(filter file,$(origin N)),1000,$(N)) \
		$(CARGO) test --workspace --test it -- --nocapture --test-threads 1 no_race_for_a_name containers_hold bound_by_path

delegations: ## Compare N random trees of capability tokens (N=100000) with a reference that knows no token
	@DROMIA_CAPABILITY_TREES=$(if $(filter file,$(origin N)),100000,$(N)) \
		$(CARGO) test --workspace --test it -- allows_what_the_reference_allows

sequences: ## Compare N random sequences of batches (N=2000) on SQLite with the reference, from SEED or from anywhere
	@first="$(SEED)"; first=$${first:-$$((RANDOM * 32768 + RANDOM))}; \
		end=$$((first + $(if $(filter file,$(origin N)),2000,$(N)))); echo "sequences $$first..$$end"; \
		DROMIA_SEQUENCES=$$first..$$end TMPDIR=$(if $(wildcard /dev/shm/.),/dev/shm,/tmp) \
		$(CARGO) test --workspace --test it -- --nocapture sqlite_answers_random_sequences

conformance: ## Print every claim of every port with a suite, on each backend, and its planted fault; fails where one fails
	@$(CARGO) nextest run --workspace --no-capture --status-level none --final-status-level fail -E \
		'test(/_passes_the_suite$$/) | test(/^conformance::.*_is_caught$$/) | test(/^outbox::conformance::/) | (package(dromia-testkit) & test(/_is_caught$$/))' \
		| sed -n '/^|/p;/FAIL/p'

tenants: ## Play N random operations of two tenants (N=100000) on each store, and fewer over the routes: B must not see A
	@DROMIA_TENANT_OPS=$(if $(filter file,$(origin N)),100000,$(N)) TMPDIR=$(if $(wildcard /dev/shm/.),/dev/shm,/tmp) \
		$(CARGO) test --workspace --test it -- --nocapture a_tenant_as_if_it_were_alone

approvals: ## Kill the server around N approvals of each kind (N=100): each call runs once or is unknown
	@DROMIA_APPROVAL_KILLS=$(N) $(CARGO) test --workspace --test it -- --nocapture approvals_during_a_kill

fuzz: ## Fuzz every parser that a library shows for T seconds each (T=60); needs cargo-fuzz
	@scripts/fuzz.sh $(T)

foreign: ## Programs of others against the built binary: SDKs, schemathesis, aimock
	@$(CARGO) build --quiet --workspace --bins
	@scripts/foreign.sh $(TARGET) tests/foreign

chaos: ## Take N turns (N=2000) from a provider that mostly fails, and compare the ledger (SEED=1)
	@$(CARGO) build --quiet --workspace --bins
	@DROMIA_CHAOS_N=$(if $(filter file,$(origin N)),2000,$(N)) DROMIA_CHAOS_SEED=$(SEED) DROMIA_FOREIGN_S=3600 \
		scripts/foreign.sh $(TARGET) tests/foreign/test_chaos.py

eval-security: ## What a hijacked model gets done: AgentDojo replayed without a model (EVAL="--approver none --every 5")
	@$(CARGO) build --quiet --workspace --bins
	@scripts/eval-security.sh $(TARGET) $(EVAL)

bench: ## The figures of the README, beside the limits of this machine
	@$(CARGO) build --release --workspace --bins
	@$(TARGET)/release/dromia-bench run

mutants: ## Plant faults in the deciding code of one crate (CRATE=guard) and count what its tests notice; SHARD=0/40 for a part
	@scripts/mutants.sh $(TARGET) "$(CRATE)" $(if $(SHARD),--shard $(SHARD) --sharding round-robin) $(MUTANTS)

demo: ## A killed turn loses nothing: offline, half a minute (KEEP=1, and nothing else, leaves the server running)
	@$(CARGO) build --quiet --workspace --bin dromia
	@$(TARGET)/debug/dromia demo $(if $(filter 1,$(KEEP)),--keep)

release: ## Make a release folder (DIR=release): the program, its digest, the installer
	@scripts/release.sh $(or $(DIR),release)

docs: ## Write docs/errors.md and docs/schemas anew from the program
	@DROMIA_WRITE_DOCS=1 $(CARGO) test --quiet --workspace --lib --bins -- the_page_of_errors the_published_schemas

picture: ## Record the demo as docs/demo.svg
	@$(CARGO) build --release --workspace --bins
	@$(TARGET)/release/dromia-bench picture
