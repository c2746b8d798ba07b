package netlink

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/proxy"
	"github.com/fairlead/fairlead/proxy/nftables"
)

// sticky gives f an affinity.
func sticky(f *proxy.Frontend, d time.Duration) *proxy.Frontend {
	f.Affinity = d
	return f
}

// spec 77, 78, 80: a client stays with its endpoint, over TCP and UDP alike.
func TestAffinity(t *testing.T) {
	l := newLab(t)
	each(t, func(t *testing.T, a addressing, network string) {
		for _, kind := range []proxy.Kind{proxy.ClusterIP, proxy.VIP, proxy.NodePort} {
			for _, local := range []bool{false, true} {
				if kind == proxy.ClusterIP && local {
					continue
				}
				t.Run(fmt.Sprint(kind, local), func(t *testing.T) { testSticks(t, l, a, network, kind, local) })
			}
		}
	})
}

func testSticks(t *testing.T, l *lab, a addressing, network string, kind proxy.Kind, local bool) {
	make := func(endpoints ...netip.Addr) *proxy.Frontend {
		f := sticky(a.front(kind, network, endpoints...), time.Hour)
		if local {
			f = a.localOnly(f, endpoints...)
		}
		return f
	}
	f := make(a.podA, a.podB, a.remote)
	to := a.address(f)
	sync(t, l.engine, a.table(f))
	first := l.client.ask(network, to)
	stays := func(when string) {
		t.Helper()
		for range 12 {
			if got := l.client.ask(network, to); got != first {
				t.Fatalf("%s: got %q after %q", when, got, first)
			}
		}
	}
	stays("at once")
	// The other endpoints come and go; a restart does not forget either.
	keep := map[byte]netip.Addr{'A': a.podA, 'B': a.podB}[first[3]]
	if !keep.IsValid() {
		keep = a.remote
	}
	sync(t, l.engine, a.table(make(keep)))
	stays("the only endpoint")
	sync(t, l.node.engine(t), a.table(make(a.podA, a.podB, a.remote)))
	stays("others came back")
	// Its own goes: the client moves and stays there.
	var rest []netip.Addr
	for _, e := range []netip.Addr{a.podA, a.podB, a.remote} {
		if e != keep {
			rest = append(rest, e)
		}
	}
	sync(t, l.engine, a.table(make(rest...)))
	before := first
	if first = l.client.ask(network, to); first == before {
		t.Fatalf("still %q", first)
	}
	stays("after its endpoint went")
	// Without affinity all are reached.
	none := make(rest...)
	none.Affinity = 0
	sync(t, l.engine, a.table(none))
	for range 100 {
		if l.client.ask(network, to) != first {
			return
		}
	}
	t.Error("the affinity stayed")
}

// spec 79: an affinity ends when the client was silent for its timeout, and not
// before: each new connection starts the time again. Afterwards the other
// endpoints are reached as well.
func TestAffinityExpires(t *testing.T) {
	const timeout = 2 * time.Second
	l := newLab(t)
	for _, family := range bothFamilies {
		t.Run(family.String(), func(t *testing.T) {
			a := addressesOf(family)
			f := sticky(a.front(proxy.VIP, "tcp", a.podA, a.podB, a.remote), timeout)
			sync(t, l.engine, a.table(f))
			start := time.Now()
			first := l.client.ask("tcp", a.address(f))
			last := start
			for time.Since(start) < timeout+timeout/2 { // longer than one timeout, by refreshing
				before := time.Now()
				got := l.client.ask("tcp", a.address(f))
				if before.Sub(last) > timeout*3/4 {
					t.Skip("this machine stalls for longer than the timeout")
				}
				if got != first {
					t.Fatalf("after %v: got %q, had %q", time.Since(start), got, first)
				}
				last = before
				<-time.After(timeout / 8)
			}
			if n := affinityElements(t, l); n != 1 {
				t.Fatalf("%d clients remembered, want 1", n)
			}
			forgotten(t, l, timeout)
			if quiet := time.Since(last); quiet < timeout-timeout/8 {
				t.Errorf("forgotten after %v, want %v", quiet, timeout)
			}
			sync(t, l.engine, a.table(sticky(a.front(proxy.VIP, "tcp", a.podA, a.podB, a.remote), time.Second)))
			for range 20 { // one in three reaches the same endpoint again
				if l.client.ask("tcp", a.address(f)) != first {
					return
				}
				forgotten(t, l, time.Second)
			}
			t.Errorf("only %q is reached after the timeout", first)
		})
	}
}

// forgotten waits until no client is remembered any more, which takes timeout.
func forgotten(t *testing.T, l *lab, timeout time.Duration) {
	t.Helper()
	deadline := time.Now().Add(10 * timeout)
	for affinityElements(t, l) != 0 {
		if time.Now().After(deadline) {
			t.Fatal("the client was never forgotten")
		}
		<-time.After(50 * time.Millisecond)
	}
}

// spec 79: the kernel is given the timeout that the Service has.
func TestAffinityTimeoutInTheKernel(t *testing.T) {
	s := newSpace(t, "timeout")
	a := addressesOf(nftables.IP4.ID)
	for seconds, text := range map[int]string{1: "timeout 1s ", 125: "timeout 2m5s ", 10800: "timeout 3h ", 86400: "timeout 1d "} {
		f := sticky(a.front(proxy.ClusterIP, "tcp", a.podA, a.podB), time.Duration(seconds)*time.Second)
		sync(t, s.engine(t), a.table(f))
		if out := s.Run(t, "nft", "list", "chain", "ip", nftables.TableName, fmt.Sprintf("a-0-%d", seconds)); !strings.Contains(out, text) {
			t.Errorf("%d seconds: no %q in\n%s", seconds, text, out)
		}
	}
}

// spec 80: each client has an endpoint of its own, and keeps it when another
// client, or the same one over another protocol, gets another.
func TestAffinityIsPerClient(t *testing.T) {
	l := newLab(t)
	each(t, func(t *testing.T, a addressing, network string) {
		f := sticky(a.front(proxy.ClusterIP, network, a.podA, a.podB, a.remote), time.Hour)
		sync(t, l.engine, a.table(f))
		ask := func(src netip.Addr) string {
			return l.client.outcome(network, a.address(f), netip.AddrPortFrom(src, 0), patient)
		}
		first, second := ask(a.client), ask(a.client2)
		for range 12 {
			if got := ask(a.client); got != first {
				t.Fatalf("got %q after %q", got, first)
			}
			if got := ask(a.client2); got != second {
				t.Fatalf("another client got %q after %q", got, second)
			}
		}
		if n := affinityElements(t, l); n != 2 {
			t.Errorf("%d clients remembered, want 2", n)
		}
		sync(t, l.engine, a.table())
	})
}

// affinityElements counts the clients that are remembered.
func affinityElements(t *testing.T, l *lab) int {
	t.Helper()
	if err := l.engine.connect(); err != nil {
		t.Fatal(err)
	}
	n := 0
	for f, layout := range l.engine.ruleset.Layouts {
		for _, set := range layout.Sets {
			if !strings.Contains(set.Name, "affinity") {
				continue
			}
			elems, err := l.engine.conn.readElements(t.Context(), nil, f, set.Name, nftables.SetType{})
			if err != nil {
				t.Fatal(err)
			}
			n += len(elems)
		}
	}
	return n
}

// A client that moved off a slot is forgotten there, or the next endpoint in
// that slot would inherit it.
func TestAffinityPurge(t *testing.T) {
	l := newLab(t)
	each(t, func(t *testing.T, a addressing, network string) {
		f := sticky(a.front(proxy.VIP, network, a.podA), time.Hour)
		np := sticky(a.front(proxy.NodePort, network, a.podA), time.Hour)
		sync(t, l.engine, a.table(f, np))
		l.client.ask(network, a.address(f))
		l.client.ask(network, a.address(np))
		if n := affinityElements(t, l); n != 2 {
			t.Fatalf("%d clients remembered, want 2", n)
		}
		sync(t, l.engine, a.table(sticky(a.front(proxy.VIP, network, a.podB), time.Hour), np))
		if n := affinityElements(t, l); n != 1 {
			t.Errorf("%d clients remembered after the endpoint went, want 1", n)
		}
		if c := sync(t, l.engine, a.table(sticky(a.front(proxy.VIP, network, a.podB), time.Hour), np)); !c.Empty() || c.Repaired {
			t.Errorf("our own purge was taken for a foreign change: %+v", c)
		}
		sync(t, l.engine, a.table(np))
		sync(t, l.engine, a.table())
		if n := affinityElements(t, l); n != 0 {
			t.Errorf("%d clients remembered without a Service", n)
		}
	})
}

// A memory that is full does not switch affinity off: a client that cannot be
// remembered always gets the same endpoint. All are reached.
func TestFullMemory(t *testing.T) {
	l := newLab(t)
	for _, family := range bothFamilies {
		t.Run(family.String(), func(t *testing.T) {
			a := addressesOf(family)
			f := sticky(a.front(proxy.VIP, "tcp", a.podA, a.podB, a.remote), time.Hour)
			sync(t, l.engine, a.table(f))
			name := familyName(a)
			small := strings.ReplaceAll(l.node.Pipe(t, "", "nft", "list", "table", name, nftables.TableName), "size 65535", "size 1")
			fill := ""
			for i := range f.Cluster {
				fill += fmt.Sprintf("add element %s fairlead affinity-%d { %s . %s . tcp . 9 timeout 1h }\n", name, i, a.client, a.vip)
			}
			l.node.Pipe(t, fmt.Sprintf("delete table %s fairlead\n%s\n%s", name, small, fill), "nft", "-f", "-")
			clients := make([]netip.Addr, 0, 40)
			for i := range cap(clients) {
				clients = append(clients, l.more(t, a, i))
			}
			reached, first := map[string]int{}, map[netip.Addr]string{}
			for round := range 6 {
				for _, src := range clients {
					got := l.client.outcome("tcp", a.address(f), netip.AddrPortFrom(src, 0), patient)
					if round == 0 {
						first[src] = got
						reached[got]++
					}
					if got != first[src] {
						t.Fatalf("%s: got %q after %q", src, got, first[src])
					}
				}
			}
			if len(reached) != 3 {
				t.Errorf("reached %v, want three endpoints", reached)
			}
			sync(t, l.node.engine(t), a.table())
		})
	}
}

// more gives the client's namespace another address.
func (l *lab) more(t *testing.T, a addressing, i int) netip.Addr {
	t.Helper()
	addr := numbered(a.family, 65, i)
	for s, do := range map[space]func(netlink.Link) error{
		l.client: func(link netlink.Link) error {
			return netlink.AddrReplace(link, &netlink.Addr{IPNet: host128(addr), Flags: unix.IFA_F_NODAD})
		},
		l.node: func(link netlink.Link) error {
			return netlink.RouteReplace(&netlink.Route{LinkIndex: link.Attrs().Index, Dst: host128(addr), Scope: netlink.SCOPE_LINK})
		},
	} {
		s.Do(t, func() error {
			link, err := netlink.LinkByName(map[bool]string{true: "eth0", false: "client"}[s == l.client])
			if err == nil {
				err = do(link)
			}
			return err
		})
	}
	return addr
}
