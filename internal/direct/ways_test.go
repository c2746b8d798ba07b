package direct

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"testing"

	"github.com/fairlead/fairlead/announcer"
	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/proxy/director"
)

// A node in no network of this node's links is reached by the ways to it that are known to
// work. Each family that VIPs have needs one, with room for what IPv6 asks of every network.
func TestWays(t *testing.T) {
	addr := netip.MustParseAddr
	on := func(link, mtu int, from string) Way { return Way{link, addr(from), mtu} }
	v4, v6 := on(11, 1500, "198.18.0.1"), on(11, 1500, "fd98::1")
	both := map[netip.Addr]Way{addr("198.18.9.3"): v4, addr("fd98:9::3"): v6}
	for name, c := range map[string]struct {
		ways  map[netip.Addr]Way
		vip6  bool // there are VIPs of IPv6
		near  bool // it has an address in this node's network of IPv6
		other bool // it has not said that it is able
		want  string
	}{
		"no way is known":           {want: "invalid IP invalid IP 0 apart {0 invalid IP invalid IP} []"},
		"by both families":          {ways: both, vip6: true, want: "198.18.9.3 fd98:9::3 11 takes {1500 198.18.0.1 fd98::1} [198.18.9.3 fd98:9::3]"},
		"no VIP is of IPv6":         {ways: map[netip.Addr]Way{addr("198.18.9.3"): v4}, want: "198.18.9.3 invalid IP 11 takes {1500 198.18.0.1 invalid IP} [198.18.9.3 fd98:9::3]"},
		"a VIP is of IPv6":          {ways: map[netip.Addr]Way{addr("198.18.9.3"): v4}, vip6: true, want: "invalid IP invalid IP 0 apart {0 invalid IP invalid IP} [198.18.9.3 fd98:9::3]"},
		"the narrower counts":       {ways: map[netip.Addr]Way{addr("198.18.9.3"): v4, addr("fd98:9::3"): on(11, 1400, "fd98::1")}, vip6: true, want: "198.18.9.3 fd98:9::3 11 takes {1400 198.18.0.1 fd98::1} [198.18.9.3 fd98:9::3]"},
		"narrow":                    {ways: map[netip.Addr]Way{addr("198.18.9.3"): on(11, 1307, "198.18.0.1")}, want: "invalid IP invalid IP 0 apart {0 invalid IP invalid IP} [198.18.9.3 fd98:9::3]"},
		"just wide enough":          {ways: map[netip.Addr]Way{addr("198.18.9.3"): on(11, 1308, "198.18.0.1")}, want: "198.18.9.3 invalid IP 11 takes {1308 198.18.0.1 invalid IP} [198.18.9.3 fd98:9::3]"},
		"narrow for IPv6":           {ways: map[netip.Addr]Way{addr("198.18.9.3"): v4, addr("fd98:9::3"): on(11, 1327, "fd98::1")}, vip6: true, want: "invalid IP invalid IP 0 apart {0 invalid IP invalid IP} [198.18.9.3 fd98:9::3]"},
		"by two links":              {ways: map[netip.Addr]Way{addr("198.18.9.3"): v4, addr("fd98:9::3"): on(12, 1500, "fd98::1")}, vip6: true, want: "invalid IP invalid IP 0 apart {0 invalid IP invalid IP} [198.18.9.3 fd98:9::3]"},
		"a neighbour in part":       {ways: both, vip6: true, near: true, want: "invalid IP fd98::3 11 apart {0 invalid IP invalid IP} [198.18.9.3 fd98::3]"},
		"a neighbour by IPv6 alone": {ways: both, near: true, want: "198.18.9.3 invalid IP 11 takes {1500 198.18.0.1 invalid IP} [198.18.9.3 fd98::3]"},
		"that is not able":          {ways: both, other: true, want: "198.18.9.3 fd98:9::3 11 apart {1500 198.18.0.1 fd98::1} [198.18.9.3 fd98:9::3]"},
		"to somebody else's":        {ways: map[netip.Addr]Way{addr("198.18.9.4"): v4}, want: "invalid IP invalid IP 0 apart {0 invalid IP invalid IP} [198.18.9.3 fd98:9::3]"},
	} {
		t.Run(name, func(t *testing.T) {
			cl := newCluster(t)
			cl.ways = c.ways
			if c.vip6 {
				cl.tell(t, `pool six 2001:db8:2::/64
address 2001:db8:2::80 holder=default/six
service default/six type=LoadBalancer ip=fd96::1 families=6 ports=tcp/80 forwarding=Direct`)
			}
			report := cl.member("n3").Report
			second := "fd98:9::3/64"
			if c.near {
				second = "fd98::3/64"
			}
			report.Links[1].Prefixes = []netip.Prefix{netip.MustParsePrefix("198.18.9.3/24"), netip.MustParsePrefix(second)}
			report.Director = &snapshot.DirectorState{Able: !c.other, Links: snapshot.DirectorLinks(report.Links, []string{"eth0"})}
			st := cl.plan(t)
			n := st.Nodes[2]
			part := [...]string{director.Takes: "takes", director.AskedLast: "gone", director.Apart: "apart"}[n.Part]
			if got := fmt.Sprint(n.IPv4, " ", n.IPv6, " ", n.Link, " ", part, " ", n.Way, " ", n.Addrs); got != c.want {
				t.Errorf("n3:\ngot  %s\nwant %s", got, c.want)
			}
			if got, any := fmt.Sprint(st.Nodes[0].Addrs), c.ways != nil; (got == "[198.18.0.1 fd98::1]") != any {
				t.Errorf("this node takes them at %s", got)
			}
			if got, far := Missing(st), c.ways != nil && n.Way.MTU == 0; (len(got) == 1 && got[0] == "n3") != far {
				t.Errorf("no way leads to %v", got)
			}
			if got := Senders(st); !slices.Equal(got, n.Addrs) {
				t.Errorf("%v may send to this node", got)
			}
			snap, err := cl.world.Snapshot()
			if err != nil {
				t.Fatal(err)
			}
			distant := "[198.18.9.3 fd98:9::3]"
			if c.near {
				distant = "[198.18.9.3]"
			}
			if got := addrs(cl.planner.Distant(snap, report.Links, "n3", cl.view)); got != "[198.18.0.1 198.18.0.2 fd98::1 fd98::2]" && !c.near {
				t.Errorf("from there, %s are distant", got)
			}
			if got := addrs(cl.planner.Distant(snap, cl.member("n1").Report.Links, "n1", cl.view)); got != distant {
				t.Errorf("%s are distant, not %s", got, distant)
			}
			report.Director, cl.member("n3").Verdict = nil, announcer.AgentGone
			if got := addrs(cl.planner.Distant(snap, cl.member("n1").Report.Links, "n1", cl.view)); got != distant {
				t.Errorf("once its agent is another, %s are distant, not %s", got, distant)
			}
			if cl.planner.Distant(snap, cl.member("n1").Report.Links, "n1", cl.view)[addr("198.18.9.3")] {
				t.Error("an agent that does not speak does")
			}
			if n := st.Nodes[1]; n.Way.MTU != 0 || len(n.Addrs) != 0 || n.Part != director.Takes {
				t.Errorf("the neighbour: %+v", n)
			}
		})
	}
}

func addrs(all map[netip.Addr]bool) string {
	return fmt.Sprint(slices.SortedFunc(maps.Keys(all), netip.Addr.Compare))
}
