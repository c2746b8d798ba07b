#!/bin/sh
# Runs a command and fails if it changes a file that git tracks or adds one.
set -eu
cd "$(dirname "$0")/../.."
state() { { git status --porcelain; git diff; } | sha256sum; }
before=$(state)
"$@"
if [ "$(state)" != "$before" ]; then
	echo "$* changed files; commit them:" >&2
	git status --short >&2
	exit 1
fi
