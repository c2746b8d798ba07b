package netlink

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/proxy"
)

// messagesOf returns how many netlink messages f makes e send.
func messagesOf(t *testing.T, e *Engine, f func()) uint32 {
	t.Helper()
	if err := e.connect(); err != nil {
		t.Fatal(err)
	}
	before := e.conn.seq
	f()
	return e.conn.seq - before
}

// oneMore is table with one Service more.
func oneMore(table *proxy.Table, i int) *proxy.Table {
	out := *table
	f := *table.Frontends[0]
	f.Addr = numbered(f.Family, 97, i)
	f.Cluster = []netip.AddrPort{netip.AddrPortFrom(numbered(f.Family, 98, i), 80), netip.AddrPortFrom(numbered(f.Family, 98, i+1), 80)}
	out.Frontends = append(slices.Clone(table.Frontends), &f)
	return &out
}

// spec 91: a Service more among many is its own elements and nothing else: its
// address, its frontend and two endpoints. So is one endpoint that is replaced.
// The number of messages, too, is the same with 10 Services and with 2,000.
func TestOneServiceMoreIsItsElements(t *testing.T) {
	for _, family := range bothFamilies {
		sent := map[int]uint32{}
		for _, n := range []int{10, 2000} {
			s := newSpace(t, "one-more")
			e := s.engine(t)
			table := services(family, n, 2)
			sync(t, e, table)
			sent[n] = messagesOf(t, e, func() {
				if c := sync(t, e, oneMore(table, 1)); c.Added != 4 || c.Deleted != 0 || c.Rebuilt {
					t.Errorf("%s, %d Services and one more: %+v", family, n, c)
				}
			})
			replaced := *oneMore(table, 1)
			f := *replaced.Frontends[n/2]
			f.Cluster = []netip.AddrPort{f.Cluster[0], netip.AddrPortFrom(numbered(family, 120, 1), 80)}
			replaced.Frontends[n/2] = &f
			if c := sync(t, e, &replaced); c.Added != 1 || c.Deleted != 1 || c.Rebuilt {
				t.Errorf("%s, %d Services, an endpoint replaced: %+v", family, n, c)
			}
		}
		// Begin, four sets, end.
		if sent[10] != sent[2000] || sent[10] > 6 {
			t.Errorf("%s: messages by number of Services: %v", family, sent)
		}
	}
}

// spec 90: after a restart only the difference is written: here a Service whose
// endpoint changed, and a new one.
func TestRestartWritesTheDifference(t *testing.T) {
	s := newSpace(t, "restart")
	table := services(snapshot.IPv4, 1000, 2)
	sync(t, s.engine(t), table)
	next := oneMore(table, 1)
	f := *next.Frontends[500]
	f.Cluster = append(slices.Clone(f.Cluster), netip.AddrPortFrom(numbered(snapshot.IPv4, 120, 1), 80))
	next.Frontends[500] = &f
	// One slot more, and the Service's way to three slots in place of that to two.
	if c := sync(t, s.engine(t), next); c.Added != 4+2 || c.Deleted != 1 || c.Rebuilt || c.Repaired {
		t.Errorf("a Service with another endpoint and a new one: %+v", c)
	}
	if c := sync(t, s.engine(t), next); !c.Empty() {
		t.Errorf("nothing new: %+v", c)
	}
}
