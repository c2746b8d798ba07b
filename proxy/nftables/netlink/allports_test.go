package netlink

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/proxy"
)

// With AllPorts a client has one pod at all ports of a Service, over TCP and UDP, at its VIP,
// its ClusterIP and its node ports. It stays there when another pod goes, and across a
// restart of the agent.
func TestAllPorts(t *testing.T) {
	l := newLab(t)
	for _, family := range bothFamilies {
		t.Run(family.String(), func(t *testing.T) { l.allPorts(t, addressesOf(family)) })
	}
}

func (l *lab) allPorts(t *testing.T, a addressing) {
	clients := []space{l.client, l.podB, l.remote}
	table := func(pods ...netip.Addr) (*proxy.Table, []*proxy.Frontend) {
		var all []*proxy.Frontend
		for _, kind := range []proxy.Kind{proxy.ClusterIP, proxy.VIP, proxy.NodePort} {
			for _, network := range []string{"tcp", "udp"} {
				for i, server := range []uint16{8080, 8081} { // who is asked there answers as "new-" and its name
					f := a.front(kind, network)
					f.Empty, f.AllPorts, f.Port = proxy.Forward, true, f.Port+uint16(i)
					for _, p := range pods {
						f.Cluster = append(f.Cluster, netip.AddrPortFrom(p, server))
					}
					all = append(all, f)
				}
			}
		}
		t := a.table(all...)
		for _, p := range pods {
			for _, protocol := range []snapshot.Protocol{snapshot.TCP, snapshot.UDP} {
				t.Hairpin = append(t.Hairpin, proxy.Target{Protocol: protocol, Addr: netip.AddrPortFrom(p, 8081)})
			}
		}
		slices.SortFunc(t.Hairpin, proxy.Target.Compare)
		return t, all
	}
	// pod returns the one pod that a client has at all of fronts.
	pod := func(c space, src netip.Addr, fronts []*proxy.Frontend) string {
		t.Helper()
		one := ""
		for _, f := range fronts {
			network := "tcp"
			if f.Protocol != 6 {
				network = "udp"
			}
			var got, from string
			answer := c.outcome(network, a.address(f), netip.AddrPortFrom(src, 0), patient)
			if _, err := fmt.Sscan(answer, &got, &from); err != nil {
				t.Fatalf("%s from %s: %q", f.Key, c.Name, answer)
			}
			if len(got) > 4 && got[:4] == "new-" {
				got = got[4:]
			}
			if one == "" {
				one = got
			}
			if got != one {
				t.Errorf("%s %s has %s at %s, and %s elsewhere", c.Name, src, got, f.Key, one)
			}
		}
		return one
	}
	all := func(fronts []*proxy.Frontend) map[string]string {
		out := map[string]string{}
		for _, c := range clients {
			out[c.Name] = pod(c, netip.Addr{}, fronts)
		}
		out["second"] = pod(l.client, a.client2, fronts)
		return out
	}
	three, fronts := table(a.podA, a.podB, a.remote)
	sync(t, l.engine, three)
	first := all(fronts)
	next := l.node.engine(t)
	if c := sync(t, next, three); !c.Empty() {
		t.Errorf("a restart wrote %+v", c)
	}
	two, fronts := table(a.podA, a.podB)
	sync(t, next, two)
	for c, now := range all(fronts) {
		if was := first[c]; was != "remote" && now != was {
			t.Errorf("%s went from %s to %s, whose pod is still there", c, was, now)
		}
	}
	sync(t, l.engine, a.table())
}
