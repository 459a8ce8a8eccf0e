#!/usr/bin/env bash
# Runs one phase and prints how long it took.
set -euo pipefail
name=$1
shift
# Cargo asks nobody how many jobs it may have, whoever made this a job of make.
unset MAKEFLAGS MFLAGS MAKELEVEL
began=$(date +%s)
echo "== $name"
"$@"
echo "== $name took $(($(date +%s) - began)) s"
