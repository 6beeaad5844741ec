#!/bin/sh
# Runs a command with a broker of its own, in memory, on a free port; ends with the command's exit code.
#
#   with-broker.sh npm test        # BOOTSTRAP_SERVERS says where the broker is
set -eu
folder=$(mktemp -d)
mkfifo "$folder/stdout"
odradek serve --memory --listen 127.0.0.1:0 >"$folder/stdout" 2>"$folder/stderr" &
broker=$!
trap 'kill "$broker" 2>/dev/null || true; wait "$broker" || true; rm -r "$folder"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
# Odradek 0.1.0 is ready on 127.0.0.1:40257 (data in memory only)
read -r line <"$folder/stdout" || { cat "$folder/stderr" >&2; exit 1; }
BOOTSTRAP_SERVERS=$(echo "$line" | sed 's/.* is ready on \([^ ]*\) .*/\1/')
export BOOTSTRAP_SERVERS
"$@"
