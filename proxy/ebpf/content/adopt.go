package content

import (
	"net/netip"
	"slices"
	"time"

	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/proxy"
)

// Held is what was found in the maps, in any order.
type Held struct {
	Services  []Service
	Endpoints []Endpoint
	Members   []Member
	NodeIPs   []netip.Addr
}

// Adopt makes a State of what was found. A Service that lacks anything
// has no endpoints in it, so that it is written again. t says which kind an
// address is: the maps do not.
func Adopt(h *Held, t *proxy.Table) *State {
	st := &State{NodeIPs: slices.SortedFunc(slices.Values(h.NodeIPs), netip.Addr.Compare), Next: 1}
	kinds := map[Key]proxy.Kind{}
	for _, f := range t.Frontends {
		kinds[KeyOf(f.Key)] = f.Kind
	}
	at := map[Slot]netip.AddrPort{}
	for _, e := range h.Endpoints {
		at[e.Slot] = e.Addr
		st.Next = max(st.Next, e.List+1)
	}
	needed := map[Member]bool{}
	for _, m := range h.Members {
		needed[m] = false
	}
	for _, s := range h.Services {
		st.Next = max(st.Next, s.List+1)
		p := &Placed{&proxy.Frontend{Key: proxyKey(s.Key, kinds), Affinity: time.Duration(s.Affinity) * time.Second}, s.List}
		for i := range s.Count {
			if a, ok := at[Slot{s.List, i}]; ok {
				p.Cluster = append(p.Cluster, a)
			}
		}
		p.complete(s, at, needed)
		st.Placed = append(st.Placed, p)
	}
	slices.SortFunc(st.Placed, func(a, b *Placed) int { return a.Key.Compare(b.Key) })
	for s := range at {
		st.Orphans = append(st.Orphans, s)
	}
	for m, is := range needed {
		if !is {
			st.OrphanMembers = append(st.OrphanMembers, m)
		}
	}
	return st
}

// complete takes what p holds from at, and marks its members. If anything of it
// is missing, it takes nothing, and p has no endpoints.
func (p *Placed) complete(s Service, at map[Slot]netip.AddrPort, members map[Member]bool) {
	whole := len(p.Cluster) == int(s.Count)
	for _, m := range p.members() {
		_, has := members[m]
		whole = whole && has
	}
	if !whole {
		p.Cluster = nil
		return
	}
	for i := range s.Count {
		delete(at, Slot{s.List, i})
	}
	for _, m := range p.members() {
		members[m] = true
	}
}

func proxyKey(k Key, kinds map[Key]proxy.Kind) proxy.Key {
	out := proxy.Key{Kind: kinds[k], Family: snapshot.FamilyOf(k.Addr), Addr: k.Addr, Protocol: k.Protocol, Port: k.Port}
	if k.Addr.IsUnspecified() {
		out.Kind, out.Addr = proxy.NodePort, netip.Addr{}
	}
	return out
}
