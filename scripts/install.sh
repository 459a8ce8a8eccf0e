#!/bin/sh
# Installs a release of dromia: checks its digest, starts it once, and moves it into place. Needs no root and changes no
# file of your shell. It refuses a file whose digest is missing or differs, a program that does not start, and addresses
# without TLS.
set -eu

usage() {
  cat <<'END'
Usage: install.sh [--from DIR|URL] [--dir DIR] [--sha256 DIGEST] [--dry-run]

  --from DIR|URL    the release: a directory, or an https:// address [default: the directory of this script]
  --dir DIR         where to install [default: ~/.local/bin]
  --sha256 DIGEST   the digest that the program must have, from a place that you trust more than the release
  --dry-run         say what would be done, and change nothing

Digests that lie beside a program show damage. Against a forged release, compare with --sha256.
END
}

fail() {
  echo "install.sh: $1" >&2
  exit 1
}

from=$(dirname "$0")
dir=${HOME:+$HOME/.local/bin}
wanted=
dry=
while [ $# -gt 0 ]; do
  case $1 in
    --from | --dir | --sha256)
      [ $# -ge 2 ] || fail "$1 needs a value; see --help"
      case $1 in
        --from) from=$2 ;;
        --dir) dir=$2 ;;
        --sha256) wanted=$2 ;;
      esac
      shift
      ;;
    --dry-run) dry=1 ;;
    -h | --help)
      usage
      exit 0
      ;;
    *) fail "unknown option $1; see --help" ;;
  esac
  shift
done
[ -n "$dir" ] || fail "HOME is not set; name a directory with --dir"

[ "$(uname -s)" = Linux ] || fail "dromia runs on Linux only, and this is $(uname -s)"
case $(uname -m) in
  x86_64 | amd64) machine=x86_64 ;;
  aarch64 | arm64) machine=aarch64 ;;
  *) fail "there is no release for $(uname -m); build it from source" ;;
esac
name=dromia-$machine-linux
command -v sha256sum >/dev/null || fail "sha256sum is missing; install coreutils"

# Copies a file of the release here.
fetch() {
  case $from in
    https://*)
      if command -v curl >/dev/null; then
        curl --proto '=https' --fail --silent --show-error --location --output "$2" "${from%/}/$1"
      elif command -v wget >/dev/null; then
        wget --https-only --quiet --output-document="$2" "${from%/}/$1"
      else
        fail "neither curl nor wget is there; download the release and name its directory with --from"
      fi
      ;;
    *://*) fail "$from: only https:// addresses and directories are taken" ;;
    *) cp "${from%/}/$1" "$2" ;;
  esac || fail "failed to get $1 from $from"
}

if [ -n "$dry" ]; then
  echo "would get    $name and SHA256SUMS from $from"
  echo "would check  its digest, and that it starts"
  echo "would write  $dir/dromia"
  exit 0
fi

mkdir -p "$dir" || fail "failed to create $dir; name another directory with --dir"
# Beside its place, so that the last step is a rename and not a copy.
work=$(mktemp -d "$dir/.dromia-install-XXXXXX") || fail "failed to write to $dir; name another directory with --dir"
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM

fetch SHA256SUMS "$work/SHA256SUMS"
fetch "$name" "$work/$name"
listed=$(awk -v name="$name" '$2 == name || $2 == "*" name { print $1 }' "$work/SHA256SUMS")
[ -n "$listed" ] || fail "SHA256SUMS of $from has no digest of $name; nothing was installed"
found=$(sha256sum "$work/$name" | cut -d ' ' -f 1)
for digest in $listed ${wanted:+"$wanted"}; do
  [ "$found" = "$digest" ] || fail "$name has the digest $found, and $digest was expected; nothing was installed"
done

chmod 755 "$work/$name"
version=$("$work/$name" version) || fail "$name does not start on this machine; nothing was installed"
mv -f "$work/$name" "$dir/dromia"
echo "installed $version in $dir/dromia (digest $found)"

case :${PATH:-}: in
  *:"$dir":*) ;;
  *) echo "add it to your path:  export PATH=\"$dir:\$PATH\"" ;;
esac
echo "next:  dromia demo"
