package members

import (
	"maps"
	"net/netip"
	"slices"
)

// Places is where the agents of the other nodes speak, as the API has their Nodes. It is
// immutable. A nil Places has no node.
type Places struct {
	byNode map[string]netip.AddrPort
	addrs  map[netip.Addr]bool
}

// NewPlaces returns the Places of nodes by their names. It keeps byNode.
func NewPlaces(byNode map[string]netip.AddrPort) *Places {
	p := &Places{byNode: byNode, addrs: make(map[netip.Addr]bool, len(byNode))}
	for _, at := range byNode {
		p.addrs[at.Addr()] = true
	}
	return p
}

// Of returns where the agent of a node speaks; the zero AddrPort if the API has no such
// node, or no address of it.
func (p *Places) Of(node string) netip.AddrPort {
	if p == nil {
		return netip.AddrPort{}
	}
	return p.byNode[node]
}

// Has reports whether addr is one of them.
func (p *Places) Has(addr netip.Addr) bool { return p != nil && p.addrs[addr] }

// All returns all of them, in no order.
func (p *Places) All() []netip.AddrPort {
	if p == nil {
		return nil
	}
	return slices.Collect(maps.Values(p.byNode))
}
