// Package content decides what the maps of the eBPF programs hold: which Services
// of a Table are answered when a socket connects, and in which order the maps are
// written so that a socket that connects meanwhile never meets half a change.
package content

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/fairlead/fairlead/internal/diff"
	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/proxy"
)

// Key is what a socket dials. Addr is unspecified for a node port.
type Key struct {
	Addr     netip.Addr
	Protocol snapshot.Protocol
	Port     uint16
}

// KeyOf is the Key of a Frontend.
func KeyOf(k proxy.Key) Key {
	switch {
	case k.Kind != proxy.NodePort:
	case k.Family == snapshot.IPv4:
		k.Addr = netip.IPv4Unspecified()
	default:
		k.Addr = netip.IPv6Unspecified()
	}
	return Key{k.Addr, k.Protocol, k.Port}
}

func (k Key) String() string { return fmt.Sprintf("%s/%d %s", k.Protocol, k.Port, k.Addr) }

// Compare is an order of Keys.
func (k Key) Compare(o Key) int {
	return cmp.Or(k.Addr.Compare(o.Addr), cmp.Compare(k.Protocol, o.Protocol), cmp.Compare(k.Port, o.Port))
}

// Service is an entry of the map of that name. List names its endpoints, and is
// never used again for others.
type Service struct {
	Key      Key
	List     uint64
	Count    uint32
	Affinity uint32 // seconds; 0: none
}

func (s Service) String() string {
	return fmt.Sprintf("service %s list=%d count=%d affinity=%d", s.Key, s.List, s.Count, s.Affinity)
}

// Slot is a place in a list.
type Slot struct {
	List   uint64
	Number uint32
}

// Endpoint is what a slot holds.
type Endpoint struct {
	Slot
	Addr netip.AddrPort
}

func (e Endpoint) String() string {
	return fmt.Sprintf("endpoint %d.%d %s", e.List, e.Number, e.Addr)
}

// Member says that an endpoint belongs to a Service. Only Services that remember
// where a client went to have members: those with affinity, and those of UDP.
type Member struct {
	Key  Key
	Addr netip.AddrPort
}

func (m Member) String() string { return fmt.Sprintf("member %s %s", m.Key, m.Addr) }

// Limit is how much the maps are allowed to hold.
type Limit struct{ Services, Endpoints int }

// Taken reports whether sockets that dial f are answered here. What is not is left
// to nftables, with the same result: no endpoint is a refusal there, and source
// ranges look at packets. The maps know single ports alone.
func Taken(f *proxy.Frontend) bool {
	return !f.Ranged() && (f.Protocol == snapshot.TCP || f.Protocol == snapshot.UDP) && len(f.Cluster) > 0 && f.Sources == nil && !f.AllPorts
}

// Placed is a Frontend and the list that its endpoints are in.
type Placed struct {
	*proxy.Frontend
	List uint64
}

func (p *Placed) service() Service {
	return Service{KeyOf(p.Key), p.List, uint32(len(p.Cluster)), seconds(p.Affinity)} //nolint:gosec // bounded by Limit
}

// seconds is what the map holds of a timeout: a week at most, so that no number
// overflows.
func seconds(d time.Duration) uint32 {
	return uint32(min(d, 7*24*time.Hour) / time.Second) //nolint:gosec // a week
}

func (p *Placed) endpoints(out []Endpoint) []Endpoint {
	for i, a := range p.Cluster {
		out = append(out, Endpoint{Slot{p.List, uint32(i)}, a}) //nolint:gosec // bounded by Limit
	}
	return out
}

func (p *Placed) members() (out []Member) {
	if p == nil || p.Protocol != snapshot.UDP && seconds(p.Affinity) == 0 {
		return nil
	}
	for _, a := range p.Cluster {
		out = append(out, Member{KeyOf(p.Key), a})
	}
	return out
}

// State is what the maps hold.
type State struct {
	Placed        []*Placed // in the order of a Table
	NodeIPs       []netip.Addr
	Next          uint64 // the next list
	LeftFrontends int    // Frontends with endpoints that are left to nftables
	endpoints     int    // of Placed
	crowded       bool   // some Frontends were left for want of room

	table *proxy.Table // that Plan was given; nil: this is what was found

	// What no Service needs, after a change that was not finished.
	Orphans       []Slot
	OrphanMembers []Member
}

// Change is what is to be written, in this order.
type Change struct {
	Endpoints    []Endpoint
	Members      []Member
	Services     []Service // from here on sockets see them
	NodeIPs      []netip.Addr
	GoneNodeIPs  []netip.Addr
	GoneServices []Key
	GoneMembers  []Member
	GoneSlots    []Slot
}

// Added and Deleted count entries; a new list of endpoints is one with its Service.
func (c *Change) Added() int { return len(c.Services) + len(c.NodeIPs) }

// Deleted counts the entries that go.
func (c *Change) Deleted() int { return len(c.GoneServices) + len(c.GoneNodeIPs) }

// Empty reports whether there is nothing to write.
func (c *Change) Empty() bool {
	return c.Added() == 0 && c.Deleted() == 0 && len(c.GoneSlots) == 0 && len(c.GoneMembers) == 0
}

func (c *Change) String() string {
	var b strings.Builder
	write(&b, "+ ", c.Endpoints)
	write(&b, "+ ", c.Members)
	write(&b, "+ ", c.Services)
	write(&b, "+ node ", c.NodeIPs)
	write(&b, "- node ", c.GoneNodeIPs)
	write(&b, "- service ", c.GoneServices)
	write(&b, "- ", c.GoneMembers)
	for _, s := range c.GoneSlots {
		fmt.Fprintf(&b, "- endpoint %d.%d\n", s.List, s.Number)
	}
	return b.String()
}

func write[T fmt.Stringer](b *strings.Builder, what string, all []T) {
	for _, v := range all {
		fmt.Fprintf(b, "%s%s\n", what, v)
	}
}

// Plan decides how the maps come from old to what t says, and what they hold
// then. A Frontend that is the same pointer as in old is not looked at. t must not be
// changed afterwards.
func Plan(old *State, t *proxy.Table, limit Limit) (*State, *Change) {
	// To find one change among 10,000 Services takes 0.15 ms.
	now, c := old.follow(t)
	// Whether a Frontend fits depends on all those before it: without room for all, only a walk
	// finds which fit.
	if now == nil || now.tight(limit) {
		now, c = old.walk(t, limit)
	}
	c.GoneSlots, c.GoneMembers = append(c.GoneSlots, old.Orphans...), append(c.GoneMembers, old.OrphanMembers...)
	// An address may come back as another kind, or an orphan be needed.
	c.GoneServices = without(c.GoneServices, keys(c.Services))
	c.GoneMembers = without(c.GoneMembers, c.Members)
	c.GoneNodeIPs, c.NodeIPs = without(old.NodeIPs, t.NodePortAddrs), without(t.NodePortAddrs, old.NodeIPs)
	return now, c
}

// next returns the State of t without what it places.
func (s *State) next(t *proxy.Table) *State {
	return &State{NodeIPs: t.NodePortAddrs, Next: max(s.Next, 1), table: t}
}

// tight reports whether s does not fit, so that somebody has to be left.
func (s *State) tight(limit Limit) bool {
	return len(s.Placed) > limit.Services || s.endpoints > limit.Endpoints
}

// wanted reports whether f of t is to be placed if there is room.
func wanted(f *proxy.Frontend, t *proxy.Table) bool {
	// A link of the node has that ClusterIP: NodeLocal DNSCache answers there, and was gone past.
	return f != nil && Taken(f) && (f.Kind != proxy.ClusterIP || !slices.Contains(t.OwnClusterIPs, f.Addr))
}

// left counts f, which may be nil, if it has endpoints and is not wanted.
func left(f *proxy.Frontend, t *proxy.Table) int {
	if f != nil && len(f.Cluster) > 0 && !wanted(f, t) {
		return 1
	}
	return 0
}

// follow plans what changed since the Table of s. It returns nil if that is not all that
// matters: whether a Frontend fits depends on all those before it.
func (s *State) follow(t *proxy.Table) (*State, *Change) {
	if s.table == nil || s.crowded || !slices.Equal(s.table.OwnClusterIPs, t.OwnClusterIPs) {
		return nil, nil
	}
	now, c := s.next(t), &Change{}
	now.LeftFrontends, now.endpoints = s.LeftFrontends, s.endpoints
	var gone, come []*Placed
	for was, is := range t.Changed(s.table) {
		now.LeftFrontends += left(is, t) - left(was, s.table)
		var prev *Placed
		if wanted(was, s.table) {
			at, _ := slices.BinarySearchFunc(s.Placed, was.Key, func(p *Placed, k proxy.Key) int { return p.Key.Compare(k) })
			prev = s.Placed[at]
			gone, now.endpoints = append(gone, prev), now.endpoints-len(was.Cluster)
		}
		if wanted(is, t) {
			come, now.endpoints = append(come, c.place(prev, is, &now.Next)), now.endpoints+len(is.Cluster)
		} else if prev != nil {
			c.replace(prev, nil)
		}
	}
	now.Placed = diff.Apply(s.Placed, gone, come, func(a, b *Placed) int { return a.Key.Compare(b.Key) })
	return now, c
}

// walk plans all of t.
func (s *State) walk(t *proxy.Table, limit Limit) (*State, *Change) {
	now, c := s.next(t), &Change{}
	now.Placed = make([]*Placed, 0, len(t.Frontends))
	held := s.Placed
	for _, f := range t.Frontends {
		for len(held) > 0 && held[0].Frontend != f && held[0].Key.Compare(f.Key) < 0 {
			c.replace(held[0], nil)
			held = held[1:]
		}
		var prev *Placed
		if len(held) > 0 && (held[0].Frontend == f || held[0].Key == f.Key) {
			prev, held = held[0], held[1:]
		}
		fits := len(now.Placed) < limit.Services && now.endpoints+len(f.Cluster) <= limit.Endpoints
		if wanted(f, t) && fits {
			now.Placed = append(now.Placed, c.place(prev, f, &now.Next))
			now.endpoints += len(f.Cluster)
			continue
		}
		now.crowded = now.crowded || wanted(f, t)
		if len(f.Cluster) > 0 {
			now.LeftFrontends++
		}
		if prev != nil {
			c.replace(prev, nil)
		}
	}
	for _, p := range held {
		c.replace(p, nil)
	}
	return now, c
}

// place is f in the list of prev, or in a new one if its endpoints differ.
func (c *Change) place(prev *Placed, f *proxy.Frontend, next *uint64) *Placed {
	switch {
	case prev != nil && prev.Frontend == f:
		return prev
	case prev != nil && seconds(prev.Affinity) == seconds(f.Affinity) && slices.Equal(prev.Cluster, f.Cluster):
		return &Placed{f, prev.List}
	}
	// A new number: a socket that reads the list meanwhile sees the old one whole.
	p := &Placed{f, *next}
	*next++
	c.replace(prev, p)
	return p
}

// replace adds what makes now of old; either may be nil.
func (c *Change) replace(old, now *Placed) {
	if now != nil {
		c.Endpoints = now.endpoints(c.Endpoints)
		c.Services = append(c.Services, now.service())
	} else {
		c.GoneServices = append(c.GoneServices, KeyOf(old.Key))
	}
	if old != nil {
		for i := range old.Cluster {
			c.GoneSlots = append(c.GoneSlots, Slot{old.List, uint32(i)}) //nolint:gosec // bounded by Limit
		}
	}
	before, after := old.members(), now.members()
	c.Members = append(c.Members, without(after, before)...)
	c.GoneMembers = append(c.GoneMembers, without(before, after)...)
}

func keys(services []Service) []Key {
	out := make([]Key, len(services))
	for i, s := range services {
		out[i] = s.Key
	}
	return out
}

// without returns what of all is not in others.
func without[T comparable](all, others []T) (out []T) {
	if len(all) == 0 || len(others) == 0 {
		return all
	}
	if slices.Equal(all, others) {
		return nil
	}
	in := make(map[T]bool, len(others))
	for _, o := range others {
		in[o] = true
	}
	for _, a := range all {
		if !in[a] {
			out = append(out, a)
		}
	}
	return out
}
