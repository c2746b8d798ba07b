#!/bin/bash
# Runs the fuzz targets of some folders, or all, for a while: fuzz.sh TIME FOLDER..., the time
# as "go test -fuzztime" reads it. Go keeps an input that fails in testdata/fuzz beside the
# test, which runs it from then on.
set -euo pipefail
cd "$(dirname "$0")/../.."

time=$1
shift
[ $# -gt 0 ] || set -- .
count=0
while IFS=: read -r file target; do
	go test -run='^$' -fuzz="^${target#func }\$" -fuzztime="$time" "./$(dirname "$file")"
	count=$((count + 1))
done < <(grep -roE '^func Fuzz[A-Za-z0-9]+' --include='*_test.go' "$@" | sort)
# A script that finds nothing would say that all is well.
[ "$count" -gt 0 ] || { echo "there is no fuzz target in $*" >&2; exit 1; }
echo "$count fuzz targets, $time each"
