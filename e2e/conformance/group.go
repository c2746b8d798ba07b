// Package conformance runs the network tests of Kubernetes itself against fairlead, and
// says of each what it found.
package conformance

import (
	"fmt"
	"regexp"
	"strings"
)

// Group is a part of Kubernetes' tests.
type Group struct {
	Name  string
	Focus string // a regular expression of full names
	Skip  string // likewise, of those left out
	Left  string // why they are left out
	Nodes int    // of the lab that it asks for
}

// Groups in their order.
var Groups = []Group{
	{
		Name:  "services",
		Focus: `\[sig-network\] (Services|Conntrack|Networking Granular Checks: Services)`,
		Skip:  `\[Disruptive\]|\[Feature:SCTPConnectivity\]`,
		Left:  "specs that restart kube-proxy or the API server by ssh, and those of SCTP, which the kernel may not have",
		Nodes: 3,
	},
	{
		Name:  "loadbalancers",
		Focus: `\[sig-network\] LoadBalancers`,
		Skip:  `^$`,
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
			return nil, fmt.Errorf("no group %q: there are services, loadbalancers and zones", name)
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
	Spec     *regexp.Regexp
	Announce string // with which it cannot: l2 or bgp; empty for both
	Why      string
}

// Exceptions are all that there are. Each was seen to fail.
var Exceptions = []Exception{
	{
		Spec: regexp.MustCompile(`should handle load balancer cleanup finalizer for service`),
		Why:  "fairlead puts no finalizer on a Service, so one can be deleted at any time: docs/api.md. The spec waits 15 minutes for it",
	},
	{
		Spec:     regexp.MustCompile(`should be able to switch session affinity for LoadBalancer service with Local traffic policy`),
		Announce: "l2",
		Why: "it wants answers of several pods. By layer 2 one node has the address, with policy Local it asks its own pods alone, " +
			"and the spec has one on each node",
	},
}

// exception is the reason why a spec cannot pass, empty if it has to.
func exception(list []Exception, spec, announce string) string {
	for _, e := range list {
		if e.Spec.MatchString(spec) && (e.Announce == "" || e.Announce == announce) {
			return e.Why
		}
	}
	return ""
}
