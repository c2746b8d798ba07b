package bgp_test

import (
	"fmt"
	"net/netip"
	"reflect"
	"testing"

	"pgregory.net/rapid"

	"github.com/fairlead/fairlead/announcer/bgp"
	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/internal/test/storytest"
)

// edits are changes of a cluster. Each may matter or not.
var edits = []string{
	"endpoint default/web 10.1.1.5:80 node=a", "endpoint default/web 10.1.1.5:80 unready unserving", "endpoint default/web 10.1.1.6:80 node=b", "endpoint default/web 10.1.1.5:80 unready=false",
	"service default/web external=Local", "service default/web external=", "service default/web labels=x=y", "service default/web labels=",
	"service default/two type=LoadBalancer ports=tcp/81", "endpoint default/two [fd00:1::5]:80 node=a",
	"address 192.0.2.10 holder=default/web", "address 192.0.2.11 holder=default/two", "address 2001:db8::11 holder=default/two", "address 192.0.2.10 deleting", "address 192.0.2.10 deleting=false",
	"announcement over bgp", "announcement over bgp service=x=y", "announcement more bgp localpref=200", "announcement more bgp length=28", "announcement more bgp length=",
	"bgppeer tor 198.51.100.254 as=64496/64500", "bgppeer tor 198.51.100.254 as=64496/64500 secret=good", "bgppeer six 2001:db8::fe as=64497/64500",
	"node a notready", "node a notready=false", "agent a draining", "agent a draining=false", "agent a lacks=192.0.2.10", "agent a lacks=",
}

// TestDeciderMemoryDoesNotShow: a Decider decides what Decide does, whatever
// changes from one Input to the next.
func TestDeciderMemoryDoesNotShow(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := storytest.NewWorld()
		edit := func(text string) {
			if err := w.Do(text); err != nil {
				t.Fatal(err)
			}
		}
		edit("node a ips=198.51.100.1\nagent a links=eth0:198.51.100.1/24+2001:db8::1/64\nservice default/web type=LoadBalancer ports=tcp/80\nservice default/two type=LoadBalancer ports=tcp/81\n" +
			"address 192.0.2.10 holder=default/web\nannouncement over bgp\nbgppeer tor 198.51.100.254 as=64496/64500")
		var d bgp.Decider
		var last *snapshot.Snapshot
		ready := map[string]map[netip.Addr]bool{}
		for range rapid.IntRange(1, 20).Draw(t, "steps") {
			edit(edits[rapid.IntRange(0, len(edits)-1).Draw(t, "edit")])
			s, err := w.Snapshot()
			if err != nil {
				t.Fatal(err)
			}
			if last != nil {
				keep(last.Nodes, s.Nodes)
				keep(last.Addresses, s.Addresses)
				s.Nodes, s.Pools, s.Announcements, s.BGPPeers = whole(last.Nodes, s.Nodes), whole(last.Pools, s.Pools), whole(last.Announcements, s.Announcements), whole(last.BGPPeers, s.BGPPeers)
			}
			last = s
			in := bgp.Input{Snapshot: s, Node: "a", Self: s.NodeState("a").Electable, Passwords: passwords, Retreating: rapid.Bool().Draw(t, "retreating")}
			in.Ready = held(ready, s, w.Lacks("a"))
			if got, want := d.Decide(in), bgp.Decide(in); !reflect.DeepEqual(got, want) {
				t.Fatalf("with a memory:\n%s\nwant\n%s", got, want)
			}
		}
	})
}

// keep gives the values of now that are as they were in old their old pointers.
func keep[T any](old, now []*T) {
	for i := range now {
		for _, o := range old {
			if reflect.DeepEqual(o, now[i]) {
				now[i] = o
			}
		}
	}
}

// whole returns old if now is the same.
func whole[T any](old, now []*T) []*T {
	if keep(old, now); reflect.DeepEqual(old, now) {
		return old
	}
	return now
}

// held returns the same map for the same addresses, as an engine does that has
// nothing new to say.
func held(known map[string]map[netip.Addr]bool, s *snapshot.Snapshot, lacks []netip.Addr) map[netip.Addr]bool {
	out := map[netip.Addr]bool{}
	for _, a := range s.Addresses {
		out[a.Addr] = true
	}
	for _, a := range lacks {
		out[a] = false
	}
	key := fmt.Sprint(out)
	if known[key] == nil {
		known[key] = out
	}
	return known[key]
}
