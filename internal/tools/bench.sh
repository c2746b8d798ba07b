#!/bin/bash
# Runs one benchmark: bench.sh WHAT. The environment holds its parameters. Each line
# with "##" below is one WHAT of "make help".
set -euo pipefail
cd "$(dirname "$0")/../.."

# lines prints what a Go benchmark says and its failures, and keeps its exit code.
lines() { grep --line-buffered -E "^ *($1|--- FAIL|FAIL)|_test.go"; }
large() { bench large ${CHANGES:+--changes="$CHANGES"} ${RESTARTS:+--restarts="$RESTARTS"} ${KUBE_PROXY:+--kube-proxy-plain="$KUBE_PROXY"} "$@"; }
bench() { internal/tools/packages.sh && go run ./e2e/cmd/bench "$@"; }

case ${1-} in
allocator) ## Time a decision over 10,000 Services on a full /16
	BENCH_ALLOCATOR=1 go test ./allocator -run BenchAllocator -count=1 -v | lines bench-allocator:
	;;
arp-flood) ## Send 100,000 foreign ARP requests a second to an announcing node for 10 s (root)
	internal/tools/packages.sh
	REQUIRE_ROOT=1 go test ./announcer/l2 -run '^TestFloodOfForeignARP$' -count=1 -v -args -measure | lines bench-
	;;
assign) ## Time 1,000 Services created at once until all have an address, in the lab (root)
	bench assign
	;;
bfd) ## Count BFD sessions that go down although nothing is wrong, on busy cores (root)
	internal/tools/packages.sh
	go test ./announcer/bfd/udp -run FalsePositives -count=1 -v -measure=60s | lines '.*bench-bfd:'
	;;
bgp) ## Time 5,000 VIPs, a withdrawal, a restart and a lost node at a real router, and a power loss in the lab; ROUTER=frr or bird there (root)
	internal/tools/packages.sh
	go test ./announcer/bgp/speaker -run Measure -count=1 -v -measure | lines '.*bench-bgp:'
	bench bgp ${ROUTER:+--router="$ROUTER"}
	;;
churn) ## Change 100 endpoints a second for a minute; requests to another Service must not fail; WRITERS=0,20ms,5ms in turn with kube-proxy, beside another program; RUNS=3 LENGTH=10s for less (root)
	bench churn ${WRITERS:+--writers="$WRITERS"} ${RUNS:+--runs="$RUNS"} ${LENGTH:+--length="$LENGTH"}
	;;
codec) ## Compare the engine's netlink codec with knftables, 10,000 Services (root)
	internal/tools/packages.sh
	go test ./proxy/nftables/netlink -run '^$' -bench '^BenchmarkAgainstKnftables$' -benchtime 1x
	;;
compile) ## Time what a change costs an agent, and a lost node, at 10,000 VIPs on 10 nodes and 2,000 on 500 (root)
	internal/tools/packages.sh
	REQUIRE_ROOT=1 go test ./internal/agent -run '^$' -bench '^BenchmarkStep$' -benchtime 20x -count=1 -timeout=30m
	;;
director) ## Compare connections by Masquerade, Direct and kube-proxy to pods on other nodes: rate, downloads, bytes on the owner's link, CPU; the same with a router between the nodes; then floods of SYNs and ACKs, and ns a packet; WAYS=Direct RUNS=2 for less (root)
	failed=0
	bench director ${WAYS:+--ways="$WAYS" --kube-proxy=false --write=false} ${RUNS:+--runs="$RUNS" --far-runs="$RUNS"} || failed=1
	REQUIRE_ROOT=1 go test ./internal/agent -run '^TestDirectFloods$' -count=1 -v -args -measure-floods | lines bench-director || failed=1
	go test ./proxy/director/program -run '^$' -bench '^BenchmarkProgram$' -benchtime=200000x -count=1 | lines Benchmark || failed=1
	exit $failed
	;;
eastwest) ## Compare how a pod reaches a pod: directly, by kube-proxy, by fairlead without and with eBPF; SIZES=1 RUNS=3 for less (root)
	bench eastwest ${SIZES:+--sizes="$SIZES"} ${RUNS:+--runs="$RUNS"}
	;;
kernels) ## Time one endpoint less beside 50 to 1,000 LoadBalancer Services on Linux 5.10 and 6.1 in QEMU; it may grow no faster than they do; KERNEL=6.12 (root, amd64)
	KERNEL=${KERNEL:-5.10,6.1} PKG=./proxy/nftables/netlink BENCH='OneEndpointLess/endpoints=3/services=(50|100|200|400|1000)$' BENCHTIME=10x \
		exec internal/tools/test.sh kernels
	;;
large) ## Measure 10,000 LoadBalancer Services, with kube-proxy, and 50,000 ClusterIP Services; CHANGES=20 RESTARTS=2 for less; KUBE_PROXY=15m with kube-proxy at 50,000 (root)
	large
	;;
members) ## Count what 500 agents' gossip costs each, in one process, and what 5,000 nodes cost one agent; MEMBERS=100 SLOW=10 for less
	GOGC=400 go test ./announcer/members -run '^TestSizes$' -count=1 -v -timeout=60m -args -sized="${MEMBERS:-500}" -slow="${SLOW:-30}" | lines '.*bench-members:'
	go test ./announcer/members -run '^$' -bench '^BenchmarkCrowd$' -benchtime 10x
	;;
memory) ## Measure an agent of 50,000 Services alone: memory, changes and restarts; CHANGES=20 RESTARTS=2 for less (root)
	large --balanced=0 --write=false
	;;
stalls) ## Count the addresses that move while agents stand still for 200 ms at random on busy cores, 30 minutes; LENGTH=3m for less (root)
	internal/tools/packages.sh
	length="${LENGTH:-30m}"
	REQUIRE_ROOT=1 FAIRLEAD_STALLS="$length" go test ./internal/agent -run '^TestStallsMoveNothing$' -count=1 -v -timeout=3h | lines 'bench-stalls:|.*moved from|.* says:'
	;;
failover) ## Let nodes and agents fail in the lab and count what a client sees; POWER_LOSSES=4 RUNS=2 ONLY=kill,drain for less (root)
	bench failover ${POWER_LOSSES:+--power-losses="$POWER_LOSSES"} ${RUNS:+--runs="$RUNS"} ${ONLY:+--only="$ONLY"}
	;;
proxy) ## Compare forwarding with kube-proxy's, 1 to 10,000 Services, then as WHAT=large KUBE_PROXY=15m; SIZES=100,1000 RUNS=3 LOADS=1 LARGE=0 for less (root)
	failed=0
	bench proxy ${SIZES:+--sizes="$SIZES"} ${RUNS:+--runs="$RUNS"} ${LOADS:+--loads="$LOADS"} || failed=1
	[ "${LARGE-}" = 0 ] || KUBE_PROXY=${KUBE_PROXY:-15m} large || failed=1
	exit $failed
	;;
repair) ## Time the repair of what others do to the engine's tables at 1,000 to 50,000 Services, and what watching costs others (root)
	internal/tools/packages.sh
	REQUIRE_ROOT=1 go test ./proxy/nftables/netlink -run '^$' -bench '^Benchmark(Repair|Listener)$' -benchtime 1x -count=1 -timeout=30m | lines bench-
	;;
size) ## Count what 500 simulated agents and the controller write, watch and cost a kube-apiserver with 50,000 Services; AGENTS=100 SERVICES=5000 for less
	bench size ${AGENTS:+--agents="$AGENTS"} ${SERVICES:+--services="$SERVICES"}
	;;
*)
	internal/tools/whats.sh internal/tools/bench.sh "${1:-(nothing)}"
	;;
esac
