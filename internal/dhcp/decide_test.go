package dhcp

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"go4.org/netipx"

	"github.com/fairlead/fairlead/announcer"
	"github.com/fairlead/fairlead/internal/snapshot"
)

// cluster is three nodes on eth0, with a pool that leases there.
func cluster() Inputs {
	in := Inputs{Node: "n1", Snapshot: &snapshot.Snapshot{}}
	for i, name := range []string{"n1", "n2", "n3"} {
		links := []snapshot.Link{{Name: "eth0", Index: 2, Prefixes: []netip.Prefix{
			netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(11 + i)}), 24), netip.MustParsePrefix(fmt.Sprintf("2001:db8::%x/128", 11+i)),
		}}}
		in.Snapshot.Nodes = append(in.Snapshot.Nodes, &snapshot.Node{
			Name: name, Ready: true, InternalIPs: []netip.Addr{links[0].Prefixes[0].Addr()}, ExternalIPs: []netip.Addr{netip.AddrFrom4([4]byte{192, 0, 2, byte(111 + i)})},
			PodCIDRs: []netip.Prefix{netip.MustParsePrefix(fmt.Sprintf("10.0.%d.0/24", i))}, Labels: map[string]string{"name": name},
		})
		report := &announcer.Report{Electable: snapshot.Electable{Node: name, Links: links}}
		in.View.Members = append(in.View.Members, announcer.Member{Node: name, Candidate: true, Report: report})
	}
	in.Links, in.Own = in.View.Members[0].Report.Links, []netip.Addr{netip.MustParseAddr("192.0.2.11")}
	pool := &snapshot.Pool{Name: "lan", FromDHCP: &snapshot.FromDHCP{Interface: "eth0", Families: []snapshot.Family{snapshot.IPv4, snapshot.IPv6}}}
	in.Snapshot.Pools = []*snapshot.Pool{pool.WithLeases([]snapshot.PoolLease{
		{Ref: snapshot.Ref{Namespace: "default", Name: "a"}, ID: "uid-a", Family: snapshot.IPv4},
		{Ref: snapshot.Ref{Namespace: "default", Name: "b"}, ID: "uid-b", Family: snapshot.IPv4, Addr: netip.MustParseAddr("192.0.2.60"), Until: time.Unix(2_000_000, 0)},
	})}
	return in
}

// keepers returns which nodes keep which leases, as each of them decides.
func keepers(in Inputs) string {
	var out []string
	for _, m := range in.View.Members {
		in.Node = m.Node
		for _, w := range Decide(in).Mine {
			out = append(out, w.Start.Name+"@"+m.Node)
		}
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

// TestElection: each lease has one keeper among the nodes that can reach the servers. A
// node that is lost loses its own leases alone.
func TestElection(t *testing.T) {
	all := keepers(cluster())
	if strings.Count(all, "@") != 2 {
		t.Fatalf("not one keeper each: %s", all)
	}
	was := strings.Fields(all)
	for _, c := range []struct {
		name string
		lose func(in *Inputs, i int)
	}{
		{"its agent is not a candidate", func(in *Inputs, i int) { in.View.Members[i].Candidate = false }},
		{"it has said nothing", func(in *Inputs, i int) { in.View.Members[i].Report = nil }},
		{"it has no such link", func(in *Inputs, i int) { in.View.Members[i].Report.Links[0].Name = "eth1" }},
		{"it is being deleted", func(in *Inputs, i int) { in.Snapshot.Nodes[i].Deleting = true }},
		{"it is not selected", func(in *Inputs, i int) {
			in.Snapshot.Pools[0].FromDHCP.Nodes = &snapshot.Selector{Expressions: []snapshot.Requirement{{Key: "name", Operator: "NotIn", Values: []string{in.Snapshot.Nodes[i].Name}}}}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			for i, lost := range []string{"n1", "n2", "n3"} {
				in := cluster()
				c.lose(&in, i)
				got := strings.Fields(keepers(in))
				if len(got) != 2 {
					t.Fatalf("without %s: %v", lost, got)
				}
				for j := range was {
					stayed := got[j] == was[j]
					if had := strings.HasSuffix(was[j], lost); stayed == had {
						t.Errorf("without %s: %v, before %v", lost, got, was)
					}
				}
			}
		})
	}
}

// TestPlan: what is to be kept by others is not to be released, and what Services hold
// neither.
func TestPlan(t *testing.T) {
	in := cluster()
	in.Snapshot.Addresses = []*snapshot.Address{{Addr: netip.MustParseAddr("192.0.2.60"), Lease: "uid-b", Conflict: "02:00:00:00:00:66"}, {Addr: netip.MustParseAddr("192.0.2.61")}}
	taken := ""
	for _, m := range in.View.Members {
		in.Node = m.Node
		p := Decide(in)
		if len(p.Wanted) != 2 || !p.Recorded[netip.MustParseAddr("192.0.2.60")] || p.Recorded[netip.MustParseAddr("192.0.2.61")] {
			t.Errorf("%s: wanted %v, recorded %v", m.Node, p.Wanted, p.Recorded)
		}
		for _, w := range p.Mine {
			taken += w.Start.Name + w.Taken
		}
	}
	if !strings.Contains(taken, "b02:00:00:00:00:66") {
		t.Errorf("the conflict is not told: %s", taken)
	}
}

// TestFault: which servers' addresses are refused, and why.
func TestFault(t *testing.T) {
	for _, c := range []struct{ addr, want string }{
		{"192.0.2.50", ""},
		{"192.0.2.12", "it is an address of node n2"},
		{"192.0.2.113", "it is an address of node n3"},
		{"10.0.1.7", "it is an address of the pods of node n2"},
		{"10.96.0.7", "it is in the ServiceCIDR kubernetes"},
		{"192.0.2.200", "it is an address of pool other"},
		{"192.0.2.60", "it is leased for the Service default/b already"},
		{"192.0.2.1", "it is the address of a router"},
		{"192.0.2.3", "it is the address of a router"},
		{"192.0.2.2", "it is the address of the server"},
		{"192.0.2.255", "it is the network's own address, or that of all its hosts"},
		{"192.0.2.0", "it is the network's own address, or that of all its hosts"},
		{"198.51.100.7", "it is in no subnet of the node on eth0"},
		{"127.0.0.1", "no client can connect to it"},
		{"224.0.0.9", "no client can connect to it"},
		{"0.0.0.0", "no client can connect to it"},
		{"240.0.0.1", "no client can connect to it"},
		{"169.254.1.1", "no client can connect to it"},
		{"2001:db8::50", "it is not an IPv4 address"},
	} {
		in := cluster()
		in.Snapshot.ServiceCIDRs = []*snapshot.ServiceCIDR{{Name: "kubernetes", Prefixes: []netip.Prefix{netip.MustParsePrefix("10.96.0.0/12")}}}
		in.Snapshot.Pools = append(in.Snapshot.Pools, &snapshot.Pool{Name: "other", Ranges: []netipx.IPRange{netipx.MustParseIPRange("192.0.2.200-192.0.2.210")}})
		in.Routers = []snapshot.Router{{Link: "eth0", Addr: netip.MustParseAddr("192.0.2.1"), Default: true}}
		w := Want{Key: Key{"lan", "uid-a", snapshot.IPv4}, Pool: in.Snapshot.Pools[0], Start: in.Snapshot.Pools[0].Leases[0]}
		m := Message{Addr: netip.MustParseAddr(c.addr), Server: netip.MustParseAddr("192.0.2.2"), Routers: []netip.Addr{netip.MustParseAddr("192.0.2.3")}}
		if got := in.Fault(w, m); got != c.want {
			t.Errorf("%s: %q, wanted %q", c.addr, got, c.want)
		}
	}
}

// TestFaultByPool: what the pool's own fields refuse and allow.
func TestFaultByPool(t *testing.T) {
	in := cluster()
	from := in.Snapshot.Pools[0].FromDHCP
	w := Want{Key: Key{"lan", "uid-a", snapshot.IPv4}, Pool: in.Snapshot.Pools[0], Start: in.Snapshot.Pools[0].Leases[0]}
	fault := func(addr, server string) string {
		return in.Fault(w, Message{Addr: netip.MustParseAddr(addr), Server: netip.MustParseAddr(server)})
	}
	from.Servers = []netip.Addr{netip.MustParseAddr("192.0.2.2")}
	if got := fault("192.0.2.50", "192.0.2.66"); got != "the server is not one of the servers of pool lan" {
		t.Errorf("another server: %q", got)
	}
	from.Subnets = []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")}
	if got := fault("198.51.100.7", "192.0.2.2"); got != "" {
		t.Errorf("a subnet that the pool names: %q", got)
	}
	if got := fault("192.0.2.50", "192.0.2.2"); got != "it is outside of the subnets of pool lan" {
		t.Errorf("another subnet: %q", got)
	}
	from.Servers, from.Subnets = nil, nil
	w.Start.Family = snapshot.IPv6
	for addr, want := range map[string]string{"2001:db8::50": "", "2001:db8:0:1::50": "it is in no subnet of the node on eth0", "fe80::50": "no client can connect to it", "2001:db8::c": "it is an address of node n2"} {
		if got := fault(addr, "fe80::1"); got != want {
			t.Errorf("%s: %q, wanted %q", addr, got, want)
		}
	}
}

// TestIdentity: what servers know a lease by depends on the Service and the pool alone, and
// no two have the same.
func TestIdentity(t *testing.T) {
	key := Key{"lan", "6f1ed002-ab5d-4c11-9c5e-a3a5ef0e1a5b", snapshot.IPv4}
	a := IdentityOf(key, "default", "web")
	if got := fmt.Sprintf("%x", a.UUID); got != "6f1ed002ab5d4c119c5ea3a5ef0e1a5b" {
		t.Errorf("the UUID is not the Service's UID: %s", got)
	}
	if a.MAC[0]&3 != 2 {
		t.Errorf("%x is not a locally administered address of one host", a.MAC)
	}
	if a.Host != "default-web" || a != IdentityOf(key, "default", "web") {
		t.Errorf("got %+v", a)
	}
	key.Pool = "other"
	if b := IdentityOf(key, "default", "web"); b.MAC == a.MAC || b.IAID == a.IAID {
		t.Error("two pools have one identity")
	}
	key.ID = "not a UUID"
	if b := IdentityOf(key, strings.Repeat("n", 62)+"-", "web"); len(b.Host) > 63 || strings.HasSuffix(b.Host, "-") || b.UUID == a.UUID {
		t.Errorf("got %+v", b)
	}
}
