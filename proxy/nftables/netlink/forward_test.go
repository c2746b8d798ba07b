package netlink

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	vnl "github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/internal/test/nstest"
	"github.com/fairlead/fairlead/proxy"
	"github.com/fairlead/fairlead/proxy/nftables"
)

// localOnly makes a Frontend externalTrafficPolicy Local with these endpoints here.
func (a addressing) localOnly(f *proxy.Frontend, local ...netip.Addr) *proxy.Frontend {
	f.LocalOnly = true
	for _, l := range local {
		f.Local = append(f.Local, a.ep(l))
	}
	if len(local) == 0 {
		f.Empty = proxy.Drop
	}
	return f
}

func TestClusterIP(t *testing.T) {
	l := newLab(t)
	each(t, func(t *testing.T, a addressing, network string) {
		f := a.front(proxy.ClusterIP, network, a.podA, a.podB, a.remote)
		to := a.address(f)
		sync(t, l.engine, a.table(f))
		// Pods keep their source, but for the one that reaches itself.
		l.podA.wants(t, network, to, "podA "+a.nodeOnA.String(), "podB "+a.podA.String(), "remote "+a.podA.String())
		// The node and everybody else are masqueraded.
		fromNode := []string{"podA " + a.nodeOnA.String(), "podB " + a.nodeOnB.String(), "remote " + a.nodeOnRemote.String()}
		l.node.wants(t, network, to, fromNode...)
		l.client.wants(t, network, to, fromNode...)

		// internalTrafficPolicy Local: Compile leaves only this node's endpoints.
		sync(t, l.engine, a.table(a.front(proxy.ClusterIP, network, a.podA)))
		l.podB.wants(t, network, to, "podA "+a.podB.String())
		l.node.wants(t, network, to, "podA "+a.nodeOnA.String())

		// No known local pods: nothing is masqueraded.
		unknown := a.table(a.front(proxy.ClusterIP, network, a.podA))
		unknown.LocalPods = nil
		sync(t, l.engine, unknown)
		l.client.wants(t, network, to, "podA "+a.client.String())
		l.podB.wants(t, network, to, "podA "+a.podB.String())

		// None here, but elsewhere: dropped.
		dropped := a.front(proxy.ClusterIP, network)
		dropped.Empty = proxy.Drop
		sync(t, l.engine, a.table(dropped))
		l.podA.silent(t, network, to)
	})
}

// Local pods may be known by the links that they are behind, by name or by how
// the name begins.
func TestLocalLinks(t *testing.T) {
	l := newLab(t)
	each(t, func(t *testing.T, a addressing, network string) {
		for _, link := range []string{"podA", "pod*"} {
			f := a.front(proxy.ClusterIP, network, a.remote)
			vip := a.localOnly(a.front(proxy.VIP, network, a.remote))
			table := a.table(f, vip)
			table.LocalPods, table.LocalLinks = nil, []string{link}
			sync(t, l.engine, table)
			for _, to := range []netip.AddrPort{a.address(f), a.address(vip)} {
				l.podA.wants(t, network, to, "remote "+a.podA.String())
				l.node.wants(t, network, to, "remote "+a.nodeOnRemote.String())
			}
			l.client.wants(t, network, a.address(f), "remote "+a.nodeOnRemote.String())
			l.client.silent(t, network, a.address(vip))
			if link == "podA" {
				l.podB.wants(t, network, a.address(f), "remote "+a.nodeOnRemote.String())
			} else {
				l.podB.wants(t, network, a.address(vip), "remote "+a.podB.String())
			}
		}
	})
}

func TestExternalCluster(t *testing.T) {
	l := newLab(t)
	each(t, func(t *testing.T, a addressing, network string) {
		for _, kind := range []proxy.Kind{proxy.VIP, proxy.ExternalIP, proxy.NodePort} {
			f := a.front(kind, network, a.podA, a.podB, a.remote)
			sync(t, l.engine, a.table(f))
			want := []string{"podA " + a.nodeOnA.String(), "podB " + a.nodeOnB.String(), "remote " + a.nodeOnRemote.String()}
			for _, from := range []space{l.client, l.podA, l.node} {
				from.wants(t, network, a.address(f), want...)
			}
		}
	})
}

func TestExternalLocal(t *testing.T) {
	l := newLab(t)
	each(t, func(t *testing.T, a addressing, network string) {
		for _, kind := range []proxy.Kind{proxy.VIP, proxy.ExternalIP, proxy.NodePort} {
			f := a.localOnly(a.front(kind, network, a.podA, a.podB, a.remote), a.podA, a.podB)
			to := a.address(f)
			sync(t, l.engine, a.table(f))
			l.client.wants(t, network, to, "podA "+a.client.String(), "podB "+a.client.String())
			l.podA.wants(t, network, to, "podA "+a.nodeOnA.String(), "podB "+a.podA.String(), "remote "+a.podA.String())
			all := []string{"podA " + a.nodeOnA.String(), "podB " + a.nodeOnB.String(), "remote " + a.nodeOnRemote.String()}
			l.node.wants(t, network, to, all...)

			// Endpoints elsewhere only: nothing for those outside.
			f = a.localOnly(a.front(kind, network, a.remote))
			sync(t, l.engine, a.table(f))
			l.client.silent(t, network, to)
			l.podA.wants(t, network, to, "remote "+a.podA.String())
			l.node.wants(t, network, to, "remote "+a.nodeOnRemote.String())

			// Without known local pods a pod is somebody outside.
			unknown := a.table(a.localOnly(a.front(kind, network, a.podB, a.remote), a.podB))
			unknown.LocalPods = nil
			sync(t, l.engine, unknown)
			l.podA.wants(t, network, to, "podB "+a.podA.String())
		}
	})
}

func TestRefused(t *testing.T) {
	l := newLab(t)
	each(t, func(t *testing.T, a addressing, network string) {
		var all []*proxy.Frontend
		for _, kind := range []proxy.Kind{proxy.ClusterIP, proxy.VIP, proxy.NodePort} {
			all = append(all, a.front(kind, network))
		}
		sync(t, l.engine, a.table(all...))
		refused := func(what string, to netip.AddrPort) {
			t.Helper()
			for name, from := range map[string]space{"client": l.client, "podA": l.podA, "node": l.node} {
				start := time.Now()
				got := from.outcome(network, to, netip.AddrPort{}, patient)
				if took := time.Since(start); got != "refused" || took > patient/4 {
					t.Errorf("%s from %s: %s after %v, want refused at once", what, name, got, took)
				}
			}
		}
		for _, f := range all {
			refused(f.Kind.String()+" without endpoints", a.address(f))
		}
		sync(t, l.engine, a.table(a.front(proxy.ClusterIP, network, a.podA), a.front(proxy.VIP, network, a.podA)))
		refused("undefined port of a ClusterIP", netip.AddrPortFrom(a.clusterIP, 81))
		refused("undefined port of a VIP", netip.AddrPortFrom(a.vip, 81))
		for _, from := range []space{l.client, l.podA} {
			from.silent(t, network, netip.AddrPortFrom(a.unallocated, 80))
		}
	})
}

func TestSourceRanges(t *testing.T) {
	l := newLab(t)
	each(t, func(t *testing.T, a addressing, network string) {
		f := a.front(proxy.VIP, network, a.podA)
		f.Sources = []netip.Prefix{netip.PrefixFrom(a.client, a.client.BitLen())}
		np := a.front(proxy.NodePort, network, a.podA)
		sync(t, l.engine, a.table(f, np))
		seen := "podA " + a.nodeOnA.String()
		if got := l.client.outcome(network, a.address(f), netip.AddrPortFrom(a.client, 0), patient); got != seen {
			t.Errorf("an allowed source got %q", got)
		}
		if got := l.client.outcome(network, a.address(f), netip.AddrPortFrom(a.client2, 0), brief); got != "nothing" {
			t.Errorf("another source got %q", got)
		}
		l.podB.silent(t, network, a.address(f))
		dropped := map[string]string{"tcp": "nothing", "udp": "refused"}[network]
		if got := l.node.outcome(network, a.address(f), netip.AddrPort{}, brief); got != dropped {
			t.Errorf("the node got %q, want %q", got, dropped)
		}
		if got := l.client.outcome(network, a.address(np), netip.AddrPortFrom(a.client2, 0), patient); got != seen {
			t.Errorf("the node port is not limited, but got %q", got)
		}

		// An empty list lets nobody in; none lets all in.
		f = a.front(proxy.VIP, network, a.podA)
		f.Sources = []netip.Prefix{}
		sync(t, l.engine, a.table(f))
		l.client.silent(t, network, a.address(f))
		sync(t, l.engine, a.table(a.front(proxy.VIP, network, a.podA)))
		l.client.wants(t, network, a.address(f), seen)
	})
}

func TestPingVIP(t *testing.T) {
	l := newLab(t)
	for _, f := range bothFamilies {
		a := addressesOf(f)
		sync(t, l.engine, a.table(a.front(proxy.VIP, "tcp", a.podA)))
		for name, from := range map[string]space{"client": l.client, "podA": l.podA, "node": l.node} {
			t.Run(fmt.Sprint(f, name), func(t *testing.T) {
				from.Pipe(t, "", "ping", "-c", "1", "-W", "5", a.vip.String())
			})
		}
	}
}

// A connection lives on when its endpoint, or the whole Service, goes: only new
// connections go elsewhere.
func TestEstablishedSurvives(t *testing.T) {
	l := newLab(t)
	for _, family := range bothFamilies {
		t.Run(family.String(), func(t *testing.T) {
			a := addressesOf(family)
			f := a.front(proxy.VIP, "tcp", a.podA)
			sync(t, l.engine, a.table(f))
			c, err := l.client.dial("tcp", a.address(f), netip.AddrPort{}, patient)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			still := func(when string) {
				t.Helper()
				if got, err := say(c, patient); err != nil || got != "podA "+a.nodeOnA.String() {
					t.Errorf("%s: %q, %v", when, got, err)
				}
			}
			still("at first")
			sync(t, l.engine, a.table(a.front(proxy.VIP, "tcp", a.podB)))
			still("endpoint replaced")
			l.client.wants(t, "tcp", a.address(f), "podB "+a.nodeOnB.String())
			sync(t, l.engine, a.table())
			still("Service deleted")
			l.podA.wantAcknowledged(t, family) // an acknowledgement that comes while there is no table would be reset
			l.node.Pipe(t, "delete table "+familyName(a)+" fairlead\n", "nft", "-f", "-")
			if ch := sync(t, l.engine, a.table(f)); !ch.Rebuilt {
				t.Errorf("%+v", ch)
			}
			still("ruleset rebuilt")
		})
	}
}

// wantAcknowledged waits until whatever the servers of a namespace said is acknowledged.
func (s space) wantAcknowledged(t *testing.T, f snapshot.Family) {
	t.Helper()
	family := map[snapshot.Family]uint8{snapshot.IPv4: unix.AF_INET, snapshot.IPv6: unix.AF_INET6}[f]
	nstest.Eventually(t, "the answers to be acknowledged", func() (all bool) {
		s.Do(t, func() error {
			sockets, err := vnl.SocketDiagTCPInfo(family)
			all = !slices.ContainsFunc(sockets, func(r *vnl.InetDiagTCPInfoResp) bool { return r.TCPInfo != nil && r.TCPInfo.Unacked > 0 })
			return err
		})
		return all
	})
}

func familyName(a addressing) string {
	if a.family == nftables.IP6.ID {
		return nftables.IP6.Name
	}
	return nftables.IP4.Name
}

// After a Sync that removed an endpoint no new connection reaches it.
func TestRemovedEndpointGetsNoNewConnection(t *testing.T) {
	l := newLab(t)
	each(t, func(t *testing.T, a addressing, network string) {
		for range 10 {
			f := a.front(proxy.VIP, network, a.podA, a.podB, a.remote)
			sync(t, l.engine, a.table(f))
			l.client.wants(t, network, a.address(f), "podA "+a.nodeOnA.String(), "podB "+a.nodeOnB.String(), "remote "+a.nodeOnRemote.String())
			sync(t, l.engine, a.table(a.front(proxy.VIP, network, a.podA, a.remote)))
			for range 20 {
				if got := l.client.ask(network, a.address(f)); got == "podB "+a.nodeOnB.String() || got == "nothing" {
					t.Fatalf("got %q", got)
				}
			}
		}
	})
}

// While endpoints, their number and the affinity change all the time, every new
// connection is answered by some endpoint.
func TestNoConnectionFailsWhileTheTableChanges(t *testing.T) {
	l := newLab(t)
	each(t, func(t *testing.T, a addressing, network string) {
		tables := []*proxy.Table{
			a.table(a.front(proxy.VIP, network, a.podA, a.podB, a.remote)),
			a.table(a.front(proxy.VIP, network, a.podA)),
			a.table(sticky(a.front(proxy.VIP, network, a.podA, a.podB), time.Hour)),
			a.table(a.front(proxy.VIP, network, a.podB, a.remote)),
			a.table(sticky(a.front(proxy.VIP, network, a.remote), time.Minute)),
		}
		sync(t, l.engine, tables[0])
		stop, asked := make(chan struct{}), make(chan int)
		go func() {
			n := 0
			for ; ; n++ {
				select {
				case <-stop:
					asked <- n
					return
				default:
				}
				// A UDP datagram that is dropped on its way is asked again, as a TCP SYN is.
				got := "nothing"
				for tries := 0; got == "nothing" && tries < 3; tries++ {
					got = l.client.outcome(network, netip.AddrPortFrom(a.vip, 80), netip.AddrPort{}, patient)
				}
				if got == "nothing" || got == "refused" {
					t.Errorf("connection %d: %s", n, got)
				}
			}
		}()
		for i := range 30 {
			sync(t, l.engine, tables[i%len(tables)])
		}
		close(stop)
		if n := <-asked; n < 10 {
			t.Logf("only %d connections in that time", n)
		}
	})
}

// The node answers a ping to a VIP from a pod whose link has no address, as the
// links of Calico's pods have none.
func TestPingVIPFromLinkWithoutAddress(t *testing.T) {
	l := newLab(t)
	for _, f := range bothFamilies {
		a := addressesOf(f)
		l.own(t, a.nodeOnB) // the gateway of the pod
		var mac net.HardwareAddr
		l.node.Do(t, func() error {
			link, err := vnl.LinkByName("podB")
			if err != nil {
				return err
			}
			mac = link.Attrs().HardwareAddr
			// The route has the address as its source, which lo has now.
			return vnl.AddrDel(link, &vnl.Addr{IPNet: host128(a.nodeOnB)})
		})
		l.podB.Do(t, func() error { // which answers no neighbour discovery for it
			link, err := vnl.LinkByName("eth0")
			if err != nil {
				return err
			}
			return vnl.NeighSet(&vnl.Neigh{LinkIndex: link.Attrs().Index, IP: a.nodeOnB.AsSlice(), HardwareAddr: mac, State: vnl.NUD_PERMANENT})
		})
		l.node.Do(t, func() error {
			link, err := vnl.LinkByName("podB")
			if err != nil {
				return err
			}
			return vnl.RouteReplace(&vnl.Route{LinkIndex: link.Attrs().Index, Dst: host128(a.podB), Scope: vnl.SCOPE_LINK})
		})
		sync(t, l.engine, a.table(a.front(proxy.VIP, "tcp", a.podA)))
		t.Run(f.String(), func(t *testing.T) {
			l.podB.Pipe(t, "", "ping", "-c", "1", "-W", "2", a.vip.String())
		})
	}
}
