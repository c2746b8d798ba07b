#!/bin/sh
# Writes everything that is generated: from the Go types in api/ the deepcopy
# methods beside them and the CRDs into the chart, from the code's metrics their
# page. Run from anywhere; a second run changes nothing.
set -eu
cd "$(dirname "$0")/../.."
export GOWORK=off

controller_gen() { go tool -modfile=internal/tools/go.mod controller-gen "$@"; }

crds=charts/fairlead/files/crds
mkdir -p "$crds"
# A kind that is gone must not leave its CRD behind.
rm -f "$crds"/fairlead.io_*.yaml
controller_gen object paths=./api/... crd paths=./api/... output:crd:dir="$crds"

go run ./internal/metricdoc docs/metrics.md
