#!/bin/sh
# What the container runs: it creates a home in an empty volume, and then serves it. A home that is there is never changed.
set -eu
if [ ! -e "$DROMIA_HOME/dromia.yaml" ]; then
  dromia init --defaults --no-input
fi
exec dromia up "$@"
