#!/usr/bin/env bash
# The pinned peers in a virtual environment, and the data of the nightly rows. Does nothing twice.
# The larger rows (S6, S7, S8) make their data when they first run.
set -euo pipefail
cd "$(dirname "$0")"
peers="${RETRIGGER_PEERS:-$HOME/.cache/retrigger-peers}"
data="${RETRIGGER_DATA:-$HOME/.cache/retrigger-data}"

[ -x "$peers/bin/python" ] || "${PYTHON:-python3}" -m venv "$peers"
"$peers/bin/pip" install --quiet --disable-pip-version-check -r requirements.txt
mkdir -p "$data"
nightly="$data/triggers-5000000-of-1000000-in-8"
[ -e "$nightly.ndjson" ] || "$peers/bin/python" make_data.py 5000000 1000000 "$nightly"
echo "peers in $peers, data in $data; now: ./compare.sh"
