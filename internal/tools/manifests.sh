#!/bin/sh
# Prints the chart as one file for kubectl apply, with the defaults of docs/install.md:
# manifests.sh CHART, which is a folder or a package.
set -eu
chart=$(realpath "$1")
cd "$(dirname "$0")/../.."
GOWORK=off exec go tool -modfile=internal/tools/go.mod helm template fairlead "$chart" \
	--namespace fairlead-system --no-hooks --set namespace.create=true
