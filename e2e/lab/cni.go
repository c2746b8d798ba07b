package lab

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// A cni is a network of pods that other people made. The lab runs its real programs on the
// nodes, in the place of its own links and routes. It may be an admitter and a ranger as well.
type cni interface {
	// programs are what the lab builds for it.
	programs() []program
	// packages are the Debian packages that its programs call.
	packages() []debianPackage
	// start starts its programs on a node, before the kubelet. The API server may be away.
	start(l *Lab, n node) error
	// policies is for how many families of addresses it enforces NetworkPolicies, IPv4 first.
	policies() int
}

// An admitter gives the API server the objects that it needs, before any node starts.
type admitter interface {
	admit(ctx context.Context, l *Lab) error
}

// A ranger gives pods addresses outside of the Nodes' podCIDRs: these are a node's.
type ranger interface {
	blocks(ctx context.Context, l *Lab, n node) []string
}

// cnis are those that a lab can have, by the name that Options has.
var cnis = map[string]cni{
	"calico":          calico{},
	"flannel":         flannel{backend: "vxlan"},
	"flannel-host-gw": flannel{backend: "host-gw"},
	"kube-router":     kubeRouter{},
}

// CNIs are the names that Options.CNI may have, sorted.
func CNIs() []string { return slices.Sorted(maps.Keys(cnis)) }

// cni is the lab's, nil for links and routes of the lab's own.
func (l *Lab) cni() cni { return cnis[l.opt.CNI] }

func (l *Lab) checkCNI() error {
	if l.opt.CNI != "" && l.cni() == nil {
		return fmt.Errorf("no CNI %q: there are %s", l.opt.CNI, strings.Join(CNIs(), ", "))
	}
	return nil
}

// Policies is for how many families of addresses the lab's CNI enforces NetworkPolicies, IPv4
// first.
func (l *Lab) Policies() int {
	if l.described != nil || l.cni() == nil {
		return 0
	}
	return l.cni().policies()
}

// CNI is the name of the lab's CNI, empty for links and routes of the lab's own, and in a
// described cluster.
func (l *Lab) CNI() string { return l.opt.CNI }

// packages are the Debian packages that the lab runs programs of.
func (l *Lab) packages() []debianPackage {
	if l.cni() == nil {
		return debianPackages
	}
	return append(slices.Clone(debianPackages), l.cni().packages()...)
}

// admitNetwork gives the API server what the network of pods keeps there.
func (l *Lab) admitNetwork(ctx context.Context) error {
	if a, ok := l.cni().(admitter); ok {
		return a.admit(ctx, l)
	}
	return nil
}

// startNetwork starts what makes the network of a node's pods.
func (l *Lab) startNetwork(n node) error {
	if l.cni() == nil {
		return nil
	}
	return l.cni().start(l, n)
}

// restarted is the start of a command line that runs what follows it again when it fails,
// as systemd and the kubelet do.
func restarted(args ...string) []string {
	return append([]string{"/bin/sh", "-c", `until "$0" "$@"; do sleep 1; done`}, args...)
}
