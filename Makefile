# fairlead: make help lists the verbs.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help build demo demo-down test unit e2e e2e-kind bench verify generate release packages

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
TOOLS   := internal/tools
STAGE   := $(TOOLS)/stage.sh
# The flags are those of the programs that the lab builds: Go's library is compiled once.
LAB     := CGO_ENABLED=0 GOGC=400 go build -buildvcs=false -trimpath -tags grpcnotrace -o bin/lab ./e2e/cmd/lab && bin/lab
# A parameter such as SIZES=1 or FROM=v0.1.0 reaches the scripts in the environment.

help: ## List the verbs, and what test, bench and e2e can be told
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-12s %s\n", $$1, $$2}'
	@for verb in test bench; do echo; echo "make $$verb WHAT="; $(TOOLS)/whats.sh $(TOOLS)/$$verb.sh; done
	@echo; echo "make e2e WHAT="; $(TOOLS)/stories.sh list

build: ## Build bin/fairlead and bin/fairlead-ccm, static binaries
	CGO_ENABLED=0 GOWORK=off go build -trimpath -tags grpcnotrace -ldflags "-s -w -X main.version=$(VERSION)" -o bin/ ./cmd/...

demo: $(if $(filter bgp,$(ANNOUNCE)),packages) ## Show the main job on a real cluster on this machine (root; KEEP=1 leaves it up; ANNOUNCE=bgp: through a router, ROUTER=frr or bird; CNI=calico|flannel|flannel-host-gw|kube-router)
	@[ -x bin/lab ] || echo "building the lab's command, and for it Go's standard library: a minute of CPU"
	@$(LAB) demo $(if $(ANNOUNCE),--announce=$(ANNOUNCE)) $(if $(ROUTER),--router=$(ROUTER)) $(if $(CNI),--cni=$(CNI))

demo-down: ## Remove the cluster that make demo KEEP=1 left
	@$(LAB) down

test: ## Run everything: unit, stories, kernel, chart and end-to-end tests (root); WHAT= runs one part
	@$(TOOLS)/test.sh $(WHAT)

unit: ## Run the tests that need neither root nor a cluster
	go test -race ./...

e2e: packages ## Run the end-to-end stories in the lab (root); WHAT= picks a group, or stories by a regular expression; CNI= as for demo
	@if [ '$(WHAT)' = attacks ]; then exec $(TOOLS)/attacks.sh; fi; \
	if [ '$(WHAT)' = partial ]; then REQUIRE_ROOT=1 FAIRLEAD_E2E_ALL=1 go test -count=1 -v -timeout=45m ./internal/agent -run '^Test(PartialFailures|PortThatOpensLate)$$' || exit 1; fi; \
	if [ '$(WHAT)' = networks ]; then REQUIRE_ROOT=1 FAIRLEAD_E2E_ALL=1 go test -count=1 -v -timeout=20m ./proxy/nftables/netlink ./internal/agent -run '^(TestSixtyThousandClients|TestHelpers|TestAnswersLeaveAsTheyCame)$$' || exit 1; fi; \
	if [ '$(WHAT)' = director ]; then REQUIRE_ROOT=1 go test -count=1 -v -timeout=20m ./proxy/director/program ./internal/agent -run '^Test(Subnets|DirectSubnets|DirectRouterChanges|DirectBehindRouter)$$' || exit 1; fi; \
	run="$$($(TOOLS)/stories.sh '$(WHAT)')" && env -C e2e FAIRLEAD_E2E=1 $(if $(CNI),FAIRLEAD_CNI=$(CNI)) $(if $(WHAT),FAIRLEAD_E2E_ALL=1) go test -count=1 -v -timeout=45m ./stories/... -run "$$run"

e2e-kind: ## Run them in a cluster of kind instead, on Docker or else Podman (root); FAMILY=ipv4|ipv6|dual ANNOUNCE=bgp PROXY=1 IMAGE=kindest/node:… ENGINE=podman WHAT=; WHAT=conformance: Kubernetes' own tests, GROUP= FOCUS= ANNOUNCE=l2|bgp|direct; ENGINE=podman WHAT=kubeadm: three control planes by kubeadm
	@[ '$(ENGINE)' != podman ] && docker version >/dev/null 2>&1 || $(TOOLS)/packages.sh podman:podman /usr/lib/podman/netavark:netavark \
		/usr/lib/podman/aardvark-dns:aardvark-dns runc:runc mmdebstrap:mmdebstrap /usr/share/keyrings/debian-archive-keyring.gpg:debian-archive-keyring nsenter:util-linux ip:iproute2
	@case '$(WHAT)' in conformance) set -- -conformance="$${GROUP:-loadbalancers,services}" -focus="$$FOCUS" ;; kubeadm) set -- -kubeadm ;; \
	*) run="$$($(TOOLS)/stories.sh '$(WHAT)')" || exit; set -- -run="$$run" ;; esac; go build -o bin/e2e-kind ./e2e/cmd/kind && \
	$(if $(WHAT),FAIRLEAD_E2E_ALL=1) bin/e2e-kind $(if $(ENGINE),-engine=$(ENGINE)) $(if $(FAMILY),-family=$(FAMILY)) $(if $(PROXY),-kube-proxy) $(if $(ANNOUNCE),-announce=$(ANNOUNCE)) $(if $(IMAGE),-image=$(IMAGE)) $(if $(KEEP),-keep) "$$@"

bench: ## Measure one thing: WHAT=
	@$(TOOLS)/bench.sh $(WHAT)

verify: packages ## Check that generated files are current, modules tidy, code formatted and lint-clean
	@$(STAGE) "generated files" $(TOOLS)/unchanged.sh $(TOOLS)/generate.sh && \
	$(STAGE) "eBPF objects" $(TOOLS)/unchanged.sh $(TOOLS)/generate-bpf.sh && \
	$(STAGE) "module files" $(TOOLS)/unchanged.sh $(TOOLS)/tidy.sh && \
	$(STAGE) "shell scripts" $(TOOLS)/shell.sh && \
	$(STAGE) "words" $(TOOLS)/words.sh && \
	$(STAGE) "workflows" $(TOOLS)/workflows.sh && \
	$(STAGE) "licences" $(TOOLS)/test.sh licences && \
	$(STAGE) "lint" $(TOOLS)/lint.sh

generate: ## Write deepcopy methods, CRDs and docs/metrics.md from the code; WHAT=bpf: compile the eBPF programs (clang 14; root installs it); WHAT=screenshots: the pictures of docs/ui.md
	@$(TOOLS)/generate.sh $(WHAT)

release: ## Make every file of a release into dist/: VERSION=v0.1.0; OS=linux for the programs of one system
	@$(TOOLS)/release.sh '$(VERSION)'

packages: ## Install the Debian packages that build and tests need, if missing
	@$(TOOLS)/packages.sh
