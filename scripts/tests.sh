#!/usr/bin/env bash
# Runs every test but the kills, which have a phase of their own: by cargo-nextest where it is there.
set -euo pipefail
if cargo nextest --version >/dev/null 2>&1; then
  # Most of what a test does is wait: for a disk, for a child, for a condition.
  cargo nextest run --workspace --no-fail-fast --test-threads $((2 * $(nproc))) -E 'not binary(kills)'
  exec cargo test --workspace --doc --quiet
fi
exec cargo test --workspace --no-fail-fast -- --skip kill_storm
