#!/usr/bin/env bash
# Makes a release folder: one program for this machine's architecture, its digest, and the installer. The program is
# static (musl) where this machine can build that, else it needs a glibc as new as this machine's, and the folder says so.
#
#   scripts/release.sh DIR [PROGRAM]
#
# With PROGRAM that file is packed, and nothing is built.
set -euo pipefail

[ $# -ge 1 ] || { echo "usage: scripts/release.sh DIR [PROGRAM]" >&2; exit 2; }
out=$1
program=${2:-}
here=$(cd "$(dirname "$0")" && pwd)
machine=$(uname -m)
target=$machine-unknown-linux-musl
name=dromia-$machine-linux

if [ -z "$program" ]; then
  cd "$here/.."
  directory=${CARGO_TARGET_DIR:-target}
  # SQLite, ring and the allocator are C: the target alone is not enough.
  if rustc --print target-libdir --target "$target" 2>/dev/null | xargs -r test -d && command -v musl-gcc >/dev/null; then
    cargo build --release --locked --package dromia --bin dromia --target "$target"
    program=$directory/$target/release/dromia
  else
    echo "no static build here (it needs \`rustup target add $target\` and musl-gcc); the program will need this machine's glibc or a newer one" >&2
    cargo build --release --locked --package dromia --bin dromia
    program=$directory/release/dromia
  fi
fi

mkdir -p "$out"
install -m 755 "$program" "$out/$name"
install -m 755 "$here/install.sh" "$out/install.sh"
(cd "$out" && sha256sum "$name" > SHA256SUMS)
linked=static
if needs=$(ldd "$out/$name" 2>/dev/null) && grep -q 'libc\.so' <<< "$needs"; then
  linked="linked with glibc; it needs $(getconf GNU_LIBC_VERSION 2>/dev/null || echo 'the glibc of the machine that built it') or newer"
fi
printf '%s\n%s\n' "$("$out/$name" version)" "$linked" > "$out/VERSION"
cat "$out/VERSION" "$out/SHA256SUMS"
