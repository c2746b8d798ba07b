#!/bin/sh
# Runs golangci-lint over the product and the lab. The program is built once
# from its pinned module into a cache outside the checkout.
set -eu
cd "$(dirname "$0")/../.."
root=$PWD
pinned=internal/tools/lint/go.mod
key=$(sha256sum "$pinned" | cut -c1-12)
program=${FAIRLEAD_LAB_CACHE:-/var/cache/fairlead-lab}/programs/golangci-lint-$key/golangci-lint
if [ ! -x "$program" ]; then
	echo "building golangci-lint (some minutes, once)"
	mkdir -p "$(dirname "$program")"
	(cd internal/tools/lint && GOWORK=off CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o "$program.new" github.com/golangci/golangci-lint/v2/cmd/golangci-lint)
	mv "$program.new" "$program"
fi
GOWORK=off "$program" run ./...
cd e2e && GOWORK=off "$program" run --config "$root/.golangci.yml" ./...
