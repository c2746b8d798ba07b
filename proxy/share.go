package proxy

import (
	"cmp"
	"crypto/sha256"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/fairlead/fairlead/internal/snapshot"
)

// ShareExceeded is the reason of the Problem of a Service that is larger than its
// share of a node.
const ShareExceeded snapshot.Reason = "ShareExceeded"

// The share of one Service: so much of it a node forwards. Kubernetes bounds none of
// these but by the size of an object: a Service may have thousands of ports and ranges,
// and any number of endpoints. What a Service costs a node, in memory and with each
// change, is in proportion to them.
const (
	shareFrontends = 4096  // its ports times its addresses
	shareEndpoints = 1000  // of each port
	shareTargets   = 32768 // its Frontends times their endpoints
	shareSources   = 16384 // its Frontends that have source ranges times the ranges
)

// share is what one Service has of a node. What is beyond it is left out, and the rest
// works: an older state would soon lead to pods that are gone.
type share struct {
	node      string
	ports     int // so many, in the order of the Service
	endpoints int // of each port
	sources   int // of each Frontend
	left      []string
}

// shareOf returns the share of a Service.
func shareOf(in inputs) *share {
	limited := len(in.addrs.vips) + len(in.addrs.foreign)
	addrs := len(in.svc.ClusterIPs) + limited + len(in.addrs.external)
	if in.svc.Type == snapshot.NodePort || in.svc.Type == snapshot.LoadBalancer {
		addrs += len(in.svc.ClusterIPs)
	}
	s := &share{node: in.node.name, ports: min(len(in.svc.Ports), max(1, shareFrontends/max(1, addrs)))}
	s.endpoints = min(shareEndpoints, max(1, shareTargets/max(1, addrs*s.ports)))
	s.sources = max(1, shareSources/max(1, limited*s.ports))
	if n := len(in.svc.Ports); n > s.ports {
		s.leave(fmt.Sprintf("its ports after the first %d", s.ports))
	}
	return s
}

// leave notes that something is left out.
func (s *share) leave(what string) {
	if !slices.Contains(s.left, what) {
		s.left = append(s.left, what)
	}
}

// targets returns eps, or as many of them as there may be. Each node leaves out others,
// and always the same ones, so that all endpoints get connections.
func (s *share) targets(port snapshot.Port, eps []netip.AddrPort) []netip.AddrPort {
	if len(eps) <= s.endpoints {
		return eps
	}
	// How many is not said: each pod that comes or goes would change the Service's condition.
	s.leave(fmt.Sprintf("some endpoints of port %d", port.Port))
	ranks := make(map[netip.AddrPort]string, len(eps))
	for _, ep := range eps {
		sum := sha256.Sum256([]byte(s.node + " " + ep.String()))
		ranks[ep] = string(sum[:8])
	}
	byRank := func(a, b netip.AddrPort) int { return cmp.Or(cmp.Compare(ranks[a], ranks[b]), a.Compare(b)) }
	out := slices.SortedFunc(slices.Values(eps), byRank)[:s.endpoints]
	slices.SortFunc(out, netip.AddrPort.Compare)
	return out
}

// ranges returns allowed, or as many of them as there may be. Nobody gets in who
// should not.
func (s *share) ranges(allowed []netip.Prefix) []netip.Prefix {
	if len(allowed) <= s.sources {
		return allowed
	}
	s.leave(fmt.Sprintf("its source ranges after the first %d", s.sources))
	return allowed[:s.sources]
}

// problem says what is left out of a Service, and what to do; nil if nothing is.
func (s *share) problem(ref snapshot.Ref) *snapshot.Problem {
	if len(s.left) == 0 {
		return nil
	}
	const most = 3
	what := strings.Join(s.left[:min(most, len(s.left))], ", ")
	if more := len(s.left) - most; more > 0 {
		what += " and others"
	}
	return &snapshot.Problem{Service: ref, Reason: ShareExceeded, Message: fmt.Sprintf(
		"the Service is larger than one Service may be on a node: %s are left out; split it into several Services", what)}
}

// Problems returns what is left out of the Services of the Table that Compile returned
// last, because they are larger than their share. Sorted.
func (c *Compiler) Problems() []snapshot.Problem {
	var out []snapshot.Problem
	if c.last == nil {
		return nil
	}
	for ref := range c.last.exceeded {
		out = append(out, *c.last.done[ref].problem)
	}
	slices.SortFunc(out, func(a, b snapshot.Problem) int { return a.Service.Compare(b.Service) })
	return out
}
