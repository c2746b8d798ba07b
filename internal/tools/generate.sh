#!/bin/sh
# Writes what is generated without a C compiler: from the Go types in api/ the deepcopy
# methods beside them and the CRDs into the chart, from the code's metrics their page.
# With the argument "bpf" it writes the eBPF objects instead, with "screenshots" the
# pictures of docs/ui.md, by Chromium. Run from anywhere; a
# second run changes nothing.
set -eu
cd "$(dirname "$0")/../.."
case ${1-} in
'') ;;
bpf) exec internal/tools/generate-bpf.sh ;;
screenshots)
	internal/tools/packages.sh chromium:chromium
	shots=$(mktemp -d)
	trap 'rm -rf "$shots"' EXIT
	FAIRLEAD_SCREENSHOTS="$shots" go test -count=1 -run TestUI/pages ./internal/cli
	for page in overview service timeline overview-phone service-dark; do
		install -D -m 644 "$shots/$page.png" "docs/images/ui-$page.png"
	done
	exit
	;;
*)
	echo "There is no WHAT=$1. There are bpf, for the eBPF programs, screenshots, for docs/ui.md, and no WHAT for all else." >&2
	exit 2
	;;
esac
export GOWORK=off

controller_gen() { go tool -modfile=internal/tools/go.mod controller-gen "$@"; }

crds=charts/fairlead/files/crds
mkdir -p "$crds"
# A kind that is gone must not leave its CRD behind.
rm -f "$crds"/fairlead.io_*.yaml
controller_gen object paths=./api/... crd paths=./api/... output:crd:dir="$crds"

go run ./internal/metricdoc docs/metrics.md
