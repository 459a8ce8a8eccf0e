#!/usr/bin/env bash
# Runs tests/foreign: programs that nobody here wrote, against the built binary.
#
#   scripts/foreign.sh TARGET [pytest's arguments]
#
# Their environment is built below TARGET/foreign from the pinned versions, and anew when a pin changes. pip and npm take
# what this machine is configured to take.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
tests=$root/tests/foreign
mkdir -p "$1/foreign"
place=$(cd "$1/foreign" && pwd)
export DROMIA_BINARY=${DROMIA_BINARY:-$(cd "$1" && pwd)/debug/dromia}
shift
[ -x "$DROMIA_BINARY" ] || { echo "there is no program at $DROMIA_BINARY; build it first" >&2; exit 2; }

pins=$(cat "$tests/requirements.txt" "$tests/package.json" "$tests/package-lock.json" \
  <(python3 --version) <(node --version) | cksum | tr ' ' '-')
export DROMIA_FOREIGN=$place/$pins
if [ ! -e "$DROMIA_FOREIGN/complete" ]; then
  echo "building $DROMIA_FOREIGN"
  # Environments of other pins, and one that was not finished, go.
  find "$place" -mindepth 1 -maxdepth 1 -exec rm -rf {} +
  python3 -m venv "$DROMIA_FOREIGN/python"
  timeout 900 "$DROMIA_FOREIGN/python/bin/pip" install --quiet --disable-pip-version-check --no-deps \
    -r "$tests/requirements.txt"
  "$DROMIA_FOREIGN/python/bin/pip" check
  cp "$tests/package.json" "$tests/package-lock.json" "$DROMIA_FOREIGN/"
  (cd "$DROMIA_FOREIGN" && timeout 900 npm ci --no-audit --no-fund --ignore-scripts --loglevel=error)
  touch "$DROMIA_FOREIGN/complete"
fi

# `timeout` ends the whole group, so no server stays behind.
cd "$root"
exec timeout --kill-after=20 "${DROMIA_FOREIGN_S:-1800}" \
  "$DROMIA_FOREIGN/python/bin/python" -B -m pytest -p no:cacheprovider -p no:schemathesis --quiet --durations=5 "$@"
