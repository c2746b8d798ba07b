#!/bin/sh
# Lists the choices of a script: its lines "NAME) ## SENTENCE". Arguments: SCRIPT and,
# after a choice that the script does not have, that choice; then it fails.
set -eu
if [ -n "${2-}" ]; then
	exec >&2
	echo "There is no WHAT=$2. There are:"
fi
sed -nE 's/^([a-z-]+)\) ## (.*)/\1\t\2/p' "$1" | sort | awk -F '\t' '{ printf "  %-12s %s\n", $1, $2 }'
[ -z "${2-}" ] || exit 2
