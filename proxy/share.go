package proxy

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
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
	given     []string                           // loadBalancerSourceRanges
	parsed    map[snapshot.Family][]netip.Prefix // given, as far as asked for
	ranks     map[netip.Addr]uint64              // of endpoints, as far as asked for
}

// shareOf returns the share of a Service.
func shareOf(in inputs) *share {
	limited := len(in.addrs.vips) + (len(in.addrs.nodes)+len(in.svc.Ports)-1)/max(1, len(in.svc.Ports)) + len(in.addrs.foreign)
	addrs := len(in.svc.ClusterIPs) + limited + len(in.addrs.external)
	if in.svc.Type == snapshot.NodePort || in.svc.Type == snapshot.LoadBalancer {
		addrs += len(in.svc.ClusterIPs)
	}
	s := &share{
		node: in.node.name, ports: min(len(in.svc.Ports), max(1, shareFrontends/max(1, addrs))),
		given: in.svc.SourceRanges, parsed: map[snapshot.Family][]netip.Prefix{}, ranks: map[netip.Addr]uint64{},
	}
	s.endpoints = min(shareEndpoints, max(1, shareTargets/max(1, addrs*s.ports+rangedCount(in.addrs.ranged))))
	s.sources = max(1, shareSources/max(1, limited*s.ports+rangedCount(in.addrs.ranged)))
	if n := len(in.svc.Ports); n > s.ports {
		s.leave(fmt.Sprintf("its ports after the first %d", s.ports))
	}
	if in.svc.LeftOut != "" {
		s.leave(in.svc.LeftOut)
	}
	return s
}

// leave notes that something is left out.
func (s *share) leave(what string) {
	if !slices.Contains(s.left, what) {
		s.left = append(s.left, what)
	}
}

// targets returns eps, or as many of them as there may be. They are those of port, or of
// ranges of ports if that is the zero Port. Each node leaves out others,
// and always the same ones, so that all endpoints get connections.
func (s *share) targets(port snapshot.Port, eps []netip.AddrPort) []netip.AddrPort {
	if len(eps) <= s.endpoints {
		return eps
	}
	// How many is not said: each pod that comes or goes would change the Service's condition.
	if port.Port == 0 {
		s.leave("some endpoints of its port ranges")
	} else {
		s.leave(fmt.Sprintf("some endpoints of port %d", port.Port))
	}
	type ranked struct {
		rank uint64
		ep   netip.AddrPort
	}
	all := make([]ranked, len(eps))
	for i, ep := range eps {
		// By a hash with the node's name: in their order, all nodes would leave out the same ones.
		all[i] = ranked{s.rank(ep.Addr()), ep}
	}
	slices.SortFunc(all, func(a, b ranked) int { return cmp.Or(cmp.Compare(a.rank, b.rank), a.ep.Compare(b.ep)) })
	out := make([]netip.AddrPort, s.endpoints)
	for i := range out {
		out[i] = all[i].ep
	}
	slices.SortFunc(out, netip.AddrPort.Compare)
	return out
}

// rank is the place of an endpoint among those that the node may leave out.
func (s *share) rank(addr netip.Addr) uint64 {
	rank, ok := s.ranks[addr]
	if !ok {
		sum := sha256.Sum256([]byte(s.node + " " + addr.String()))
		rank = binary.BigEndian.Uint64(sum[:8])
		s.ranks[addr] = rank
	}
	return rank
}

// allowed returns the sources of one family that may connect: see sources. The ranges
// are read once, and not for each port.
func (s *share) allowed(family snapshot.Family) []netip.Prefix {
	all, ok := s.parsed[family]
	if !ok {
		all = s.ranges(sources(s.given, family))
		s.parsed[family] = all
	}
	return all
}

// ranges returns allowed, or as many of them as there may be. Nobody gets in who
// should not.
func (s *share) ranges(allowed []netip.Prefix) []netip.Prefix {
	if len(allowed) <= s.sources {
		return allowed
	}
	s.leave(fmt.Sprintf("its source ranges after the first %d", s.sources))
	// The other way round, sources that nobody let in would be let in.
	return allowed[:s.sources]
}

// problem says what is left out of a Service, and what to do; nil if nothing is.
func (s *share) problem(ref snapshot.Ref) *snapshot.Problem {
	if len(s.left) == 0 {
		return nil
	}
	if slices.Contains(s.left, snapshot.NoRoom) {
		return &snapshot.Problem{Service: ref, Reason: ShareExceeded, Message: "the Services of this namespace have more endpoints than a node has room for: " +
			"those of this Service are left out; delete Services of the namespace that you do not need, or ask the cluster's administrator for more memory for fairlead's agents"}
	}
	const most = 3
	what := strings.Join(s.left[:min(most, len(s.left))], ", ")
	if more := len(s.left) - most; more > 0 {
		what += " and others"
	}
	return &snapshot.Problem{Service: ref, Reason: ShareExceeded, Message: fmt.Sprintf(
		"the Service is larger than one Service may be on a node: %s are left out; split it into several Services", what)}
}

// Problems returns what is wrong with the Services of the Table that Compile returned
// last: they are larger than their share, or have endpoints that are refused. Sorted.
func (c *Compiler) Problems() []snapshot.Problem {
	var out []snapshot.Problem
	if c.last == nil {
		return nil
	}
	for ref := range c.last.troubled {
		out = append(out, c.last.done[ref].problems...)
	}
	slices.SortStableFunc(out, func(a, b snapshot.Problem) int { return a.Service.Compare(b.Service) })
	return out
}
