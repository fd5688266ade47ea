#!/usr/bin/env bash
# Build, run the rows (all, or those named), check that the messages are the same, print the table.
# usage: compare.sh [S1 S2 …] [options of compare.py]
set -euo pipefail
cd "$(dirname "$0")"
export RETRIGGER_DATA="${RETRIGGER_DATA:-$HOME/.cache/retrigger-data}"
python="${RETRIGGER_PEERS:-$HOME/.cache/retrigger-peers}/bin/python"
[ -x "$python" ] || { echo "no peers yet: run ./setup.sh first" >&2; exit 2; }

# RETRIGGER names a binary to measure instead of this repository's.
[ -n "${RETRIGGER:-}" ] || cargo build --release --locked --manifest-path ../../Cargo.toml
results="$RETRIGGER_DATA/results.json"
status=0
"$python" compare.py ${RETRIGGER:+--binary "$RETRIGGER"} --json "$results" "$@" || status=$?
"$python" results_table.py "$results"
exit "$status"
