#!/usr/bin/env bash
# Plants faults in one crate's deciding code and counts those that its tests notice.
#
#   scripts/mutants.sh TARGET CRATE [arguments of cargo mutants]
#
# CRATE is contracts, engine, gateway, guard or store; .cargo/mutants.toml says which files of it. Fails where fewer than 90 % are
# noticed or explained in .cargo/mutants-explained.tsv. MUTANTS_S bounds the whole run in seconds; what was not tried by then is
# said, and then nothing has passed.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
target=$1 crate=${2:-}
shift 2 || { echo "say which crate: make mutants CRATE=guard" >&2; exit 2; }
case $crate in
  contracts | engine | gateway | guard | store) ;;
  *) echo "CRATE is contracts, engine, gateway, guard or store" >&2; exit 2 ;;
esac
if ! cargo mutants --version >/dev/null 2>&1; then
  echo "cargo-mutants is missing; install it with: cargo install cargo-mutants --locked" >&2
  exit 2
fi
mkdir -p "$target/mutants/$crate"
out=$(cd "$target/mutants/$crate" && pwd)
cd "$root"
tool=cargo
cargo nextest --version >/dev/null 2>&1 && tool=nextest
rm -rf "$out/mutants.out" "$out/mutants.out.old"
# A copy that keeps its place and its times, and one target directory: a second run compiles only what has changed.
tree=$out/tree
mkdir -p "$tree"
find "$tree" -name '*.rs' -delete
git ls-files -z --cached --others --exclude-standard | xargs -0 cp --parents --preserve=timestamps -t "$tree" 2>/dev/null || true
# cargo-mutants plants `Ok(())` where it reads `Result`; what it makes of an alias does not compile.
find "$tree/crates/$crate/src" -name '*.rs' -exec sed -i -E \
  -e 's/-> Checked( \{|$)/-> Result<(), crate::apply::BatchCheckError>\1/' \
  -e 's/-> Checked<([^-]*)>( \{|$)/-> Result<\1, crate::apply::BatchCheckError>\2/' \
  -e 's/-> Answer<([^-]*)>( \{|$)/-> Result<\1, crate::failure::ApiError>\2/' {} +
export CARGO_TARGET_DIR=$out/../build CARGO_INCREMENTAL=1 CARGO_PROFILE_DEV_DEBUG=0 NEXTEST_PROFILE=mutants
cd "$tree"
listed=$out/listed.json
cargo mutants --package "dromia-$crate" --list --json "$@" >"$listed"
ended=0
timeout --signal=INT --kill-after=30 "${MUTANTS_S:-86400}" \
  cargo mutants --package "dromia-$crate" --in-place --test-tool "$tool" --no-shuffle --output "$out" "$@" || ended=$?
# 0: all noticed, 2: some were not, 3: some took too long. Anything else broke off.
case $ended in 0 | 2 | 3) ;; *) echo "cargo mutants broke off ($ended)" >&2 ;; esac
exec python3 "$root/scripts/mutants.py" "$listed" "$out/mutants.out/outcomes.json" "$root/.cargo/mutants-explained.tsv"
