package netlink

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/fairlead/fairlead/internal/test/storytest"
	"github.com/fairlead/fairlead/proxy"
	"github.com/fairlead/fairlead/proxy/dataplanetest"
	"github.com/fairlead/fairlead/proxy/nftables"
)

// A drop in another table wins over our accept: with a FORWARD chain as Docker
// leaves it, nothing is forwarded, until that chain accepts the pods' packets. It
// sees endpoints, not Services.
func TestAnotherTablesDropWins(t *testing.T) {
	l := newLab(t)
	each(t, func(t *testing.T, a addressing, network string) {
		f := a.front(proxy.VIP, network, a.podA)
		sync(t, l.engine, a.table(f))
		filter := "table FAMILY filter { chain FORWARD { type filter hook forward priority filter; policy drop; ct state established,related accept; }; }\n"
		nft := func(rules string) {
			l.node.Pipe(t, strings.ReplaceAll(rules, "FAMILY", familyName(a)), "nft", "-f", "-")
		}
		nft(filter)
		defer nft("delete table FAMILY filter\n")
		l.client.silent(t, network, a.address(f))
		nft("add rule FAMILY filter FORWARD FAMILY daddr " + a.pods.String() + " accept\n")
		l.client.wants(t, network, a.address(f), "podA "+a.nodeOnA.String())
		if c := sync(t, l.engine, a.table(f)); !c.Empty() || c.Repaired {
			t.Errorf("others' tables are none of our business: %+v", c)
		}
	})
}

// A node that gets another address serves its node ports there, and not at the
// old one any more. That is one element, and one for pings to VIPs if the address is
// the first of its family, however many node ports there are.
func TestNodeAddressChanges(t *testing.T) {
	l := newLab(t)
	each(t, func(t *testing.T, a addressing, network string) {
		f := a.front(proxy.NodePort, network, a.podA)
		table := a.table(f)
		sync(t, l.engine, table)
		l.client.wants(t, network, a.address(f), "podA "+a.nodeOnA.String())
		moved := *table
		moved.NodePortAddrs = []netip.Addr{a.nodeOnB} // another address of the node
		if c := sync(t, l.engine, &moved); c.Added != 2 || c.Deleted != 2 {
			t.Errorf("%+v", c)
		}
		l.client.wants(t, network, netip.AddrPortFrom(a.nodeOnB, f.Port), "podA "+a.nodeOnA.String())
		if got := l.client.ask(network, a.address(f)); got != "refused" {
			t.Errorf("at the old address: %q", got)
		}
	})
}

// A link that goes down and comes up again needs nothing from the engine: open
// connections go on, new ones are taken.
func TestLinkDownAndUp(t *testing.T) {
	l := newLab(t)
	a := addressesOf(nftables.IP4.ID)
	f := a.front(proxy.VIP, "tcp", a.podA)
	sync(t, l.engine, a.table(f))
	c, err := l.client.dial("tcp", a.address(f), netip.AddrPort{}, patient)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	set := func(change func(netlink.Link) error) {
		t.Helper()
		l.podA.Do(t, func() error {
			link, err := netlink.LinkByName("eth0")
			if err != nil {
				return err
			}
			return change(link)
		})
	}
	set(netlink.LinkSetDown)
	if got := l.client.outcome("tcp", a.address(f), netip.AddrPort{}, brief); strings.HasPrefix(got, "podA") {
		t.Fatalf("answered by a pod without a link: %q", got)
	}
	set(netlink.LinkSetUp)
	set(func(link netlink.Link) error {
		return netlink.RouteReplace(&netlink.Route{LinkIndex: link.Attrs().Index, Gw: a.nodeOnA.AsSlice(), Flags: int(netlink.FLAG_ONLINK)})
	})
	l.client.wants(t, "tcp", a.address(f), "podA "+a.nodeOnA.String())
	if got, err := say(c, 10*patient); err != nil || got != "podA "+a.nodeOnA.String() {
		t.Errorf("the open connection: %q, %v", got, err)
	}
	if c := sync(t, l.engine, a.table(f)); !c.Empty() || c.Repaired {
		t.Errorf("%+v", c)
	}
}

// Of random clusters, what Compile makes is what the kernel gives back. One in ten
// times the engine's socket is broken: the Sync tries again on another.
func TestSnapshotsPassThroughTheKernel(t *testing.T) {
	s := newSpace(t, "fuzz")
	r := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 1))
	var compiler proxy.Compiler
	e, world, lines := s.engine(t), storytest.NewWorld(), ""
	for _, n := range "abcde" {
		if err := world.Do(randomService(r, n)); err != nil {
			t.Fatal(err)
		}
	}
	sync(t, e, &proxy.Table{})
	for end, i := time.Now().Add(3*time.Second), 0; i < 500 && time.Now().Before(end); i++ {
		line := randomLine(r)
		if err := world.Do(line); err != nil {
			t.Fatal(err)
		}
		lines += line + "\n"
		snap, err := world.Snapshot()
		if err != nil {
			t.Fatal(err)
		}
		table := compiler.Compile(snap, "a", []netip.Addr{netip.MustParseAddr("198.51.100.1"), netip.MustParseAddr("2001:db8::1")}, proxy.Options{ExternalIPs: true})
		if e.conn != nil && r.IntN(10) == 0 {
			e.conn.close()
		}
		sync(t, e, table)
		got, err := s.engine(t).Dump(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if want := dataplanetest.Normal(table); !reflect.DeepEqual(got, want) {
			t.Fatalf("the kernel holds\n%s\nwant\n%s\nafter\n%s", got, want, lines)
		}
	}
}

// randomLine changes a small cluster, see storytest.World.
func randomLine(r *rand.Rand) string {
	pick := func(of ...string) string { return of[r.IntN(len(of))] }
	svc := "default/" + pick("a", "b", "c", "d", "e")
	switch r.IntN(4) {
	case 0:
		return fmt.Sprintf("address %s holder=%s", pick("192.0.2.1", "192.0.2.2", "2001:db8:f::1"), svc)
	case 1:
		return "node a ips=198.51.100.1,2001:db8::1 pods=" + pick("10.1.1.0/24", "10.1.1.0/24,fd00:1::/64", "")
	case 2:
		return randomService(r, rune('a'+r.IntN(5)))
	}
	at := fmt.Sprintf(pick("10.1.1.%d:80", "10.1.2.%d:80", "[fd00:1::%d]:8080"), 1+r.IntN(6))
	return fmt.Sprintf("endpoint %s %s proto=%s node=%s unready=%s unserving=%s terminating=%s", svc, at, pick("tcp", "udp", "sctp"),
		pick("a", "b"), pick("false", "true"), pick("false", "true"), pick("false", "true"))
}

func randomService(r *rand.Rand, n rune) string {
	pick := func(of ...string) string { return of[r.IntN(len(of))] }
	return fmt.Sprintf("service default/%c type=%s ip=10.96.0.%d,fd00:96::%d ports=tcp/%s/3008%d,udp/53,sctp/99 external=%s internal=%s ranges=%s affinity=%s externalIPs=%s", n,
		pick("LoadBalancer", "LoadBalancer", "NodePort", "ClusterIP"), n-'a'+1, n-'a'+1, pick("80", "81"), n-'a', pick("Local", "Cluster"), pick("Local", ""),
		pick("", "192.0.2.0/30", "198.51.100.0/24,203.0.113.1/32,2001:db8::/32", "::/0"), pick("", "10s", "3h"), pick("", "203.0.113.9"))
}
