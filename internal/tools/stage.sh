#!/bin/sh
# Runs one stage of a longer job and says how long it took: stage.sh NAME COMMAND...
set -u
name=$1
shift
echo "== $name"
began=$(date +%s)
"$@"
code=$?
took=$(($(date +%s) - began))
if [ "$code" = 0 ]; then
	echo "== $name: ok, $took s"
else
	echo "== $name: FAILED with exit code $code, $took s" >&2
fi
exit "$code"
