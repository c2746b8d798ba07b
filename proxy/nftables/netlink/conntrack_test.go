package netlink

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/proxy"
)

// soon asks until it gets want, for a time that no answer of a healthy node needs.
func soon(t *testing.T, what string, ask func() string, want string) {
	t.Helper()
	within(t, 20*time.Second, what, ask, want)
}

// within asks until it gets want, which may take so long.
func within(t *testing.T, most time.Duration, what string, ask func() string, want string) {
	t.Helper()
	got, late := ask(), time.Now().Add(most)
	for got != want && time.Now().Before(late) {
		got = ask()
	}
	if got != want {
		t.Errorf("%s: got %q for %s, want %q", what, got, most, want)
	}
}

// tracks reports whether the kernel tracks a connection from a port of a client.
func (s space) tracks(t *testing.T, a addressing, port int) bool {
	t.Helper()
	family := map[string]string{"ip": "ipv4", "ip6": "ipv6"}[familyName(a)]
	return strings.Contains(s.Run(t, "conntrack", "-L", "-f", family), fmt.Sprintf(" sport=%d ", port))
}

// spec 81: a client that keeps its port follows its Service: to another endpoint,
// out when there is none, back in, and out when the Service is deleted.
func TestUDPFlowsFollow(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	for _, family := range bothFamilies {
		for _, kind := range []proxy.Kind{proxy.ClusterIP, proxy.VIP, proxy.NodePort} {
			t.Run(family.String()+"/"+kind.String(), func(t *testing.T) {
				a := addressesOf(family)
				f := a.front(kind, "udp", a.podA)
				src := netip.AddrPortFrom(a.client, 40000)
				from := func() string { return l.client.outcome("udp", a.address(f), src, brief) }
				onA, onB := "podA "+a.nodeOnA.String(), "podB "+a.nodeOnB.String()
				for i, step := range []struct {
					now  []*proxy.Frontend
					want string
				}{
					{[]*proxy.Frontend{f}, onA},
					{[]*proxy.Frontend{a.front(kind, "udp", a.podB)}, onB},
					{[]*proxy.Frontend{a.front(kind, "udp")}, "refused"},
					{[]*proxy.Frontend{a.front(kind, "udp", a.podA, a.podB)}, ""},
					{[]*proxy.Frontend{a.front(kind, "udp", a.podA)}, onA},
				} {
					sync(t, l.engine, a.table(step.now...))
					if step.want != "" {
						soon(t, fmt.Sprint("step ", i), from, step.want)
					}
				}
				// A new process knows of the flow only from the kernel.
				sync(t, l.node.engine(t), a.table(a.front(kind, "udp", a.podB)))
				soon(t, "after a restart", from, onB)
				sync(t, l.engine, a.table())
				soon(t, "after the Service was deleted", func() string {
					return fmt.Sprint(l.client.outcome("udp", a.address(f), src, brief) == onB)
				}, "false")
			})
		}
	}
}

// spec 81, 82: pods and the node itself, as a pod on the host's network is, follow
// their Service with the port that they keep, also under internalTrafficPolicy
// Local, which leaves a ClusterIP this node's endpoints alone.
func TestUDPFlowsOfThisNodeFollow(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	for _, family := range bothFamilies {
		a := addressesOf(family)
		for _, kind := range []proxy.Kind{proxy.ClusterIP, proxy.VIP, proxy.NodePort} {
			for from, client := range map[string]struct {
				space
				addr netip.Addr
			}{"pod": {l.remote, a.remote}, "node": {l.node, a.node}} {
				t.Run(fmt.Sprint(family, kind, from), func(t *testing.T) {
					src := netip.AddrPortFrom(client.addr, 40001+uint16(kind))
					to := a.address(a.front(kind, "udp"))
					for i, step := range []struct {
						now  *proxy.Frontend
						want string
					}{
						{a.front(kind, "udp"), "refused"}, // the client is there before the endpoint is
						{a.front(kind, "udp", a.podA), "podA"},
						{a.front(kind, "udp", a.podB), "podB"},
					} {
						sync(t, l.engine, a.table(step.now))
						soon(t, fmt.Sprint("step ", i), func() string {
							who, _, _ := strings.Cut(client.outcome("udp", to, src, brief), " ")
							return who
						}, step.want)
					}
					sync(t, l.engine, a.table())
				})
			}
		}
	}
}

// spec 82: a client that sends all the time reaches the endpoint when it becomes
// ready, whatever became of its datagrams until then: refused, dropped, or passed
// on because nobody knew of the Service.
func TestUDPClientBeforeItsEndpoint(t *testing.T) {
	l := newLab(t)
	for _, family := range bothFamilies {
		a := addressesOf(family)
		dropped := a.front(proxy.VIP, "udp")
		dropped.Empty = proxy.Drop
		for i, before := range [][]*proxy.Frontend{{}, {a.front(proxy.VIP, "udp")}, {dropped}} {
			t.Run(fmt.Sprint(family, i), func(t *testing.T) {
				sync(t, l.engine, a.table(before...))
				f := a.front(proxy.VIP, "udp", a.podA)
				src := netip.AddrPortFrom(a.client, 40010+uint16(i))
				c, err := l.client.dial("udp", a.address(f), src, patient)
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				for range 3 {
					if got, err := say(c, brief/3); err == nil {
						t.Fatalf("got %q from nobody", got)
					}
				}
				sync(t, l.engine, a.table(f))
				// An error of before may still be there to be read.
				soon(t, "the client", func() string { got, _ := say(c, brief); return got }, "podA "+a.nodeOnA.String())
			})
		}
	}
}

// spec 83: a flow moves to the new port when a Service's targetPort changes.
func TestUDPFlowMovesToTheNewTargetPort(t *testing.T) {
	l := newLab(t)
	for _, family := range bothFamilies {
		a := addressesOf(family)
		f, src := a.front(proxy.ClusterIP, "udp", a.podA), netip.AddrPortFrom(a.client, 40020)
		sync(t, l.engine, a.table(f))
		if got := l.client.outcome("udp", a.address(f), src, patient); got != "podA "+a.nodeOnA.String() {
			t.Errorf("%s: at first %q", family, got)
		}
		moved := *f
		moved.Cluster = []netip.AddrPort{netip.AddrPortFrom(a.podA, 8081)}
		sync(t, l.engine, a.table(&moved))
		soon(t, family.String(), func() string { return l.client.outcome("udp", a.address(f), src, brief) }, "new-podA "+a.nodeOnA.String())
	}
}

// spec 84: when a Service loses an endpoint, the kernel forgets the UDP flows to
// it, and no other flow: not of other ports, other addresses, other endpoints,
// other protocols, nor those that went to the pod directly.
func TestOnlyStaleFlowsEnd(t *testing.T) {
	l := newLab(t)
	for _, family := range bothFamilies {
		t.Run(family.String(), func(t *testing.T) {
			a := addressesOf(family)
			other := a.front(proxy.VIP, "udp", a.podA)
			other.Port = 81
			tcp := a.front(proxy.VIP, "tcp", a.podA)
			stays := []*proxy.Frontend{tcp, other, a.front(proxy.NodePort, "udp", a.podA)}
			goes := a.front(proxy.VIP, "udp", a.podA)
			sync(t, l.engine, a.table(append([]*proxy.Frontend{goes}, stays...)...))
			ask := func(network string, to netip.AddrPort, port uint16) {
				t.Helper()
				if got := l.client.outcome(network, to, netip.AddrPortFrom(a.client, port), patient); !strings.HasPrefix(got, "podA ") {
					t.Fatalf("%s %s: %q", network, to, got)
				}
			}
			ask("udp", a.address(goes), 40030)
			ask("tcp", a.address(tcp), 40031)
			ask("udp", a.address(other), 40032)
			ask("udp", a.address(stays[2]), 40033)
			ask("udp", a.ep(a.podA), 40034)
			sync(t, l.engine, a.table(append([]*proxy.Frontend{a.front(proxy.VIP, "udp", a.podB)}, stays...)...))
			soon(t, "the stale flow", func() string { return fmt.Sprint(l.node.tracks(t, a, 40030)) }, "false")
			for port, want := range map[int]bool{40030: false, 40031: true, 40032: true, 40033: true, 40034: true} {
				if got := l.node.tracks(t, a, port); got != want {
					t.Errorf("the flow from port %d is there: %v, want %v", port, got, want)
				}
			}
		})
	}
}

// A connection to an endpoint that vanishes before it has answered is answered by
// another; one that was answered stays where it is.
func TestUnansweredConnectionsMove(t *testing.T) {
	l := newLab(t)
	for i, families := range [][]snapshot.Family{{snapshot.IPv4}, {snapshot.IPv6}, {snapshot.IPv4, snapshot.IPv6}} {
		t.Run(fmt.Sprintf("%v", families), func(t *testing.T) { l.unansweredMove(t, families, 40050+i) })
	}
}

func (l *lab) unansweredMove(t *testing.T, families []snapshot.Family, port int) {
	t.Helper()
	table := func(pod func(addressing) netip.Addr) *proxy.Table {
		out := &proxy.Table{}
		for _, family := range families { // in the order of Keys
			a := addressesOf(family)
			one := a.table(a.front(proxy.VIP, "tcp", pod(a)))
			out.Frontends = append(out.Frontends, one.Frontends...)
			out.NodePortAddrs = append(out.NodePortAddrs, one.NodePortAddrs...)
			out.ServiceCIDRs = append(out.ServiceCIDRs, one.ServiceCIDRs...)
			out.LocalPods = append(out.LocalPods, one.LocalPods...)
			out.Hairpin = append(out.Hairpin, one.Hairpin...)
		}
		slices.SortFunc(out.Hairpin, proxy.Target.Compare)
		return out
	}
	sync(t, l.engine, table(func(a addressing) netip.Addr { return a.podA }))
	answers := map[snapshot.Family]chan string{}
	open := map[snapshot.Family]net.Conn{}
	for _, family := range families {
		a := addressesOf(family)
		old, err := l.client.dial("tcp", a.address(a.front(proxy.VIP, "tcp")), netip.AddrPort{}, patient)
		if err != nil {
			t.Fatal(err)
		}
		defer old.Close()
		open[family] = old
	}
	l.podA.Run(t, "nft", "add table inet deaf; add chain inet deaf input { type filter hook input priority 0; }; add rule inet deaf input tcp flags & (syn|ack) == syn drop")
	defer l.podA.Run(t, "nft", "delete table inet deaf")
	for _, family := range families {
		a, answer := addressesOf(family), make(chan string, 1)
		answers[family] = answer
		go func() {
			answer <- l.client.outcome("tcp", a.address(a.front(proxy.VIP, "tcp")), netip.AddrPortFrom(a.client, uint16(port)), patient)
		}()
		for !l.node.tracks(t, a, port) {
		}
	}
	sync(t, l.engine, table(func(a addressing) netip.Addr { return a.podB }))
	for _, family := range families {
		a := addressesOf(family)
		if got, want := <-answers[family], "podB "+a.nodeOnB.String(); got != want {
			t.Errorf("the client got %q, want %q", got, want)
		}
		if got, err := say(open[family], patient); got != "podA "+a.nodeOnA.String() {
			t.Errorf("the connection of before: %q, %v", got, err)
		}
	}
}
