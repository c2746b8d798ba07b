package proxy

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/fairlead/fairlead/internal/snapshot"
)

// A change of a large Service's endpoints comes in steps, and what other Services
// change by then comes with the next one. In the end the Table is that of a Compiler
// that remembers nothing.
func TestLargeServicesComeInSteps(t *testing.T) {
	const ports = 300
	large, addr := crowded("large", 1, ports, 4, 0)
	other, otherAddr := crowded("other", 2, 1, 3, 0)
	var c Compiler
	compile := func() (*Table, *snapshot.Snapshot) {
		s := of(large, other, addr, otherAddr)
		return c.Compile(s, "node-1", nil, Options{}), s
	}
	was, _ := compile()
	if c.More() {
		t.Error("the first Table is not whole")
	}
	moved := func(svc *snapshot.Service, to byte) *snapshot.Service {
		next := *svc
		next.Endpoints = slices.Clone(svc.Endpoints)
		for i := range next.Endpoints {
			next.Endpoints[i].Addr = netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 245, to, byte(i % 4)}), 8080)
		}
		return &next
	}
	large = moved(large, 1)
	for steps, round := 0, byte(2); ; steps++ {
		other = moved(other, round)
		if round++; steps == 3 {
			large = moved(large, 100) // while it is on its way
		}
		table, s := compile()
		changed := 0
		for i, f := range table.Frontends {
			switch {
			case f.Service == other.Ref && f.Cluster[0] != other.Endpoints[0].Addr:
				t.Fatalf("step %d: %s, behind the other Service's change", steps, f)
			case f.Service == large.Ref && f != was.Frontends[i]:
				changed++
			}
		}
		if was = table; changed > stepFrontends {
			t.Errorf("step %d changes %d Frontends", steps, changed)
		}
		if c.More() {
			if steps > 3*2*ports/stepFrontends {
				t.Fatal("it does not end")
			}
			continue
		}
		if steps < 2*ports/stepFrontends {
			t.Errorf("%d steps for %d Frontends", steps, 2*ports)
		}
		if want := Compile(s, "node-1", nil, Options{}).String(); table.String() != want {
			t.Errorf("in the end\n%s\nwant\n%s", table, want)
		}
		return
	}
}

// A Service whose addresses change is taken as it is: others may have them next.
func TestAddressesComeAtOnce(t *testing.T) {
	large, addr := crowded("large", 1, 300, 2, 0)
	var c Compiler
	c.Compile(of(large, addr), "node-1", nil, Options{})
	table := c.Compile(of(large), "node-1", nil, Options{})
	if c.More() || table.HasAddr(VIP, addr.Addr) {
		t.Error("an address that the Service lost is still there")
	}
}
