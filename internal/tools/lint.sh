#!/bin/sh
# Runs golangci-lint over the product and the lab.
set -eu
cd "$(dirname "$0")/../.."
root=$PWD
program=$(internal/tools/program.sh golangci-lint internal/tools/lint github.com/golangci/golangci-lint/v2/cmd/golangci-lint)
GOWORK=off "$program" run ./...
cd e2e && GOWORK=off "$program" run --config "$root/.golangci.yml" ./...
