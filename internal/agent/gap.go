package agent

import (
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/fairlead/fairlead/announcer"
	"github.com/fairlead/fairlead/internal/diff"
	"github.com/fairlead/fairlead/internal/node"
	"github.com/fairlead/fairlead/internal/snapshot"
)

// gaps measures how long nobody answered for the addresses of nodes that do not answer any
// longer: from such a node's last answer until this node holds the address. A node dies
// after its last answer, so this is the most that it can have been.
type gaps struct {
	mu       sync.Mutex
	last     map[netip.Addr]time.Time // the former owner's last answer, of what is not held yet
	measured map[netip.Addr]time.Duration
}

// follow takes in that now is decided after was. lastAnswer is zero for a node that answers,
// and for one that this node does not ask.
func (g *gaps) follow(was, now node.State, lastAnswer func(node string) time.Time) {
	if diff.Same(was.Elected, now.Elected) {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	mine := map[netip.Addr]bool{}
	for _, v := range was.Elected {
		mine[v.Addr] = true
	}
	last, measured := map[netip.Addr]time.Time{}, map[netip.Addr]time.Duration{}
	for _, v := range now.Elected {
		if d, ok := g.measured[v.Addr]; ok {
			measured[v.Addr] = d
		}
		if t, ok := g.last[v.Addr]; ok {
			last[v.Addr] = t
		}
		if mine[v.Addr] {
			continue
		}
		delete(measured, v.Addr) // of an earlier time
		if t := lastAnswer(formerOwner(was.Refused, v.Addr)); !t.IsZero() {
			last[v.Addr] = t
		}
	}
	g.last, g.measured = last, measured
}

// formerOwner returns which node owned addr when refused was decided; "" if none did.
func formerOwner(refused []announcer.Refused, addr netip.Addr) string {
	i := slices.IndexFunc(refused, func(r announcer.Refused) bool { return r.Addr == addr && r.Reason == announcer.NotOwner })
	if i < 0 {
		return ""
	}
	return refused[i].Owner
}

// held takes in what is held at time now. It returns how many gaps ended, and the longest.
func (g *gaps) held(claims []announcer.Claim, now time.Time) (n int, longest time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, c := range claims {
		if t, ok := g.last[c.Addr]; ok {
			gap := now.Sub(t)
			n, longest = n+1, max(longest, gap)
			g.measured[c.Addr] = gap
			delete(g.last, c.Addr)
		}
	}
	return n, longest
}

// in returns all with the gaps that were measured before this node held them. It leaves all
// as it is, which a describer remembers.
func (g *gaps) in(all []snapshot.Announced) []snapshot.Announced {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.measured) == 0 {
		return all
	}
	all = slices.Clone(all)
	for i := range all {
		all[i].Gap = g.measured[all[i].Addr]
	}
	return all
}
