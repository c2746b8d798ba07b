# fairlead: make help lists the targets.
SHELL := /bin/bash
.DEFAULT_GOAL := help

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
STAGE   := internal/tools/stage.sh
# The flags are those of the programs that the lab builds: Go's library is compiled once.
LAB     := CGO_ENABLED=0 GOGC=400 go build -buildvcs=false -trimpath -o bin/lab ./e2e/cmd/lab && bin/lab
# Programs that build and tests need, with the Debian packages that hold them.
NEEDS   := gcc:gcc nft:nftables ip:iproute2 ping:iputils-ping conntrack:conntrack sysctl:procps git:git /usr/lib/frr/bgpd:frr bird:bird2 promtool:prometheus

.PHONY: help
help: ## List the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sort | awk -F ':.*## ' '{printf "  %-16s %s\n", $$1, $$2}'

.PHONY: build
build: ## Build bin/fairlead, a static binary
	CGO_ENABLED=0 GOWORK=off go build -trimpath -ldflags "-s -w -X main.version=$(VERSION)" -o bin/fairlead ./cmd/fairlead

.PHONY: demo
demo: $(if $(filter bgp,$(ANNOUNCE)),packages) ## Show the main job on a real cluster on this machine (root; KEEP=1 leaves it up; ANNOUNCE=bgp: through a router, ROUTER=frr or bird)
	@[ -x bin/lab ] || echo "building the lab's command, and for it Go's standard library: a minute of CPU"
	@$(LAB) demo $(if $(ANNOUNCE),--announce=$(ANNOUNCE)) $(if $(ROUTER),--router=$(ROUTER))

.PHONY: demo-down
demo-down: ## Remove the cluster that make demo KEEP=1 left
	@$(LAB) down

.PHONY: test
test: packages ## Run everything: unit, stories, kernel, chart and end-to-end tests (root)
	@began=$$(date +%s); \
	$(STAGE) "unit, story and kernel tests" env REQUIRE_ROOT=1 go test -race ./... && \
	$(STAGE) "lab unit tests" env -C e2e go test -race ./... && \
	$(STAGE) "release and licences" env -C internal/tools/release GOWORK=off go test ./... && \
	$(STAGE) "controller on a real API server" $(MAKE) --no-print-directory test-controller && \
	$(STAGE) "end-to-end stories" env -C e2e FAIRLEAD_E2E=1 go test -count=1 -v -timeout=45m ./stories/... && \
	echo "== all: ok, $$(($$(date +%s) - began)) s"

.PHONY: unit
unit: ## Run the tests that need neither root nor a cluster
	go test -race ./...

.PHONY: e2e
e2e: packages ## Run the end-to-end stories in the lab (root); RUN=Name picks some
	@env -C e2e FAIRLEAD_E2E=1 go test -count=1 -v -timeout=45m ./stories/... -run '$(RUN)'

.PHONY: e2e-kind
e2e-kind: ## Run them in a cluster of kind instead, which needs Docker; FAMILY=ipv4|ipv6|dual ANNOUNCE=bgp PROXY=1 IMAGE=kindest/node:… RUN=Name
	@go build -o bin/e2e-kind ./e2e/cmd/kind && bin/e2e-kind $(if $(FAMILY),-family=$(FAMILY)) $(if $(PROXY),-kube-proxy) $(if $(ANNOUNCE),-announce=$(ANNOUNCE)) $(if $(IMAGE),-image=$(IMAGE)) -run='$(RUN)'

.PHONY: coverage-spec
coverage-spec: ## Count the numbered behaviours of a Service proxy that a test names
	@GOWORK=off go run -C internal/tools ./speccover $(CURDIR)

.PHONY: test-controller
test-controller: ## Run the controller's tests on a real API server without nodes (no root)
	@env -C e2e FAIRLEAD_E2E=1 go test -race -count=1 -timeout=15m ./controller

.PHONY: chart-test
chart-test: ## Lint and render the chart over all value sets, and give what comes out to a real API server (no root)
	@go test ./charts
	@env -C e2e FAIRLEAD_E2E=1 go test -count=1 -timeout=15m -v ./controller -run '^(TestRenderedObjects|TestHelm|TestRetire|TestChart|TestRolesForPeople)$$' | grep -E '^ *(---|ok|FAIL|[a-z_]+_test.go)'

.PHONY: docs-test
docs-test: ## Run or check every command and YAML block of README and docs (no root)
	@go test ./charts ./internal/cli -run "Doc|Readme|Told|Code"
	@env -C e2e FAIRLEAD_E2E=1 go test -count=1 -timeout=15m -v ./controller -run '^TestDocs' | grep -E '^ *(---|ok|FAIL|[a-z_]+_test.go)'

.PHONY: test-versions
test-versions: ## Run them on the oldest Kubernetes, v1.29 (no root; builds it first, 10 CPU minutes once)
	@env -C e2e FAIRLEAD_E2E=1 FAIRLEAD_KUBERNETES=1.29 go test -count=1 -timeout=30m ./controller

.PHONY: bench-allocator
bench-allocator: ## Time a decision over 10,000 Services on a full /16
	@BENCH_ALLOCATOR=1 go test ./allocator -run BenchAllocator -count=1 -v | grep -E '^ *(bench-allocator:|--- FAIL|FAIL)|_test.go'

.PHONY: bench-assign
bench-assign: packages ## Time 1,000 Services created at once until all have an address, in the lab (root)
	@go run ./e2e/cmd/bench assign

.PHONY: bench-proxy
bench-proxy: packages ## Compare forwarding with kube-proxy's, 1 to 10,000 Services; SIZES=100,1000 RUNS=3 LOADS=1 for less (root)
	@go run ./e2e/cmd/bench proxy $(if $(SIZES),--sizes=$(SIZES)) $(if $(RUNS),--runs=$(RUNS)) $(if $(LOADS),--loads=$(LOADS))

.PHONY: bench-eastwest
bench-eastwest: packages ## Compare a pod reaching a pod: itself, by kube-proxy, by fairlead without and with eBPF; SIZES=1 RUNS=3 for less (root)
	@go run ./e2e/cmd/bench eastwest $(if $(SIZES),--sizes=$(SIZES)) $(if $(RUNS),--runs=$(RUNS))

.PHONY: bench-churn
bench-churn: packages ## Change 100 endpoints a second for a minute; requests to another Service must not fail (root)
	@go run ./e2e/cmd/bench churn

.PHONY: test-change-over
test-change-over: packages ## Change from kube-proxy to fairlead and back under load, the real programs on one node (root)
	@env -C e2e FAIRLEAD_E2E=1 go test -count=1 -v -timeout=15m ./bench/forwarding -run TestChangeOver

.PHONY: test-accelerate
test-accelerate: packages ## Kill and restart the agent with eBPF under load, turn it off, clean up; the real programs on one node (root)
	@env -C e2e FAIRLEAD_E2E=1 go test -count=1 -v -timeout=15m ./bench/forwarding -run TestAccelerate

.PHONY: test-upgrade
test-upgrade: packages ## Upgrade a cluster from an earlier revision under load, in the lab (root); FROM=COMMIT, without it the newest tag
	@$(LAB) upgrade $(if $(FROM),--from=$(FROM))

.PHONY: bench-arp-flood
bench-arp-flood: packages ## Send 100,000 foreign ARP requests a second to an announcing node for 10 s (root)
	@REQUIRE_ROOT=1 go test ./announcer/l2 -run '^TestFloodOfForeignARP$$' -count=1 -v -args -measure | grep -E '^(bench-|--- FAIL|FAIL)|_test.go'

.PHONY: bench-failover
bench-failover: packages ## Let nodes and agents fail in the lab and count what a client sees (root); POWER_LOSSES=4 RUNS=2 ONLY=kill,drain for less
	@go run ./e2e/cmd/bench failover $(if $(POWER_LOSSES),--power-losses=$(POWER_LOSSES)) $(if $(RUNS),--runs=$(RUNS)) $(if $(ONLY),--only=$(ONLY))

.PHONY: release
release: packages ## Make every file of a release into dist/: VERSION=v0.1.0; OS=linux for the programs of one system
	@GOWORK=off go run -C internal/tools/release . -root $(CURDIR) -out $(CURDIR)/dist -version $(VERSION) $(if $(OS),-os=$(OS))

.PHONY: test-release
test-release: packages ## Make a release twice, the second time elsewhere from nothing, and compare: VERSION=v0.1.0 (15 min)
	@internal/tools/release/again.sh $(VERSION)

.PHONY: licences
licences: packages ## Check the licences of all modules in the programs
	@GOWORK=off go run -C internal/tools/release . -root $(CURDIR) -licences

.PHONY: packages
packages: ## Install the Debian packages that build and tests need, if missing
	@internal/tools/packages.sh $(NEEDS)

.PHONY: generate
generate: ## Write deepcopy methods, CRDs and docs/metrics.md from the code
	@internal/tools/generate.sh

.PHONY: generate-bpf
generate-bpf: ## Compile the eBPF programs (clang 14; root installs it) and write the Go code that loads them
	@internal/tools/generate-bpf.sh

.PHONY: verify
verify: packages ## Check that generated files are current, modules tidy, code formatted and lint-clean
	@$(STAGE) "generated files" internal/tools/unchanged.sh internal/tools/generate.sh && \
	$(STAGE) "eBPF objects" internal/tools/unchanged.sh internal/tools/generate-bpf.sh && \
	$(STAGE) "module files" internal/tools/unchanged.sh internal/tools/tidy.sh && \
	$(STAGE) "shell scripts" internal/tools/shell.sh && \
	$(STAGE) "workflows" internal/tools/workflows.sh && \
	$(STAGE) "licences" $(MAKE) --no-print-directory licences && \
	$(STAGE) "lint" internal/tools/lint.sh

.PHONY: metrics-test
metrics-test: packages ## Check metrics, alerts and dashboards, with a Prometheus that reads the lab (root)
	@$(STAGE) "metrics and their page, alerts, runbooks, dashboards" go test -count=1 ./internal/metricdoc ./charts -run 'Page|Lint|Alerts|Runbooks|Dashboards|Metrics|Monitoring' && \
	$(STAGE) "Prometheus in the lab" env -C e2e FAIRLEAD_E2E=1 go test -count=1 -v -timeout=20m ./monitoring

.PHONY: labs-test
labs-test: packages ## Check labs/ for Vagrant and Azure, and run what their machines would run; examples/monitoring in the lab (root)
	@internal/tools/packages.sh ruby:ruby shellcheck:shellcheck curl:curl && \
	$(STAGE) "the labs' shell scripts" shellcheck labs/scripts/*.sh && \
	$(STAGE) "the Vagrantfile's syntax" ruby -c labs/vagrant/Vagrantfile && \
	$(STAGE) "the labs in network namespaces" env -C e2e FAIRLEAD_E2E=1 go test -count=1 -v -timeout=15m ./labs && \
	$(STAGE) "fairlead.sh and examples/monitoring in the lab" env -C e2e FAIRLEAD_E2E=1 go test -count=1 -v -timeout=15m ./stories -run 'TestLabsInstall|TestMonitoringExample'

.PHONY: bench-compile
bench-compile: packages ## Time what one changed EndpointSlice costs an agent with 10,000 Services of 10 endpoints (root)
	@BENCH_COMPILE=1 REQUIRE_ROOT=1 go test ./internal/agent -run BenchCompile -count=1 -v | grep -E '^ *(bench-compile:|--- FAIL|FAIL)|_test.go'

.PHONY: bench-codec
bench-codec: packages ## Compare the engine's netlink codec with knftables, 10,000 Services (root)
	@go test ./proxy/nftables -run '^$$' -bench '^BenchmarkAgainstKnftables$$' -benchtime 1x

.PHONY: bench-bfd
bench-bfd: packages ## Count BFD sessions that go down though nothing is wrong, on busy cores (root)
	@go test ./announcer/bfd/udp -run FalsePositives -count=1 -v -measure=60s | grep -E 'bench-bfd:|FAIL'

.PHONY: bench-bgp
bench-bgp: packages ## Time 1,000 VIPs announced, one withdrawn, and a node lost, to a real router, and a power loss in the lab (root); ROUTER=frr or bird: one of them there
	@set -o pipefail; go test ./announcer/bgp/speaker -run Measure -count=1 -v -measure | grep -E 'bench-bgp:|FAIL'
	@go run ./e2e/cmd/bench bgp $(if $(ROUTER),--router=$(ROUTER))
