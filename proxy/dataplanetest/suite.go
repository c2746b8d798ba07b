// Package dataplanetest is what every proxy.Dataplane must do, as one suite of
// tests, and a Fake that passes it, for tests of those who use a Dataplane. Faults
// makes each step of a Sync fail, or ends the process there.
package dataplanetest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"testing"
	"time"

	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/proxy"
)

// Dumper is what the Dataplanes of these tests have to be too.
type Dumper interface {
	// Dump returns the Table that the kernel holds now, without the fields that
	// it does not hold (Service, PortName); nil if it holds none of ours.
	Dump(ctx context.Context) (*proxy.Table, error)
}

func dump(t *testing.T, d proxy.Dataplane) *proxy.Table {
	t.Helper()
	got, err := d.(Dumper).Dump(t.Context())
	if err != nil {
		t.Fatalf("Dump: %v", err)
	}
	return got
}

// Run runs the suite. newDataplane makes an instance on a fresh kernel, which is a
// Dumper; called again with the same t, another instance on the same kernel.
func Run(t *testing.T, newDataplane func(t *testing.T) proxy.Dataplane) {
	for name, test := range map[string]func(*testing.T, func(*testing.T) proxy.Dataplane){
		"Sync": testSync, "Change": testChange, "Adopt": testAdopt, "Notify": testNotify, "Dump": testDump, "Cleanup": testCleanup,
		"Probe": testProbe, "Random": testRandom, "Ranges": testRanges, "Faults": testFaults, "NotWhenCancelled": testCancelled,
	} {
		t.Run(name, func(t *testing.T) { test(t, newDataplane) })
	}
}

// Example returns a small Table with both families, and a copy of it with one
// endpoint replaced.
func Example() (before, after *proxy.Table) {
	make := func(last byte) *proxy.Table {
		ep := netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 18, 1, last}), 8080)
		v4, v6 := netip.MustParseAddr("10.96.0.1"), netip.MustParseAddr("fd98:0:96::1")
		return &proxy.Table{
			Frontends: []*proxy.Frontend{
				{Key: proxy.Key{Kind: proxy.ClusterIP, Family: snapshot.IPv4, Addr: v4, Protocol: snapshot.TCP, Port: 80},
					Service: snapshot.Ref{Namespace: "a", Name: "b"}, PortName: "http",
					Cluster: []netip.AddrPort{netip.MustParseAddrPort("198.18.1.2:8080"), ep}},
				{Key: proxy.Key{Kind: proxy.ClusterIP, Family: snapshot.IPv6, Addr: v6, Protocol: snapshot.UDP, Port: 53},
					Cluster: []netip.AddrPort{netip.MustParseAddrPort("[fd98:0:1::2]:53")}, Affinity: time.Hour},
			},
			NodePortAddrs: []netip.Addr{netip.MustParseAddr("198.18.0.1")},
			ServiceCIDRs:  []netip.Prefix{netip.MustParsePrefix("10.96.0.0/12")},
			LocalPods:     []netip.Prefix{netip.MustParsePrefix("198.18.1.0/24")},
		}
	}
	return make(3), make(4)
}

func mustSync(t *testing.T, d proxy.Dataplane, table *proxy.Table) proxy.Change {
	t.Helper()
	c, err := d.Sync(t.Context(), table)
	if err != nil {
		t.Fatalf("Sync: %v", err)
	}
	return c
}

// holds checks that the kernel holds what table says; nil is nothing.
func holds(t *testing.T, d proxy.Dataplane, table *proxy.Table) {
	t.Helper()
	got := dump(t, d)
	if table == nil {
		if got != nil {
			t.Fatalf("the kernel holds\n%s, want nothing", text(got))
		}
		return
	}
	if want := Normal(table); got == nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("the kernel holds\n%s\nwant\n%s", text(got), text(want))
	}
}

func text(t *proxy.Table) string {
	if t == nil {
		return "nothing"
	}
	return fmt.Sprintf("%shairpin %v\n", t, t.Hairpin)
}

func testSync(t *testing.T, newDataplane func(*testing.T) proxy.Dataplane) {
	d := newDataplane(t)
	holds(t, d, nil)
	table, _ := Example()
	if c := mustSync(t, d, table); c.Empty() || c.Added == 0 || c.Repaired {
		t.Errorf("the first Sync: %+v", c)
	}
	holds(t, d, table)
	again, _ := Example()
	for _, same := range []*proxy.Table{table, again} {
		if c := mustSync(t, d, same); !c.Empty() || c.Repaired {
			t.Errorf("an equal Sync: %+v", c)
		}
	}
	again.Frontends[0].Service.Name, again.Frontends[0].PortName = "other", ""
	if c := mustSync(t, d, again); !c.Empty() {
		t.Errorf("a Sync with another Service's name: %+v", c)
	}
	holds(t, d, table)
}

func testChange(t *testing.T, newDataplane func(*testing.T) proxy.Dataplane) {
	d := newDataplane(t)
	before, after := Example()
	mustSync(t, d, before)
	if c := mustSync(t, d, after); c.Added == 0 || c.Deleted == 0 || c.Rebuilt || c.Repaired {
		t.Errorf("a changed endpoint: %+v", c)
	}
	holds(t, d, after)
	if c := mustSync(t, d, &proxy.Table{}); c.Deleted == 0 {
		t.Errorf("an empty Table: %+v", c)
	}
	holds(t, d, &proxy.Table{})
}

func testAdopt(t *testing.T, newDataplane func(*testing.T) proxy.Dataplane) {
	before, after := Example()
	mustSync(t, newDataplane(t), before)
	second := newDataplane(t)
	if c := mustSync(t, second, before); !c.Empty() || c.Repaired {
		t.Errorf("adopting an equal Table: %+v", c)
	}
	third := newDataplane(t)
	if c := mustSync(t, third, after); c.Empty() || c.Rebuilt || c.Repaired {
		t.Errorf("adopting another Table: %+v", c)
	}
	holds(t, third, after)
	// The second one finds that somebody else wrote.
	if c := mustSync(t, second, before); c.Empty() || !c.Repaired {
		t.Errorf("after a foreign change: %+v", c)
	}
	holds(t, second, before)
}

// testNotify: a change by somebody else is told without a Sync, one of our own is not.
func testNotify(t *testing.T, newDataplane func(*testing.T) proxy.Dataplane) {
	before, after := Example()
	d, told := newDataplane(t), make(chan struct{}, 100)
	d.Notify(func() { told <- struct{}{} })
	mustSync(t, d, before)
	mustSync(t, d, after)
	mustSync(t, newDataplane(t), before)
	select {
	case <-told:
	case <-time.After(10 * time.Second):
		t.Fatal("a change by another instance was not told")
	}
	if c := mustSync(t, d, after); c.Empty() || !c.Repaired {
		t.Errorf("after it: %+v", c)
	}
	holds(t, d, after)
	if len(told) > 0 {
		t.Errorf("told %d times too often", len(told))
	}
}

// testRanges: ranges of ports come, change and go, with a port of its own inside of one.
func testRanges(t *testing.T, newDataplane func(*testing.T) proxy.Dataplane) {
	d := newDataplane(t)
	vip := netip.MustParseAddr("192.0.2.1")
	table := func(last byte, ranges ...snapshot.PortRange) *proxy.Table {
		ep := netip.AddrFrom4([4]byte{198, 18, 1, last})
		key := proxy.Key{Kind: proxy.VIP, Family: snapshot.IPv4, Addr: vip, Protocol: snapshot.UDP}
		ranged := &proxy.Frontend{Key: key, Ranges: ranges, Cluster: []netip.AddrPort{netip.AddrPortFrom(ep, 0)}}
		key.Port = 5060
		return &proxy.Table{Frontends: []*proxy.Frontend{ranged, {Key: key, Cluster: []netip.AddrPort{netip.AddrPortFrom(ep, 5060)}}}}
	}
	few, all := snapshot.PortRange{Protocol: snapshot.UDP, First: 5000, Last: 6000}, snapshot.PortRange{Protocol: snapshot.UDP, First: 1, Last: 65535}
	for _, step := range []*proxy.Table{table(2, few), table(3, few), table(3, all), table(3, few), {}} {
		if c := mustSync(t, d, step); c.Empty() || c.Repaired {
			t.Errorf("ranges change: %+v", c)
		}
		holds(t, d, step)
		if c := mustSync(t, newDataplane(t), step); !c.Empty() {
			t.Errorf("adopting ranges: %+v", c)
		}
	}
}

func testDump(t *testing.T, newDataplane func(*testing.T) proxy.Dataplane) {
	table := Random(rand.New(rand.NewPCG(1, 1)))
	mustSync(t, newDataplane(t), table)
	holds(t, newDataplane(t), table)
}

func testCleanup(t *testing.T, newDataplane func(*testing.T) proxy.Dataplane) {
	d := newDataplane(t)
	table, _ := Example()
	cleanup := func(d proxy.Dataplane) {
		t.Helper()
		if err := d.Cleanup(t.Context()); err != nil {
			t.Fatal(err)
		}
		holds(t, d, nil)
	}
	cleanup(d)
	mustSync(t, d, table)
	cleanup(d)
	mustSync(t, d, table)
	holds(t, d, table)
	cleanup(newDataplane(t))
}

func testProbe(t *testing.T, newDataplane func(*testing.T) proxy.Dataplane) {
	d := newDataplane(t)
	table, _ := Example()
	mustSync(t, d, table)
	if err := d.Probe(t.Context()); err != nil {
		t.Fatal(err)
	}
	holds(t, d, table)
	if c := mustSync(t, d, table); !c.Empty() || c.Repaired {
		t.Errorf("a Sync after a Probe: %+v", c)
	}
}

// testRandom syncs one Table after the other; each time a fresh instance must
// find nothing to do, so that what an instance writes from memory is what it
// would write after looking.
func testRandom(t *testing.T, newDataplane func(*testing.T) proxy.Dataplane) {
	r := rand.New(rand.NewPCG(2, 2))
	d := newDataplane(t)
	for i := range 25 {
		table := Random(r)
		mustSync(t, d, table)
		holds(t, d, table)
		if c := mustSync(t, newDataplane(t), table); !c.Empty() {
			t.Fatalf("table %d: another instance still had to write %+v", i, c)
		}
		if c := mustSync(t, d, Normal(table)); !c.Empty() || c.Repaired {
			t.Fatalf("table %d: an equal Sync: %+v", i, c)
		}
	}
}

func testFaults(t *testing.T, newDataplane func(*testing.T) proxy.Dataplane) {
	r := rand.New(rand.NewPCG(4, 4))
	inner := newDataplane(t)
	d := &Faulty{Dataplane: inner, Rand: r}
	var last *proxy.Table
	failed := 0
	for range 30 {
		table := Random(r)
		if _, err := d.Sync(t.Context(), table); err != nil {
			failed++
		} else {
			last = table
		}
		holds(t, inner, last)
	}
	if failed == 0 {
		t.Error("no fault was injected")
	}
}

func testCancelled(t *testing.T, newDataplane func(*testing.T) proxy.Dataplane) {
	d := newDataplane(t)
	before, after := Example()
	mustSync(t, d, before)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := d.Sync(ctx, after); !errors.Is(err, context.Canceled) {
		t.Errorf("Sync with a cancelled context: %v", err)
	}
	holds(t, d, before)
	mustSync(t, d, after)
	holds(t, d, after)
}
