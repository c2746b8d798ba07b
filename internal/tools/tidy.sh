#!/bin/sh
# Tidies the product's and the lab's go.mod. A few modules' version lists cannot
# be asked for everywhere, so versions that are named exactly are required.
set -eu
cd "$(dirname "$0")/../.."
for dir in . e2e; do
	(cd "$dir" && GOWORK=off GOFLAGS=-mod=mod go mod tidy)
done
