#!/bin/sh
# Checks the workflows with actionlint, from its pinned module.
set -eu
cd "$(dirname "$0")/../.."
GOWORK=off go tool -modfile=internal/tools/workflows/go.mod actionlint
