#!/usr/bin/env bash
# Makes sure that what the tests need is there. On Debian or Ubuntu it installs what is missing, as root or by
# sudo, and prints the list first. Elsewhere it lists what is missing and exits 2.
set -euo pipefail

declare -A package_of=([cc]=gcc [make]=make [git]=git)
missing=()
for tool in "${!package_of[@]}"; do
  command -v "$tool" >/dev/null 2>&1 || missing+=("${package_of[$tool]}")
done
if ! command -v cargo >/dev/null 2>&1; then
  echo "cargo is missing; install Rust 1.95 or newer from https://rustup.rs" >&2
  exit 2
fi
[ ${#missing[@]} -eq 0 ] && exit 0

echo "needed packages: ${missing[*]}"
if ! command -v apt-get >/dev/null 2>&1; then
  echo "this is neither Debian nor Ubuntu; install them and run this again" >&2
  exit 2
fi
as_root=()
if [ "$(id -u)" -ne 0 ]; then
  command -v sudo >/dev/null 2>&1 || { echo "not root and no sudo; install them and run this again" >&2; exit 2; }
  as_root=(sudo)
fi
"${as_root[@]}" apt-get update -q
"${as_root[@]}" apt-get install -q -y --no-install-recommends "${missing[@]}"
