#!/bin/bash
# Runs one part of the tests: test.sh WHAT, or all of them without an argument. The
# environment holds its parameters. Each line with "##" below is one WHAT of
# "make help".
set -euo pipefail
cd "$(dirname "$0")/../.."

stage=internal/tools/stage.sh
# e2e runs the tests of a package in e2e/ that need real programs.
e2e() { env -C e2e FAIRLEAD_E2E=1 go test -count=1 "$@"; }
# results prints the outcome of each test.
results() { grep -E '^ *(---|ok|FAIL|[a-z_]+_test.go)'; }

# punctual matches the packages whose tests hold the product to times. They have the
# machine to themselves. They wait more than they work, so more of them run than there are
# processors.
punctual='/(announcer/(bfd|bgp|l2|members|watch)|internal/(agent|gate|link|server)|nodeport|proxy/(ebpf|nftables/netlink))(/|$)'

# timed matches what holds the controller to times. It runs when nothing runs beside it.
timed='^TestFairness$'

# unit runs the tests of packages, so many packages at a time: unit NAME COUNT PACKAGE...
unit() { $stage "$1" env REQUIRE_ROOT=1 go test -race -timeout=20m -p="$2" "${@:3}"; }

all() {
	local began=$SECONDS code=0 packages
	internal/tools/packages.sh
	mapfile -t packages < <(go list ./... | grep -E "$punctual")
	unit "unit and kernel tests that hold to times" "$(($(nproc) * 3 / 2))" "${packages[@]:?}"
	log=$(mktemp)
	set -m # a process group of its own, which ends with this script
	beside >"$log" 2>&1 &
	pid=$!
	set +m
	trap 'kill -- "-$pid" 2>/dev/null || :; rm -f "$log"' EXIT
	$stage "end-to-end stories" env -C e2e FAIRLEAD_E2E=1 go test -count=1 -v -timeout=45m ./stories/... || code=$?
	wait "$pid" || code=$?
	cat "$log"
	[ "$code" = 0 ] || exit "$code"
	$stage "fairness of the controller on a real API server" internal/tools/test.sh controller -run "$timed"
	echo "== all: ok, $((SECONDS - began)) s"
}

# beside is what runs while the stories wait, which they do most of the time: it gets the
# processors only when the lab leaves them.
beside() {
	local packages
	set -e
	chrt --idle -p 0 "$BASHPID" # or renice, which does not let others in at once
	mapfile -t packages < <(go list ./... | grep -vE "$punctual")
	unit "all other unit, story and kernel tests" "$(nproc)" "${packages[@]:?}"
	$stage "fuzz targets of what strangers send" internal/tools/fuzz.sh 1s announcer/bfd announcer/l2 internal/plain
	$stage "lab unit tests" env -C e2e go test -race ./...
	$stage "release and licences" env -C internal/tools/release GOWORK=off go test ./...
	$stage "controller on a real API server" internal/tools/test.sh controller -skip "$timed"
}

case ${1-} in
'')
	all
	;;
accelerate) ## Kill and restart the agent with eBPF under load, turn it off, clean up; the real programs on one node (root)
	internal/tools/packages.sh
	e2e -v -timeout=15m ./bench/forwarding -run TestAccelerate
	;;
change-over) ## Change from kube-proxy to fairlead and back under load, also unannounced, the real programs on one node (root)
	internal/tools/packages.sh
	e2e -v -timeout=15m ./bench/forwarding -run TestChangeOver
	;;
arm64) ## Run the tests of all packages that decide, as arm64 programs in QEMU
	internal/tools/packages.sh qemu-aarch64-static:qemu-user-static
	mapfile -t packages < <(grep -rl 'layertest\.Pure(' --include='*_test.go' . | xargs -n1 dirname | sort -u)
	CGO_ENABLED=0 GOARCH=arm64 go test -count=1 -vet=off -timeout=60m -exec=qemu-aarch64-static -skip='^TestPure' "${packages[@]:?}"
	;;
chart) ## Lint and render the chart with all value sets, and give the result to a real API server
	go test ./charts
	e2e -timeout=15m -v ./controller -run '^(TestRenderedObjects|TestHelm|TestGitOps|TestRetire|TestChart|TestRolesForPeople)$' | results
	;;
conformance) ## Run Kubernetes' own network tests against fairlead in the lab, by layer 2, by BGP and directed (root, 25 min); GROUP=loadbalancers|services|zones ANNOUNCE=l2|bgp|direct PROCS=6 FOCUS=
	internal/tools/packages.sh
	internal/tools/packages.sh mmdebstrap:mmdebstrap /usr/share/keyrings/debian-archive-keyring.gpg:debian-archive-keyring
	go run ./e2e/cmd/conformance ${GROUP:+-groups="$GROUP"} ${ANNOUNCE:+-announce="$ANNOUNCE"} ${PROCS:+-procs="$PROCS"} ${FOCUS:+-focus="$FOCUS"}
	;;
controller) ## Run the controller on a real API server without nodes
	e2e -race -timeout=15m ./controller "${@:2}"
	;;
docs) ## Run or check every command and YAML block of README and docs
	go test ./docs
	go test ./charts ./internal/cli -run "Doc|Readme|Told|Code"
	e2e -timeout=15m -v ./controller -run '^TestDocs' | results
	;;
fuzz) ## Run each fuzz target for a while; FOR=10s
	internal/tools/fuzz.sh "${FOR:-10s}"
	;;
kernels) ## Run the kernel tests on Linux 5.10, 6.1, 6.12 and 7 in QEMU (root, amd64); KERNEL=5.10 PKG=./proxy/ebpf RUN=TestPinned BENCH=. BENCHTIME=10x LESS=ipv6 FRESH=1
	internal/tools/packages.sh qemu-system-x86_64:qemu-system-x86 nft:nftables ip:iproute2 ping:iputils-ping conntrack:conntrack \
		sysctl:procps setpriv:util-linux modprobe:kmod xz:xz-utils /etc/protocols:netbase \
		/usr/share/keyrings/debian-archive-keyring.gpg:debian-archive-keyring
	go run ./e2e/cmd/kernels ${KERNEL:+-kernel="$KERNEL"} ${PKG:+-pkg="$PKG"} ${RUN:+-run="$RUN"} \
		${BENCH:+-bench="$BENCH"} ${BENCHTIME:+-benchtime="$BENCHTIME"} ${LESS:+-less="$LESS"} ${FRESH:+-fresh}
	;;
labs) ## Check the scripts of labs/, and run them in network namespaces and in the lab, with examples/monitoring (root)
	internal/tools/packages.sh
	internal/tools/packages.sh ruby:ruby shellcheck:shellcheck
	$stage "the labs' shell scripts" shellcheck labs/scripts/*.sh
	$stage "the Vagrantfile's syntax" ruby -c labs/vagrant/Vagrantfile
	$stage "the labs' scripts in network namespaces" e2e/labs/run.sh
	$stage "the labs' other scripts and examples/monitoring in the lab" env -C e2e FAIRLEAD_E2E=1 go test -count=1 -v -timeout=15m ./stories -run "$(internal/tools/stories.sh 'TestLabs|TestMonitoringExample')"
	;;
licences) ## Check the licences of all modules in the programs
	GOWORK=off go run -C internal/tools/release . -root "$PWD" -licences
	;;
metrics) ## Check metrics, alerts and dashboards, with a Prometheus that reads the lab (root)
	internal/tools/packages.sh
	$stage "metrics and their page, alerts, runbooks, dashboards" go test -count=1 ./internal/metricdoc ./charts -run 'Page|Lint|Alerts|Runbooks|Dashboards|Metrics|Monitoring'
	$stage "Prometheus in the lab" env -C e2e FAIRLEAD_E2E=1 go test -count=1 -v -timeout=20m ./monitoring
	;;
release) ## Make a release twice, the second time elsewhere from nothing, and compare: VERSION=v0.1.0 (15 min)
	internal/tools/release-again.sh "${VERSION:?a version, such as v0.1.0}"
	;;
upgrade) ## Upgrade a cluster under load from a release or commit, and go back, in the lab; FROM=v0.1.0, without it the newest release (root)
	internal/tools/packages.sh
	go run ./e2e/cmd/lab upgrade ${FROM:+--from="$FROM"}
	;;
versions) ## Run the controller, and stories in the lab, on Kubernetes 1.29, 1.33 and 1.36 (root; 10 CPU minutes for each before, once); KUBERNETES=1.29
	echo "Kubernetes ${KUBERNETES:-1.29, 1.33 and 1.36}: 10 minutes for each. The first time an older one is built before: 10 minutes of CPU time"
	[ "$(id -u)" = 0 ] || { echo "the lab makes network namespaces: run this as root" >&2 && exit 1; }
	for version in ${KUBERNETES:-}; do
		[ "$version" = 1.36 ] || [ -e "e2e/programs/kubernetes-$version" ] || { echo "KUBERNETES=$version is none of 1.29, 1.33 and 1.36" >&2 && exit 2; }
	done
	internal/tools/packages.sh
	stories=$(internal/tools/stories.sh 'TestEveryPath|TestIPv6Only|TestUDPService|TestServicesThatPeopleWrite|TestHostPort|TestPodsAreReplaced|TestAgentsAreRolledOut|TestAgentKilled|TestNodeWithoutPower|TestBadPool|TestServiceThatAsks')
	for version in ${KUBERNETES:-1.29 1.33 1.36}; do
		FAIRLEAD_KUBERNETES=$version
		[ "$version" != 1.36 ] || FAIRLEAD_KUBERNETES= # the lab's own
		export FAIRLEAD_KUBERNETES
		$stage "controller on Kubernetes $version, without nodes" env -C e2e FAIRLEAD_E2E=1 go test -count=1 -timeout=30m ./controller
		$stage "stories on Kubernetes $version" env -C e2e FAIRLEAD_E2E=1 go test -count=1 -v -timeout=30m ./stories -run "$stories"
	done
	;;
*)
	internal/tools/whats.sh internal/tools/test.sh "$1"
	;;
esac
