#!/usr/bin/env bash
# Runs one phase and prints how long it took.
set -euo pipefail
name=$1
shift
began=$(date +%s)
echo "== $name"
"$@"
echo "== $name took $(($(date +%s) - began)) s"
