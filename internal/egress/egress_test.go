package egress

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/announcer"
	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/internal/test/storytest"
)

// base is three nodes in one network, and a Service of both families with a pod on each of
// the first two.
const base = `
node n1 ips=198.18.0.1,fd98::1 pods=10.1.1.0/24,fd98:10:1::/64
node n2 ips=198.18.0.2,fd98::2 pods=10.1.2.0/24,fd98:10:2::/64
node n3 ips=198.18.0.3,fd98::3 pods=10.1.3.0/24,fd98:10:3::/64
pool lan 203.0.113.0/24,fd99::/112
address 203.0.113.80 holder=default/web
address fd99::80 holder=default/web
service default/web type=LoadBalancer ip=10.96.0.1,fd97::1 policy=Require ports=tcp/80 egress=true status=203.0.113.80,fd99::80
endpoint default/web 10.1.1.1:8080 node=n1
endpoint default/web 10.1.2.1:8080 node=n2
endpoint default/web [fd98:10:1::1]:8080 node=n1
`

// inputs are those of n1, where a node owns each of the addresses of the default Service.
func inputs(t *testing.T, owner, text string) Inputs {
	t.Helper()
	w := storytest.NewWorld()
	if err := w.Do(base + text); err != nil {
		t.Fatal(err)
	}
	s, err := w.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	in := Inputs{Node: "n1", Snapshot: s, Links: []snapshot.Link{
		{Name: "docker0", Index: 2, Prefixes: []netip.Prefix{netip.MustParsePrefix("172.17.0.1/16")}},
		{Name: "eth0", Index: 3, Prefixes: []netip.Prefix{netip.MustParsePrefix("198.18.0.1/24"), netip.MustParsePrefix("fd98::1/64")}},
	}}
	for _, a := range s.Addresses {
		switch owner {
		case "n1":
			in.Elected.Announce = append(in.Elected.Announce, announcer.VIP{Addr: a.Addr})
		case "":
			in.Elected.Refused = append(in.Elected.Refused, announcer.Refused{Addr: a.Addr, Refusal: snapshot.Refusal{Reason: announcer.NoCandidate}})
		default:
			in.Elected.Refused = append(in.Elected.Refused, announcer.Refused{Addr: a.Addr, Owner: owner, Refusal: snapshot.Refusal{Reason: announcer.NotOwner}})
		}
	}
	return in
}

func TestDecide(t *testing.T) {
	for _, c := range []struct {
		name, owner, more string
		pods, problems    string
	}{
		{"this node is the owner: it translates the packets of all pods", "n1", "", `
10.1.1.1 own default/web as 203.0.113.80 ports 32768-65535
10.1.2.1 own default/web as 203.0.113.80 ports 32768-65535
fd98:10:1::1 own default/web as fd99::80 ports 32768-65535`, ""},
		{"another one is: its pods' packets go there, and those of others are dropped", "n2", "", `
10.1.1.1 via default/web as 203.0.113.80 by 198.18.0.2 link 3
10.1.2.1 held default/web
fd98:10:1::1 via default/web as fd99::80 by fd98::2 link 3`, ""},
		{"nobody is: they wait", "", "", `
10.1.1.1 held default/web
10.1.2.1 held default/web
fd98:10:1::1 held default/web`, "EgressHeld"},
		{"the owner is in another network", "n4", "node n4 ips=198.51.100.4", `
10.1.1.1 held default/web
10.1.2.1 held default/web
fd98:10:1::1 held default/web`, "EgressHeld"},
		{"a pod that is not ready opens no connections; one that ends does", "n1", `
endpoint default/web 10.1.1.1:8080 node=n1 unready unserving
endpoint default/web 10.1.1.2:8080 node=n1 unready terminating
endpoint default/web 10.1.2.1:8080 node=n2 unready unserving`, `
10.1.1.1 own default/web as 203.0.113.80 ports 32768-65535 keeps
10.1.1.2 own default/web as 203.0.113.80 ports 32768-65535
10.1.2.1 own default/web as 203.0.113.80 ports 32768-65535
fd98:10:1::1 own default/web as fd99::80 ports 32768-65535`, ""},
		{"pods in the node's network, hosts outside and loopback are left out", "n1", `
endpoint default/web 198.18.0.1:8080 node=n1
endpoint default/web 192.0.2.77:8080
endpoint default/web 127.0.0.1:8080 node=n1`, `
10.1.1.1 own default/web as 203.0.113.80 ports 32768-65535
10.1.2.1 own default/web as 203.0.113.80 ports 32768-65535
fd98:10:1::1 own default/web as fd99::80 ports 32768-65535`, "EgressLeftOut"},
		{"a pod of two Services leaves with the address of the older one", "n1", `
address 203.0.113.81 holder=default/a
service default/a type=LoadBalancer ip=10.96.0.2 ports=tcp/81 egress=true status=203.0.113.81 created=10
endpoint default/a 10.1.1.1:8080 node=n1
service default/web created=5`, `
10.1.1.1 own default/web as 203.0.113.80 ports 32768-65535
10.1.2.1 own default/web as 203.0.113.80 ports 32768-65535
fd98:10:1::1 own default/web as fd99::80 ports 32768-65535`, "EgressLeftOut"},
		{"a Service's own ports are avoided, and those of a Service that shares its address", "n1", `
address 203.0.113.80 holder=default/web,default/b
service default/web ports=tcp/50000
service default/b type=LoadBalancer ip=10.96.0.2 ports=udp/2000 status=203.0.113.80`, `
10.1.1.1 own default/web as 203.0.113.80 ports 32768-49151
10.1.2.1 own default/web as 203.0.113.80 ports 32768-49151
fd98:10:1::1 own default/web as fd99::80 ports 1024-32767`, ""},
		{"no range of ports is free", "n1", "service default/web ports=tcp/50000,tcp/40000,tcp/20000,tcp/2000", `
10.1.1.1 held default/web
10.1.2.1 held default/web
fd98:10:1::1 held default/web`, "EgressHeld"},
		{"the Service has no address yet", "n1", "service default/web status=198.51.100.9", `
10.1.1.1 held default/web
10.1.2.1 held default/web
fd98:10:1::1 held default/web`, "EgressHeld"},
		{"nobody asks", "n1", "service default/web egress=false", "", ""},
		{"the Service is not a LoadBalancer", "n1", "service default/web type=ClusterIP", "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			state, problems := Decide(inputs(t, c.owner, c.more))
			var pods []string
			for _, p := range state.Pods {
				pods = append(pods, p.String())
			}
			if got := strings.Join(pods, "\n"); got != strings.TrimSpace(c.pods) {
				t.Errorf("pods:\n%s\nwanted:%s", got, c.pods)
			}
			var reasons []string
			for _, p := range problems {
				reasons = append(reasons, string(p.Reason))
				if !strings.Contains(p.Message, ". Next: ") {
					t.Errorf("%q does not say what to do", p.Message)
				}
			}
			if got := strings.Join(slices.Compact(reasons), " "); got != c.problems {
				t.Errorf("problems %v, wanted %s", problems, c.problems)
			}
		})
	}
}

// Destinations in the cluster keep their usual way.
func TestInside(t *testing.T) {
	in := inputs(t, "n1", `
service default/db type=ClusterIP ip=192.0.2.1 ports=tcp/5432
endpoint default/db 192.0.2.99:5432 node=n3
service default/outside type=ClusterIP ip=192.0.2.2 ports=tcp/5432
endpoint default/outside 192.0.2.200:5432`)
	in.Own = []netip.Addr{netip.MustParseAddr("172.17.0.1")}
	in.Pods = []netip.Prefix{netip.MustParsePrefix("192.0.2.128/32")}
	in.Services = []netip.Prefix{netip.MustParsePrefix("10.96.0.0/12")}
	state, _ := Decide(in)
	for addr, want := range map[string]bool{
		"10.1.3.77": true, "fd98:10:3::7": true, // pods, by their nodes' podCIDRs
		"192.0.2.99": true, "192.0.2.128": true, // pods elsewhere, by EndpointSlices and routes
		"192.0.2.1": true, "10.99.0.1": true, // Services
		"198.18.0.3": true, "fd98::2": true, "172.17.0.1": true, // nodes
		"203.0.113.9": true, "fd99::80": true, // pools
		"169.254.169.254": true, "224.0.0.9": true, "fe80::1": true, "ff02::1": true, "127.0.0.1": true, "255.255.255.255": true,
		"192.0.2.200": false, // an endpoint that is not a pod
		"8.8.8.8":     false, "10.2.0.1": false, "198.18.0.254": false, "2001:db8::1": false, "172.17.0.2": false,
	} {
		a := netip.MustParseAddr(addr)
		if got := slices.ContainsFunc(state.Inside, func(p netip.Prefix) bool { return p.Contains(a) }); got != want {
			t.Errorf("%s is inside: %t", addr, got)
		}
	}
}

// A gateway need not have an InternalIP in a common network: an agent says where its node
// is.
func TestGatewayByReport(t *testing.T) {
	in := inputs(t, "n4", "node n4 ips=198.51.100.4")
	in.View = announcer.View{Node: "n1", Members: []announcer.Member{{Node: "n4", Report: &announcer.Report{Electable: snapshot.Electable{
		Node: "n4", Links: []snapshot.Link{{Name: "eth1", Index: 9, Prefixes: []netip.Prefix{netip.MustParsePrefix("198.18.0.4/24")}}},
	}}}}}
	state, _ := Decide(in)
	if got, want := state.Pods[0].String(), "10.1.1.1 via default/web as 203.0.113.80 by 198.18.0.4 link 3"; got != want {
		t.Errorf("%s, wanted %s", got, want)
	}
	if state.Pods[2].Way != Held {
		t.Errorf("%s without an IPv6 address of the owner", state.Pods[2])
	}
}

// Ranges of ports of Services count as their ports do.
func TestFreePorts(t *testing.T) {
	for _, c := range []struct {
		taken []Ports
		want  string
	}{
		{nil, "32768-65535"},
		{[]Ports{{40000, 40000}}, "1024-32767"},
		{[]Ports{{80, 80}, {40000, 40000}}, "1024-32767"},
		{[]Ports{{2000, 2000}, {40000, 40000}}, "49152-65535"},
		{[]Ports{{30000, 40000}}, "49152-65535"},
		{[]Ports{{30000, 40000}, {50000, 50000}}, "1024-16383"},
		{[]Ports{{1, 65535}}, "0-0"},
	} {
		if got := free(c.taken).String(); got != c.want {
			t.Errorf("beside %v: %s, want %s", c.taken, got, c.want)
		}
	}
}
