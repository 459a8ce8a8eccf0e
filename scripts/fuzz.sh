#!/usr/bin/env bash
# Fuzzes each target for so many seconds, beginning with its corpus. New inputs go below target/, so the corpus changes
# only by hand; what breaks a property lies in fuzz/artifacts and belongs into the corpus once it is mended.
set -euo pipefail
seconds=${1:-60}
if ! cargo fuzz --version >/dev/null 2>&1; then
  echo "cargo-fuzz is missing; install it with \`cargo install cargo-fuzz\`" >&2
  exit 2
fi
for file in fuzz/fuzz_targets/*.rs; do
  name=$(basename "$file" .rs)
  grown=${CARGO_TARGET_DIR:-target}/fuzz-corpus/$name
  mkdir -p "$grown"
  echo "fuzzing $name for $seconds s"
  # The sanitizer is an unstable flag; this lets the stable compiler take it.
  RUSTC_BOOTSTRAP=1 cargo fuzz run "$name" "$grown" "fuzz/corpus/$name" -- \
    -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -max_len=65536
done
