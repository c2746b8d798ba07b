#!/bin/sh
# Prints the path of a program, which it builds once from its pinned module into a
# cache outside the checkout: program.sh NAME DIRECTORY PACKAGE.
set -eu
cd "$(dirname "$0")/../.."
name=$1
key=$(sha256sum "$2/go.mod" | cut -c1-12)
program=${FAIRLEAD_LAB_CACHE:-/var/cache/fairlead-lab}/programs/$name-$key/$name
if [ ! -x "$program" ]; then
	echo "building $name (some minutes, once)" >&2
	mkdir -p "$(dirname "$program")"
	(cd "$2" && GOWORK=off CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o "$program.new" "$3")
	mv "$program.new" "$program"
fi
echo "$program"
