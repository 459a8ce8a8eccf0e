#!/usr/bin/env bash
# Makes sure that what the tests need is there. On Debian or Ubuntu it installs what is missing, as root or by
# sudo, and prints the list first. Elsewhere it lists what is missing and exits 2.
set -euo pipefail

declare -A package_of=([cc]=gcc [make]=make [git]=git [curl]=curl [python3]=python3 [node]=nodejs [npm]=npm)
# What the walls around programs of agents are tried with.
package_of+=([bwrap]=bubblewrap [runsc]=runsc [dockerd]=docker.io [setpriv]=util-linux)
# What is executed is compared with what was judged by strace; the way out is tried in networks that ip makes.
package_of+=([strace]=strace [ip]=iproute2)
# The shells that completions are tried in, beside bash.
package_of+=([zsh]=zsh [fish]=fish)
missing=()
for tool in "${!package_of[@]}"; do
  command -v "$tool" >/dev/null 2>&1 || missing+=("${package_of[$tool]}")
done
# Of this the file system of a container is made; a dynamic one would not do.
[ -x /bin/busybox ] || missing+=(busybox-static)
# Debian packs what makes an environment apart from Python itself.
python3 -c 'import ensurepip, venv' >/dev/null 2>&1 || missing+=(python3-venv)
if ! command -v cargo >/dev/null 2>&1; then
  echo "cargo is missing; install Rust 1.95 or newer from https://rustup.rs" >&2
  exit 2
fi

install() {
  echo "needed packages: $*"
  if ! command -v apt-get >/dev/null 2>&1; then
    echo "this is neither Debian nor Ubuntu; install them and run this again" >&2
    exit 2
  fi
  local as_root=()
  if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null 2>&1 || { echo "not root and no sudo; install them and run this again" >&2; exit 2; }
    as_root=(sudo)
  fi
  "${as_root[@]}" apt-get update -q
  "${as_root[@]}" apt-get install -q -y --no-install-recommends "$@"
}

[ ${#missing[@]} -eq 0 ] || install "${missing[@]}"

# A release is linked with musl; that it compiles is checked.
static=$(uname -m)-unknown-linux-musl
if ! [ -d "$(rustc --print target-libdir --target "$static")" ]; then
  command -v rustup >/dev/null 2>&1 || { echo "Rust's library for $static is missing; install it beside rustc" >&2; exit 2; }
  rustup target add "$static"
fi

# What a distribution packs may be older than what the clients and the mock run on.
if ! python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
  echo "$(python3 --version) is too old; Python 3.11 or newer must come first on PATH" >&2
  exit 2
fi
if ! node -e 'const [a, b] = process.versions.node.split("."); process.exit(+a > 20 || (+a === 20 && +b >= 15) ? 0 : 1)'; then
  echo "node $(node --version) is too old; Node.js 20.15 or newer must come first on PATH" >&2
  exit 2
fi
