package netlink

import (
	"bufio"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/internal/test/nstest"
	"github.com/fairlead/fairlead/proxy"
	"github.com/fairlead/fairlead/proxy/nftables"
)

// spec 84: a flow stays with an endpoint that terminates and serves, and ends when it
// no longer serves. The flow to another port shows that the connections were compared.
func TestFlowsStayWhileTheirEndpointServes(t *testing.T) {
	l := newLab(t)
	for _, family := range bothFamilies {
		t.Run(family.String(), func(t *testing.T) {
			a := addressesOf(family)
			front := func(port uint16, serving ...netip.AddrPort) func(...netip.Addr) *proxy.Frontend {
				return func(cluster ...netip.Addr) *proxy.Frontend {
					f := a.front(proxy.VIP, "udp", cluster...)
					f.Port, f.Serving = port, serving
					return f
				}
			}
			ask := func(port uint16) func() string {
				return func() string {
					to := netip.AddrPortFrom(a.vip, port)
					return l.client.outcome("udp", to, netip.AddrPortFrom(a.client, 41000+port), brief)
				}
			}
			onA, onB := "podA "+a.nodeOnA.String(), "podB "+a.nodeOnB.String()
			sync(t, l.engine, a.table(front(80)(a.podA), front(81)(a.podA)))
			soon(t, "at first", ask(80), onA)
			soon(t, "the other port at first", ask(81), onA)
			sync(t, l.engine, a.table(front(80, a.ep(a.podA), a.ep(a.podB))(a.podB), front(81)(a.podB)))
			soon(t, "the other port", ask(81), onB)
			if got := l.client.outcome("udp", netip.AddrPortFrom(a.vip, 80), netip.AddrPortFrom(a.client, 41080), patient); got != onA {
				t.Errorf("while the endpoint serves: got %q, want %q", got, onA)
			}
			sync(t, l.engine, a.table(front(80)(a.podB), front(81)(a.podB)))
			soon(t, "afterwards", ask(80), onB)
		})
	}
}

// spec 81: a process that was killed between its commit and the end of stale flows
// leaves them to the next one, which finds nothing to change in the tables.
func TestStaleFlowsAfterAKill(t *testing.T) {
	l := newLab(t)
	for _, family := range bothFamilies {
		a := addressesOf(family)
		f, src := a.front(proxy.VIP, "udp", a.podA), netip.AddrPortFrom(a.client, 41500)
		ask := func() string { return l.client.outcome("udp", a.address(f), src, patient) }
		first := l.node.engine(t)
		sync(t, first, a.table(f))
		soon(t, "at first", ask, "podA "+a.nodeOnA.String())
		first.Close()
		table := a.table(a.front(proxy.VIP, "udp", a.podB))
		l.node.commitOnly(t, table)
		if got, want := ask(), "podA "+a.nodeOnA.String(); got != want {
			t.Errorf("%s: after the kill %q, want %q", family, got, want)
		}
		next := l.node.engine(t)
		if c := sync(t, next, table); !c.Empty() {
			t.Errorf("%s: the next process wrote %+v", family, c)
		}
		soon(t, family.String(), ask, "podB "+a.nodeOnB.String())
	}
}

// commitOnly does of a Sync what is done until its transaction is committed.
func (s space) commitOnly(t *testing.T, table *proxy.Table) {
	t.Helper()
	e := s.engine(t)
	if _, err := e.look(); err != nil {
		t.Fatal(err)
	}
	kernel, err := e.conn.read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	_, patches := nftables.Adopt(kernel, table, nftables.DefaultMark, false)
	if err := e.write(t.Context(), patches, nil); err != nil {
		t.Fatal(err)
	}
}

// A Sync costs the same with few and with many UDP Frontends that lose an endpoint, and
// waits for no walk through the connections: there are many here.
func TestSyncDoesNotWaitForConnections(t *testing.T) {
	l := newLab(t)
	a := addressesOf(snapshot.IPv4)
	connections := nstest.Few(100_000)
	track(t, l.node, connections)
	table := func(n int, endpoints ...netip.Addr) *proxy.Table {
		var fronts []*proxy.Frontend
		for i := range n {
			f := a.front(proxy.VIP, "udp", endpoints...)
			f.Port = uint16(1000 + i)
			fronts = append(fronts, f)
		}
		return a.table(fronts...)
	}
	walk := timed(func() {
		c, err := dial(int(l.node.Handle), 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		defer c.close()
		n := 0
		err = c.get(t.Context(), ctGet, 2, true, func(*batch) {}, func(message) error { n++; return nil })
		if err != nil || n < connections {
			t.Fatalf("listed %d connections: %v", n, err)
		}
	})
	fastest := map[int]time.Duration{}
	for _, n := range []int{31, 33} {
		var all []time.Duration
		for range 5 {
			sync(t, l.engine, table(n, a.podA, a.podB))
			now := table(n, a.podA)
			all = append(all, timed(func() { sync(t, l.engine, now) }))
		}
		fastest[n] = slices.Min(all)
	}
	t.Logf("a walk %s, a Sync of 31 Frontends %s, of 33 %s", walk, fastest[31], fastest[33])
	for n, took := range fastest {
		if took > walk/2 {
			t.Errorf("a Sync that takes an endpoint from %d Frontends takes %s, a walk %s", n, took, walk)
		}
	}
}

// track has the kernel track n UDP flows.
func track(t *testing.T, s space, n int) {
	t.Helper()
	file, err := os.Create(filepath.Join(t.TempDir(), "flows"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	w := bufio.NewWriter(file)
	for i := range n {
		fmt.Fprintf(w, "-I -p udp -s 198.18.250.%d -d 198.18.251.1 --sport %d --dport 9 -t 600 -u SEEN_REPLY,ASSURED\n", i/50_000, 1+i%50_000)
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	s.Run(t, "conntrack", "-R", file.Name())
}

// A client that dials from one port reaches a Service soon, though the kernel tracks
// its connection from before the Service: it dialled before the Service came, or its
// packet fell into a change and was not translated.
func TestTCPClientBeforeItsService(t *testing.T) {
	l := newLab(t)
	for _, family := range bothFamilies {
		for i, name := range []string{"no Service", "a change"} {
			t.Run(family.String()+"/"+name, func(t *testing.T) {
				a := addressesOf(family)
				f, port := a.front(proxy.VIP, "tcp", a.podA), 42000+i
				sync(t, l.engine, a.table())
				ask := func() string {
					return l.client.outcome("tcp", a.address(f), netip.AddrPortFrom(a.client, uint16(port)), brief)
				}
				// A sweep that the Sync before began may end the first one.
				nstest.Eventually(t, "the kernel tracks the connection", func() bool { ask(); return l.node.tracks(t, a, port) })
				if name == "a change" {
					l.node.commitOnly(t, a.table(a.front(proxy.VIP, "tcp", a.podA, a.podB)))
				}
				sync(t, l.engine, a.table(f))
				within(t, 3*time.Second, "the client", ask, "podA "+a.nodeOnA.String())
			})
		}
	}
}

// A client whose endpoint's node died comes back from its old port, without a word to
// that endpoint, and gets a new one. A connection to a node that lives stays.
func TestTCPClientOfALostNode(t *testing.T) {
	l := newLab(t)
	for _, family := range bothFamilies {
		t.Run(family.String(), func(t *testing.T) {
			a := addressesOf(family)
			sync(t, l.engine, a.table(a.front(proxy.VIP, "tcp", a.podA)))
			f := a.front(proxy.VIP, "tcp", a.podB)
			src := netip.AddrPortFrom(a.client, 42100)
			lost, err := l.client.dial("tcp", a.address(f), src, patient)
			if err != nil {
				t.Fatal(err)
			}
			defer lost.Close()
			sync(t, l.engine, a.table(f))
			kept, err := l.client.dial("tcp", a.address(f), netip.AddrPort{}, patient)
			if err != nil {
				t.Fatal(err)
			}
			defer kept.Close()
			for _, s := range []space{l.podA, l.client} {
				s.Run(t, "nft", "add table inet deaf; add chain inet deaf output { type filter hook output priority 0; }")
				defer s.Run(t, "nft", "delete table inet deaf")
			}
			l.podA.Run(t, "nft", "add rule inet deaf output drop")
			l.client.Run(t, "nft", "add rule inet deaf output tcp sport 42100 tcp flags & (fin|rst) != 0 drop")
			if err := lost.(*net.TCPConn).SetLinger(0); err != nil {
				t.Fatal(err)
			}
			lost.Close()
			now := *f
			now.Lost = []netip.AddrPort{a.ep(a.podA)}
			sync(t, l.engine, a.table(&now))
			ask := func() string { return l.client.outcome("tcp", a.address(f), src, brief) }
			within(t, 10*time.Second, "the client that comes back", ask, "podB "+a.nodeOnB.String())
			if got, err := say(kept, patient); got != "podB "+a.nodeOnB.String() {
				t.Errorf("the other connection: %q, %v", got, err)
			}
		})
	}
}

// Flows of a source that loadBalancerSourceRanges no longer has end.
func TestFlowsOfSourcesThatAreNotAllowedEnd(t *testing.T) {
	l := newLab(t)
	for _, family := range bothFamilies {
		a := addressesOf(family)
		f := a.front(proxy.VIP, "udp", a.podA)
		f.Sources = []netip.Prefix{netip.PrefixFrom(a.client, a.client.BitLen()), netip.PrefixFrom(a.client2, a.client.BitLen())}
		narrow := *f
		narrow.Sources = f.Sources[1:]
		ask := func(client netip.Addr) func() string {
			return func() string {
				return l.client.outcome("udp", a.address(f), netip.AddrPortFrom(client, 42200), 2*brief)
			}
		}
		sync(t, l.engine, a.table(f))
		soon(t, "at first", ask(a.client), "podA "+a.nodeOnA.String())
		soon(t, "another source", ask(a.client2), "podA "+a.nodeOnA.String())
		sync(t, l.engine, a.table(&narrow))
		soon(t, family.String(), ask(a.client), "nothing")
		soon(t, "the source that is still allowed", ask(a.client2), "podA "+a.nodeOnA.String())
	}
}

// spec 84: SCTP associations end like UDP flows.
func TestSCTPFlowsEnd(t *testing.T) {
	l := newLab(t)
	for _, family := range bothFamilies {
		a := addressesOf(family)
		f := a.front(proxy.VIP, "sctp", a.podA, a.podB)
		sync(t, l.engine, a.table(f))
		for port, pod := range map[int]netip.Addr{42300: a.podA, 42301: a.podB} {
			p := strconv.Itoa(port)
			l.node.Run(t, "conntrack", "-I", "-p", "sctp", "-s", a.client.String(), "-d", a.vip.String(), "--sport", p, "--dport", "80",
				"-r", pod.String(), "-q", a.node.String(), "--reply-port-src", "8080", "--reply-port-dst", p, "--state", "ESTABLISHED",
				"--orig-vtag", "1", "--reply-vtag", "2", "-t", "600", "-u", "SEEN_REPLY,ASSURED")
		}
		sync(t, l.engine, a.table(a.front(proxy.VIP, "sctp", a.podB)))
		soon(t, "the association with the endpoint that went", func() string { return fmt.Sprint(l.node.tracks(t, a, 42300)) }, "false")
		if !l.node.tracks(t, a, 42301) {
			t.Error("the association with the endpoint that stays ended")
		}
	}
}

// After a Cleanup other proxies' connections are theirs alone.
func TestCleanupEndsSweeps(t *testing.T) {
	s := newSpace(t, "cleanup")
	e := s.engine(t)
	sync(t, e, everything())
	if err := e.Cleanup(t.Context()); err != nil {
		t.Fatal(err)
	}
	if e.sweeper != nil {
		t.Error("connections are still compared")
	}
}
