package nftables

import (
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/proxy"
)

// parse returns the Slots that the table in the kernel stands for, by the key that packets
// are looked up by. Of their Frontends it knows the Key and the Affinity alone: that is
// what keeps endpoints, clients and flows where they are. The Kind is NodePort or
// ExternalIP, which stands for all others. parse ignores an element that no Ruleset has;
// a comparison of elements finds those.
func (k *Kernel) parse() map[string]*Slots {
	p, sound := parser{Family: k.Family, held: map[string]*Slots{}}, k.sound()
	for _, e := range k.Elements {
		if e.Set != p.set {
			p.enter(e.Set, sound[e.Set])
		}
		p.add(e)
	}
	return p.held
}

type parser struct {
	*Family
	held map[string]*Slots
	// What the name of the set says that is being read: elements are sorted.
	set             string
	front, nodePort bool // each element is of one Frontend
	local           bool // of a slot map
	number          int  // of a slot map, otherwise -1
}

// enter takes the name of a set apart. A set that is not sound says nothing.
func (p *parser) enter(set string, sound bool) {
	name, np := strings.CutPrefix(set, "np-")
	p.set, p.nodePort, p.number, p.front = set, np, -1, false
	if !sound {
		return
	}
	p.front = name == mapNoEndpoints || name == variant{}.frontends() || name == variant{local: true}.frontends()
	if name, ok := strings.CutPrefix(name, "ep-"); ok {
		name, p.local = strings.CutPrefix(name, "local-")
		if n, err := strconv.Atoi(name); err == nil {
			p.number = n
		}
	}
}

// add notes what an element says of its Frontend. Each Frontend that takes packets has
// endpoints, or is one of those without.
func (p *parser) add(e Element) {
	if target, ok := strings.CutPrefix(e.Data, "goto "); ok && p.front {
		s := p.slots(e.Key)
		if b, ok := parseBalance(target); ok {
			s.Affinity, s.AllPorts = time.Duration(b.sticky)*time.Second, b.byClient
			s.slots(b.local).over = b.n
		}
	} else if p.front {
		p.slots(e.Key)
	}
	if p.number < 0 || len(e.Data) < p.AddrLen+2 {
		return
	}
	slots := p.slots(e.Key).slots(p.local)
	for len(slots.at) <= p.number {
		slots.at = append(slots.at, netip.AddrPort{})
	}
	slots.at[p.number] = netip.AddrPortFrom(p.addrOf(e.Data), portOf(e.Data[p.AddrLen:]))
}

// slots returns the Slots with this key, new ones if there are none.
func (p *parser) slots(key string) *Slots {
	if s := p.held[key]; s != nil {
		return s
	}
	s := &Slots{Frontend: &proxy.Frontend{Key: proxy.Key{Kind: proxy.NodePort, Family: p.ID}}}
	p.held[key] = s
	if !p.nodePort {
		s.Kind, s.Addr = proxy.ExternalIP, p.addrOf(key)
		key = key[p.AddrLen:]
	}
	s.Protocol, s.Port = snapshot.Protocol(key[0]), portOf(key[4:])
	return s
}
