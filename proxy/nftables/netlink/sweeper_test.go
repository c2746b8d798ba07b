package netlink

import (
	"context"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	gosync "sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/proxy"
	"github.com/fairlead/fairlead/proxy/nftables"
)

// fakeTable is a table of connections. listing, if set, is called for each list, and
// may fail it.
type fakeTable struct {
	mu      gosync.Mutex
	flows   []nftables.Flow
	lists   map[snapshot.Protocol]int // over IPv4
	sixth   int                       // lists over IPv6
	listing func() error
}

func (f *fakeTable) list(_ context.Context, l listing, all bool, match func(nftables.Flow) bool) (out []tracked, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if l.Family != snapshot.IPv4 && !l.both {
		f.sixth++
		return nil, nil
	}
	f.lists[l.Protocol]++
	if f.listing != nil {
		err = f.listing()
	}
	for _, fl := range f.flows {
		unasked := fl.Protocol == snapshot.TCP && fl.Answered && !all
		if err == nil && fl.Protocol == l.Protocol && !unasked && match(fl) {
			out = append(out, tracked{Flow: fl})
		}
	}
	return out, err
}

func (f *fakeTable) end(listed []tracked) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range listed {
		f.flows = slices.DeleteFunc(f.flows, func(fl nftables.Flow) bool { return fl == c.Flow })
	}
	return len(listed), nil
}

func (f *fakeTable) tell(context.Context, []tracked) error { return nil }

func (f *fakeTable) close() {}

func (f *fakeTable) left() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.flows)
}

// walks returns how often each protocol was listed, in the order of Protocols.
func (f *fakeTable) walks() [3]int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return [3]int{f.lists[snapshot.UDP], f.lists[snapshot.SCTP], f.lists[snapshot.TCP]}
}

// swept runs test with a sweeper over f, in a time that only passes while all wait.
func swept(t *testing.T, f *fakeTable, test func(t *testing.T, s *sweeper)) {
	t.Helper()
	f.lists = map[snapshot.Protocol]int{}
	synctest.Test(t, func(t *testing.T) {
		s := startSweeper(slog.New(slog.DiscardHandler), func() (connections, error) { return f, nil })
		defer s.stop()
		test(t, s)
	})
}

// passes lets time pass, until everybody waits.
func passes(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func staleFlow(a addressing, network string) (*proxy.Table, nftables.Flow) {
	f := a.front(proxy.VIP, network, a.podB)
	return a.table(f), nftables.Flow{Protocol: f.Protocol, Client: a.client, To: a.address(f), From: a.ep(a.podA)}
}

// Work that is interrupted is done later, however often that happens.
func TestInterruptionsDropNoWork(t *testing.T) {
	for _, errno := range []error{unix.EINTR, unix.ENOBUFS, errInterrupted} {
		table, flow := staleFlow(addressesOf(snapshot.IPv4), "udp")
		f := &fakeTable{flows: []nftables.Flow{flow}}
		failures := 0
		f.listing = func() error {
			if failures++; failures <= 5 {
				return errno
			}
			return nil
		}
		swept(t, f, func(t *testing.T, s *sweeper) {
			s.give(order{table: table})
			if passes(10 * sweepRetry); f.left() != 0 {
				t.Errorf("%v: the flow is still there", errno)
			}
		})
	}
}

// The connections of all protocols are compared at the start, and from then on those once
// in a while that the Table has Frontends of. After a change those are that it concerns, and after other Syncs none.
func TestWhenConnectionsAreCompared(t *testing.T) {
	a := addressesOf(snapshot.IPv4)
	udp, tcp := a.front(proxy.VIP, "udp", a.podA, a.podB), a.front(proxy.VIP, "tcp", a.podA, a.podB)
	lost := a.front(proxy.VIP, "udp", a.podA)
	f := &fakeTable{}
	swept(t, f, func(t *testing.T, s *sweeper) {
		for _, step := range []struct {
			what  string
			order order
			wait  time.Duration
			want  [3]int
		}{
			{"the first Table", order{table: a.table(tcp, udp)}, 0, [3]int{1, 1, 0}},
			{"TCP later", order{table: a.table(tcp, udp)}, dialsAfter, [3]int{1, 1, 1}},
			{"the same", order{table: a.table(tcp, udp)}, time.Second, [3]int{1, 1, 1}},
			{"UDP loses an endpoint", order{table: a.table(tcp, lost)}, time.Second, [3]int{2, 1, 1}},
			{"UDP gets it back", order{table: a.table(tcp, udp)}, time.Second, [3]int{2, 1, 1}},
			{"TCP loses its Frontend", order{table: a.table(udp), gone: []proxy.Key{tcp.Key}}, time.Second, [3]int{2, 1, 2}},
			{"time passes", order{table: a.table(udp)}, sweepEvery, [3]int{3, 1, 2}},
		} {
			s.give(step.order)
			synctest.Wait()
			if passes(step.wait); f.walks() != step.want {
				t.Errorf("%s: %d lists of UDP, SCTP and TCP, want %d", step.what, f.walks(), step.want)
			}
			if step.wait < sweepEvery && f.sixth > 2 { // of UDP and SCTP at the start
				t.Errorf("%s: %d lists over IPv6, where there is no Frontend", step.what, f.sixth)
			}
		}
	})
}

// TCP endpoints that go one after the other, all the time, share a list, which comes in
// time for a client's fourth packet. The first ones have one each at once, and so have
// those of a node that is lost.
func TestChangesOfTCPShareAList(t *testing.T) {
	a := addressesOf(snapshot.IPv4)
	both, one := a.front(proxy.VIP, "tcp", a.podA, a.podB), a.front(proxy.VIP, "tcp", a.podA)
	lost := *one
	lost.Lost = []netip.AddrPort{a.ep(a.podB)}
	const fourthPacket = 7 * time.Second
	f := &fakeTable{}
	swept(t, f, func(t *testing.T, s *sweeper) {
		change := func(to *proxy.Frontend) {
			for _, front := range []*proxy.Frontend{both, to} {
				s.give(order{table: a.table(front)})
				synctest.Wait()
			}
		}
		for i := range dialsAtOnce {
			change(one)
			if passes(time.Second); f.walks()[2] != i+1 {
				t.Errorf("%d lists after %d changes", f.walks()[2], i+1)
			}
		}
		last, longest, lists := time.Now(), time.Duration(0), dialsAtOnce
		for began := time.Now(); time.Since(began) < 20*time.Second; {
			change(one)
			passes(200 * time.Millisecond)
			if n := f.walks()[2]; n > lists {
				lists, last = n, time.Now()
			}
			longest = max(longest, time.Since(last))
		}
		if lists > dialsAtOnce+5 || longest > fourthPacket-dialsAfter {
			t.Errorf("%d lists in 20 s of changes, the longest time without one %s", lists, longest)
		}
		passes(dialsEvery)
		lists = f.walks()[2]
		change(&lost)
		if passes(dialsAfter); f.walks()[2] != lists+1 {
			t.Errorf("%d lists when a node is lost, want one", f.walks()[2]-lists)
		}
	})
}

// A connection that a newer Table has opened meanwhile stays.
func TestConnectionsOfATableToComeStay(t *testing.T) {
	a := addressesOf(snapshot.IPv4)
	table, flow := staleFlow(a, "udp")
	f := &fakeTable{flows: []nftables.Flow{flow}}
	swept(t, f, func(t *testing.T, s *sweeper) {
		f.listing = func() error {
			s.coming.Store(a.table(a.front(proxy.VIP, "udp", a.podA, a.podB)))
			return nil
		}
		s.give(order{table: table})
		if passes(time.Second); f.left() != 1 {
			t.Error("the connection ended")
		}
	})
}

// What went while no order was taken is not forgotten.
func TestGoneFrontendsAddUp(t *testing.T) {
	a := addressesOf(snapshot.IPv4)
	_, flow := staleFlow(a, "udp")
	other := flow
	other.To = netip.AddrPortFrom(a.other, 80)
	f := &fakeTable{flows: []nftables.Flow{flow, other}}
	swept(t, f, func(t *testing.T, s *sweeper) {
		s.give(order{table: a.table(), gone: []proxy.Key{a.front(proxy.VIP, "udp").Key}})
		s.give(order{table: a.table(), gone: []proxy.Key{{Kind: proxy.ClusterIP, Family: a.family, Addr: a.other, Protocol: snapshot.UDP, Port: 80}}})
		s.give(order{table: a.table()})
		if passes(time.Second); f.left() != 0 {
			t.Error("a flow of a Frontend that went is still there")
		}
	})
}

// Connections that an endpoint has answered end when its node has been lost for
// lostFor. A node that vanishes for a moment keeps them.
func TestNodesThatVanishForAMomentKeepTheirConnections(t *testing.T) {
	a := addressesOf(snapshot.IPv4)
	here := a.front(proxy.VIP, "tcp", a.podA, a.podB)
	gone := *here
	gone.Cluster, gone.Lost = []netip.AddrPort{a.ep(a.podB)}, []netip.AddrPort{a.ep(a.podA)}
	f := &fakeTable{flows: []nftables.Flow{{Protocol: snapshot.TCP, Client: a.client, To: a.address(here), From: a.ep(a.podA), Answered: true}}}
	swept(t, f, func(t *testing.T, s *sweeper) {
		for range 3 {
			s.give(order{table: a.table(&gone)})
			passes(lostFor - time.Second)
			s.give(order{table: a.table(here)})
			passes(lostFor)
		}
		if f.left() != 1 {
			t.Fatal("a connection ended though the node was back in time")
		}
		s.give(order{table: a.table(&gone)})
		if passes(lostFor + 2*maxRest); f.left() != 0 {
			t.Error("the connection is still there though the node has been lost for long")
		}
	})
}

// Whatever Tables follow each other, the endpoints on lost nodes are those that the
// last one names, since the first of the Tables in a row that name them.
func TestLostEndpointsAgainstAWalk(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 5))
	todo, since := newAgenda(), map[netip.AddrPort]time.Time{}
	a := addressesOf(snapshot.IPv4)
	last := a.table()
	for i := range 200 {
		now := time.Unix(int64(i), 0)
		next := &proxy.Table{Frontends: slices.Clone(last.Frontends)}
		for range r.IntN(4) {
			f := a.front([]proxy.Kind{proxy.ClusterIP, proxy.VIP, proxy.NodePort}[r.IntN(3)], []string{"tcp", "udp"}[r.IntN(2)])
			for _, pod := range []netip.Addr{a.podA, a.podB, a.remote} {
				if r.IntN(2) == 0 {
					f.Lost = append(f.Lost, a.ep(pod))
				}
			}
			at, found := slices.BinarySearchFunc(next.Frontends, f.Key, func(f *proxy.Frontend, k proxy.Key) int { return f.Key.Compare(k) })
			if found {
				next.Frontends = slices.Delete(next.Frontends, at, at+1)
			}
			if r.IntN(4) > 0 {
				next.Frontends = slices.Insert(next.Frontends, at, f)
			}
		}
		todo.take(order{table: next}, now)
		named := map[netip.AddrPort]bool{}
		for _, f := range next.Frontends {
			for _, ep := range f.Lost {
				if f.Protocol != snapshot.TCP {
					continue
				}
				named[ep] = true
				if _, known := since[ep]; !known {
					since[ep] = now
				}
			}
		}
		maps.DeleteFunc(since, func(ep netip.AddrPort, _ time.Time) bool { return !named[ep] })
		got := map[netip.AddrPort]time.Time{}
		for ep, l := range todo.lost {
			got[ep] = l.since
		}
		if !maps.Equal(got, since) {
			t.Fatalf("table %d: got %v, want %v", i, got, since)
		}
		last = next
	}
}

// Both families share a list where the kernel returns only what nobody has answered.
func TestListings(t *testing.T) {
	four, six := nftables.Network{Protocol: snapshot.TCP, Family: snapshot.IPv4}, nftables.Network{Protocol: snapshot.TCP, Family: snapshot.IPv6}
	udp := nftables.Network{Protocol: snapshot.UDP, Family: snapshot.IPv6}
	for _, c := range []struct {
		networks []nftables.Network
		all      bool
		want     []listing
	}{
		{nil, false, nil},
		{[]nftables.Network{udp, six}, false, []listing{{Network: udp}, {Network: six}}},
		{[]nftables.Network{four, six}, false, []listing{{Network: four, both: true}}},
		{[]nftables.Network{four, six}, true, []listing{{Network: four}, {Network: six}}},
		{nftables.Networks[:4], false, []listing{{Network: nftables.Networks[0]}, {Network: nftables.Networks[1]}, {Network: nftables.Networks[2]}, {Network: nftables.Networks[3]}}},
	} {
		if got := listings(c.networks, c.all); !slices.Equal(got, c.want) {
			t.Errorf("%s, all %t: %s, want %s", c.networks, c.all, got, c.want)
		}
	}
}
