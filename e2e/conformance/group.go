// Package conformance runs the network tests of Kubernetes itself against fairlead, and
// says of each what it found.
package conformance

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Ways to announce the addresses of load balancers.
const (
	L2     = "l2"
	BGP    = "bgp"    // to a router, which the tests are behind
	Direct = "direct" // by layer 2, and connections are directed: docs/director.md
)

// Ways returns the ways with these names, separated by commas; all without a name.
func Ways(names string) ([]string, error) {
	all := []string{L2, BGP, Direct}
	if names == "" {
		return all, nil
	}
	list := strings.Split(names, ",")
	for _, name := range list {
		if !slices.Contains(all, name) {
			return nil, fmt.Errorf("no way %q to announce: there are %s", name, strings.Join(all, ", "))
		}
	}
	return list, nil
}

// Group is a part of Kubernetes' tests.
type Group struct {
	Name  string
	Focus string // a regular expression of full names
	Skip  string // likewise, of those left out
	Left  string // why they are left out
	Nodes int    // of the lab that it asks for
	// Announced is whether it is about addresses that are announced. Then it runs once for
	// each way to announce, and otherwise once.
	Announced bool
}

// Groups in their order: those that take long come first.
var Groups = []Group{
	{
		Name:      "loadbalancers",
		Focus:     `\[sig-network\] LoadBalancers`,
		Skip:      `^$`,
		Nodes:     3,
		Announced: true,
	},
	{
		Name:  "services",
		Focus: `\[sig-network\] (Services|Conntrack|Networking Granular Checks: Services)`,
		Skip:  `\[Disruptive\]|\[Feature:SCTPConnectivity\]`,
		Left:  "specs that restart kube-proxy or the API server by ssh, and those of SCTP, which the kernel may not have",
		Nodes: 3,
	},
	{
		Name:  "zones",
		Focus: `\[sig-network\] Traffic Distribution`,
		Skip:  `^$`,
		Nodes: 6, // three zones of two nodes. Rolling updates of load balancers would take twice as long there
	},
}

// Select returns the groups with these names, separated by commas; all without a name.
func Select(names string) ([]Group, error) {
	if names == "" {
		return Groups, nil
	}
	var list []Group
	for name := range strings.SplitSeq(names, ",") {
		g, ok := group(name)
		if !ok {
			return nil, fmt.Errorf("no group %q: there are loadbalancers, services and zones", name)
		}
		list = append(list, g)
	}
	return list, nil
}

func group(name string) (Group, bool) {
	for _, g := range Groups {
		if g.Name == name {
			return g, true
		}
	}
	return Group{}, false
}

// Exception is a spec that cannot pass as things are, with the reason.
type Exception struct {
	Spec *regexp.Regexp
	Why  string
}

// Exceptions are all specs that cannot pass. Each was seen to fail.
var Exceptions = []Exception{
	{
		Spec: regexp.MustCompile(`should handle load balancer cleanup finalizer for service`),
		Why:  "fairlead puts no finalizer on a Service, so one can be deleted at any time: docs/api.md. The spec waits 15 minutes for it",
	},
	{
		Spec: regexp.MustCompile(`should be able to switch session affinity for LoadBalancer service with Local traffic policy`),
		Why: "it wants answers of several pods. One node has the address by layer 2, and by BGP the router sends one client to one node: " +
			"affinity needs that. With policy Local that node asks its own pods alone, and the spec has one on each node. " +
			"The director leaves policy Local as it is",
	},
}

// exception is the reason why a spec cannot pass, empty if it has to.
func exception(list []Exception, spec string) string {
	for _, e := range list {
		if e.Spec.MatchString(spec) {
			return e.Why
		}
	}
	return ""
}
