#!/usr/bin/env bash
# Replays AgentDojo against the built binary and writes TARGET/eval/security.json.
#
#   scripts/eval-security.sh TARGET [arguments of eval/security/replay.py]
#
# The environment is built below TARGET/eval from the pinned versions, and anew when a pin changes. No model is asked and
# nothing leaves this machine but what pip asks for.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
eval=$root/eval/security
mkdir -p "$1/eval"
place=$(cd "$1/eval" && pwd)
export DROMIA_BINARY=${DROMIA_BINARY:-$(cd "$1" && pwd)/debug/dromia}
shift
[ -x "$DROMIA_BINARY" ] || { echo "there is no program at $DROMIA_BINARY; build it first" >&2; exit 2; }

pins=$(cat "$eval/requirements.txt" <(python3 --version) | cksum | tr ' ' '-')
if [ ! -e "$place/$pins/complete" ]; then
  echo "building $place/$pins"
  find "$place" -mindepth 1 -maxdepth 1 -type d -exec rm -rf {} +
  python3 -m venv "$place/$pins"
  timeout 900 "$place/$pins/bin/pip" install --quiet --disable-pip-version-check --no-deps -r "$eval/requirements.txt"
  "$place/$pins/bin/pip" check
  touch "$place/$pins/complete"
fi

cd "$eval"
timeout --kill-after=20 600 "$place/$pins/bin/python" -B -m unittest --quiet
exec timeout --kill-after=20 "${DROMIA_EVAL_S:-3600}" \
  "$place/$pins/bin/python" -B replay.py --out "$place/security.json" "$@"
