package nftables

import (
	"net/netip"
	"slices"
	"time"

	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/proxy"
)

// Leftovers are what a Sync makes wrong outside of the tables: clients that an
// affinity set remembers for an endpoint that moved, and connections to endpoints
// that went. The shell cleans them up after the Sync. What it could not clean up
// stays here until the next one. The zero value is empty.
type Leftovers struct {
	Clients map[*Family]map[string][]string // of an affinity set: the Frontends' keys, which its own keys end with
	Flows   map[proxy.Key]bool              // Frontends, also former ones, with UDP flows that may be stale
	Dials   map[proxy.Key]time.Time         // Frontends with connections that may stay unanswered, and when to look
}

// A connection that an endpoint has not answered UnansweredFor after it was
// removed is ended: the client's next attempt goes to another one. That is sooner
// than the second packet of the ones that were opened last (1 s, RFC 6298), and so
// late that an endpoint which is merely leaving has answered. Sweeps are at most
// one in SweepEvery.
const (
	UnansweredFor = 500 * time.Millisecond
	SweepEvery    = 250 * time.Millisecond
)

// Add adds what patches leave, which were written at now.
func (l *Leftovers) Add(patches []*Patch, now time.Time) {
	if l.Clients == nil {
		l.Clients = map[*Family]map[string][]string{}
	}
	if l.Flows == nil {
		l.Flows = map[proxy.Key]bool{}
	}
	if l.Dials == nil {
		l.Dials = map[proxy.Key]time.Time{}
	}
	for _, p := range patches {
		for _, c := range p.changes {
			l.addClients(p.Family, c)
			switch {
			case c.leavesFlows():
				l.Flows[c.newOrOld().Key] = true
			case c.leavesDials():
				l.Dials[c.new.Key] = now.Add(UnansweredFor + SweepEvery).Truncate(SweepEvery)
			}
		}
	}
}

// addClients adds the clients of each slot of a changed Frontend that no longer
// means the same endpoint.
func (l *Leftovers) addClients(f *Family, c change) {
	if c.old == nil || c.old.Affinity == 0 {
		return
	}
	now := &Slots{}
	if c.new != nil && c.new.Affinity > 0 {
		now = c.new
	}
	np := c.old.Kind == proxy.NodePort
	l.addMoved(f, c.old, variant{np, false}, c.old.cluster, now.cluster)
	l.addMoved(f, c.old, variant{np, true}, c.old.local, now.local)
}

func (l *Leftovers) addMoved(f *Family, p *Slots, v variant, old, now []slot) {
	for i, s := range old {
		if i < len(now) && now[i].ep == s.ep {
			continue
		}
		if l.Clients[f] == nil {
			l.Clients[f] = map[string][]string{}
		}
		l.Clients[f][v.affinity(i)] = append(l.Clients[f][v.affinity(i)], p.key())
	}
}

// leavesFlows reports whether a UDP flow may be left with the wrong endpoint. That is
// so if the Frontend lost an endpoint or went away. It is also so if it got its first
// endpoint, because until then datagrams may have passed untranslated.
func (c change) leavesFlows() bool {
	return c.newOrOld().Protocol == snapshot.UDP && (c.new == nil || c.old == nil || len(c.old.Cluster) == 0 || c.lostEndpoint())
}

// leavesDials reports whether a TCP connection may wait for an endpoint that went.
func (c change) leavesDials() bool {
	return c.newOrOld().Protocol == snapshot.TCP && c.new != nil && c.old != nil && c.lostEndpoint()
}

// lostEndpoint reports whether a Frontend that remains lost an endpoint.
func (c change) lostEndpoint() bool {
	return lostEndpoint(c.old.Cluster, c.new.Cluster) || lostEndpoint(c.old.Local, c.new.Local)
}

// lostEndpoint reports whether an endpoint of old is not in now.
func lostEndpoint(old, now []netip.AddrPort) bool {
	return slices.ContainsFunc(old, func(ep netip.AddrPort) bool {
		_, ok := find(now, ep)
		return !ok
	})
}

// Due takes the Frontends out of l.Dials that are due at now. It also returns when
// the next ones are due, the zero Time if there are none.
func (l *Leftovers) Due(now time.Time) (keys map[proxy.Key]bool, next time.Time) {
	keys = map[proxy.Key]bool{}
	for k, at := range l.Dials {
		switch {
		case !now.Before(at):
			keys[k] = true
			delete(l.Dials, k)
		case next.IsZero() || at.Before(next):
			next = at
		}
	}
	return keys, next
}

// Flow is a connection that the kernel remembers: where the client sends to, and
// who answers. As long as the client keeps sending, the kernel keeps sending to
// that endpoint: nothing else ends a UDP flow, nor a TCP connection that is not
// answered.
type Flow struct {
	Protocol snapshot.Protocol
	To, From netip.AddrPort
	Answered bool
}

// Stale reports whether f goes to a Frontend of t but to none of its endpoints, or
// to a Frontend in changed that t no longer has.
func (f Flow) Stale(t *proxy.Table, changed map[proxy.Key]bool) bool {
	family := snapshot.FamilyOf(f.To.Addr())
	for _, kind := range []proxy.Kind{proxy.ClusterIP, proxy.VIP, proxy.ExternalIP, proxy.NodePort} {
		key := proxy.Key{Kind: kind, Family: family, Addr: f.To.Addr(), Protocol: f.Protocol, Port: f.To.Port()}
		if kind == proxy.NodePort {
			if !slices.Contains(t.NodePortAddrs, f.To.Addr()) {
				return false
			}
			key.Addr = netip.Addr{}
		}
		if front := t.Frontend(key); front != nil {
			_, cluster := find(front.Cluster, f.From)
			_, local := find(front.Local, f.From)
			return !cluster && !local
		}
		if changed[key] {
			return true
		}
	}
	return false
}
