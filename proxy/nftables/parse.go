package nftables

import (
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/proxy"
)

// parse returns the Slots that the table in the kernel stands for, by their id. Of their Frontends it knows the Key and the Affinity alone: that is
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
	set    string
	by     by
	front  bool // each element is of one Frontend
	local  bool // of a slot map
	number int  // of a slot map, otherwise -1
}

// enter takes the name of a set apart. A set that is not sound says nothing.
func (p *parser) enter(set string, sound bool) {
	name, by := cutPrefix(set)
	p.set, p.by, p.number, p.front = set, by, -1, false
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
	// Somebody else's element may be too short to hold an endpoint.
	if p.number < 0 || len(e.Data) < p.AddrLen+2 && p.by != byRange || len(e.Data) < p.AddrLen {
		return
	}
	slots := p.slots(e.Key).slots(p.local)
	for len(slots.at) <= p.number {
		slots.at = append(slots.at, netip.AddrPort{})
	}
	port := uint16(0)
	if p.by != byRange {
		port = portOf(e.Data[p.AddrLen:])
	}
	slots.at[p.number] = netip.AddrPortFrom(p.addrOf(e.Data), port)
}

// slots returns the Slots with this key, new ones if there are none.
func (p *parser) slots(key string) *Slots {
	id := p.by.prefix() + key
	if s := p.held[id]; s != nil {
		return s
	}
	s := &Slots{Frontend: &proxy.Frontend{Key: proxy.Key{Kind: proxy.NodePort, Family: p.ID}}}
	p.held[id] = s
	if p.by != byNodePort {
		s.Kind, s.Addr = proxy.ExternalIP, p.addrOf(key)
		key = key[p.AddrLen:]
	}
	if s.Protocol = snapshot.Protocol(key[0]); p.by == byRange {
		s.Kind = proxy.VIP
	} else {
		s.Port = portOf(key[4:])
	}
	return s
}

// id names p among all Slots of its family: keys of different kinds may be equal.
func (p *Slots) id() string { return p.by().prefix() + p.key() }
