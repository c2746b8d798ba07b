#!/bin/bash
# Runs every fuzz target for a while: fuzz.sh TIME, as "go test -fuzztime" reads it. Go keeps
# an input that fails in testdata/fuzz beside the test, which runs it from then on.
set -euo pipefail
cd "$(dirname "$0")/../.."

files() { grep -rlE '^func Fuzz' --include='*_test.go' . | sort; }
targets() { sed -nE 's/^func (Fuzz[A-Za-z0-9]+)\(f \*testing\.F\).*/\1/p' "$1"; }

count=0
for file in $(files); do
	for target in $(targets "$file"); do
		go test -run='^$' -fuzz="^$target\$" -fuzztime="$1" "$(dirname "$file")"
		count=$((count + 1))
	done
done
# A script that finds nothing would say that all is well.
[ "$count" -gt 10 ] || { echo "only $count fuzz targets were found" >&2; exit 1; }
echo "$count fuzz targets, $1 each"
