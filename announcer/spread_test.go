package announcer_test

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/fairlead/fairlead/announcer"
	"github.com/fairlead/fairlead/internal/test/storytest"
)

// TestSpread elects owners for 300 addresses of each family among 3 nodes: each
// node gets its third, within 20 %, and when a node goes away nothing but its
// own addresses moves.
func TestSpread(t *testing.T) {
	for _, prefix := range []string{"192.0.2.0/22", "2001:db8:f::/64"} {
		t.Run(prefix, func(t *testing.T) {
			w := spreadWorld(t, netip.MustParsePrefix(prefix))
			before := owners(t, w)
			share := map[string]int{}
			for _, owner := range before {
				share[owner]++
			}
			for _, node := range []string{"worker-1", "worker-2", "worker-3"} {
				if n := share[node]; n < 80 || n > 120 {
					t.Errorf("%s has %d of 300 addresses", node, n)
				}
			}
			do(t, w, "agent worker-2 dead")
			for addr, owner := range owners(t, w) {
				if was := before[addr]; was != "worker-2" && owner != was {
					t.Errorf("%s moved from %s to %s", addr, was, owner)
				} else if owner == "worker-2" {
					t.Errorf("%s stays on the dead node", addr)
				}
			}
			do(t, w, "agent worker-2 dead=false")
			if after := owners(t, w); !equal(before, after) {
				t.Error("the addresses did not return to where they were")
			}
		})
	}
}

// spreadWorld has 300 addresses of p and three nodes on its link.
func spreadWorld(t *testing.T, p netip.Prefix) *storytest.World {
	w := storytest.NewWorld()
	addr := p.Masked().Addr()
	for i := 1; i <= 3; i++ {
		addr = addr.Next()
		do(t, w, fmt.Sprintf("node worker-%d\nagent worker-%d links=eth0:%s/%d", i, i, addr, p.Bits()))
	}
	lines := "service default/web type=LoadBalancer ports=tcp/80\nendpoint default/web 10.1.1.5:80\nendpoint default/web [fd00:1::5]:80\n"
	for range 300 {
		addr = addr.Next()
		lines += fmt.Sprintf("address %s holder=default/web\n", addr)
	}
	do(t, w, lines)
	return w
}

func do(t *testing.T, w *storytest.World, text string) {
	t.Helper()
	if err := w.Do(text); err != nil {
		t.Fatal(err)
	}
}

// owners is the owner of every address, on which all nodes agree.
func owners(t *testing.T, w *storytest.World) map[netip.Addr]string {
	t.Helper()
	out := map[netip.Addr]string{}
	for _, st := range snapshotOf(t, w).NodeStates {
		p := decide(t, w, st.Node)
		for _, v := range p.Announce {
			agree(t, out, v.Addr, st.Node)
		}
		for _, r := range p.Refused {
			agree(t, out, r.Addr, r.Owner)
		}
	}
	if len(out) != 300 {
		t.Fatalf("%d addresses were decided", len(out))
	}
	return out
}

func equal(a, b map[netip.Addr]string) bool {
	for addr, owner := range a {
		if b[addr] != owner {
			return false
		}
	}
	return len(a) == len(b)
}

// TestRankIsForEver: owners must not move when the agents are upgraded one by
// one, so the hash may never change.
func TestRankIsForEver(t *testing.T) {
	w := storytest.NewWorld()
	do(t, w, "service default/web type=LoadBalancer ports=tcp/80\nendpoint default/web 10.1.1.5:80\nendpoint default/web [fd00:1::5]:80")
	for _, n := range []string{"alpha", "bravo", "charlie", "delta"} {
		do(t, w, fmt.Sprintf("node %s\nagent %s links=eth0:192.0.2.1/24+2001:db8::1/64", n, n))
	}
	do(t, w, "address 192.0.2.10 holder=default/web\naddress 192.0.2.11 holder=default/web\naddress 2001:db8::10 holder=default/web")
	want := map[string]string{"192.0.2.10": "alpha", "192.0.2.11": "charlie", "2001:db8::10": "delta"}
	for _, a := range snapshotOf(t, w).Addresses {
		for node := range w.Alive() {
			plan := decide(t, w, node)
			owns := slices.ContainsFunc(plan.Announce, func(v announcer.VIP) bool { return v.Addr == a.Addr })
			if owns != (want[a.Addr.String()] == node) {
				t.Errorf("%s owns %s: %t", node, a.Addr, owns)
			}
		}
	}
}
