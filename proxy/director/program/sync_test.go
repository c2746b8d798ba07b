package program

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/cilium/ebpf"
)

// frontendFlags are the flags that the map has for a VIP, over TCP; false if it has none.
func (n *node) frontendFlags(t *testing.T, f family) (uint32, bool) {
	t.Helper()
	key, _ := frontendEntry(Frontend{VIP: f.vip, Proto: tcp})
	var value directorFrontend
	err := n.p.objects.Frontends.Lookup(key, &value)
	if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		t.Fatal(err)
	}
	return value.Flags, err == nil
}

// An endpoint that goes is out of the maps before nftables is told, one that comes is in
// them after that.
func TestOrder(t *testing.T) {
	l := newLab(t, Options{}, "a")
	a, f := l.nodes[0], families[0]
	front := func(has bool) []Frontend {
		return []Frontend{{VIP: f.vip, Proto: tcp, Slots: l.slots("a"), HasEndpoints: has}}
	}
	for i, step := range []struct {
		want        []Frontend
		flags       uint32 // while nftables is told
		there, then bool
	}{
		{front(true), 0, false, true},
		{front(false), 0, true, true},
		{front(true), 0, true, true},
		{front(true), flagEndpoints, true, true},
		{nil, 0, false, false},
	} {
		a.state.Frontends = step.want
		told := 0
		err := a.p.Sync(a.state, func() error {
			told++
			if flags, there := a.frontendFlags(t, f); flags != step.flags || there != step.there {
				t.Errorf("step %d: while nftables is told: %v, flags %d", i, there, flags)
			}
			return nil
		})
		if err != nil || told != 1 {
			t.Fatal(told, err)
		}
		if _, there := a.frontendFlags(t, f); there != step.then {
			t.Errorf("step %d: afterwards: %v", i, there)
		}
	}
}

// A Sync that nftables ends early leaves no endpoint in the maps that went, and the next
// one does the rest.
func TestNftablesFails(t *testing.T) {
	l := newLab(t, Options{}, "a")
	a, f := l.nodes[0], families[0]
	a.state.Frontends = []Frontend{{VIP: f.vip, Proto: tcp, Slots: l.slots("a"), HasEndpoints: true}}
	broken := errors.New("broken")
	if err := a.p.Sync(a.state, func() error { return broken }); !errors.Is(err, broken) {
		t.Fatal(err)
	}
	if _, there := a.frontendFlags(t, f); there {
		t.Error("the frontend is there")
	}
	a.sync(t)
	if flags, there := a.frontendFlags(t, f); !there || flags != flagEndpoints {
		t.Error(there, flags)
	}
}

// The next agent finds in the maps what the last one wrote, keeps the numbers of nodes,
// tables and VIPs with their counts, and removes what is no longer wanted.
func TestAdopt(t *testing.T) {
	l := newLab(t, Options{}, "a", "b", "c")
	a := l.node("a")
	f, other := families[0], families[1]
	a.state.Frontends = []Frontend{
		{VIP: f.vip, Proto: tcp, Slots: l.slots("b a")},
		{VIP: f.vip, Proto: udp, Slots: l.slots("b a")},
		{VIP: other.vip, Proto: tcp, Slots: l.slots("c a b")},
	}
	a.sync(t)
	if n := len(a.p.held.tables); n != 2 {
		t.Errorf("%d tables: equal ones are one", n)
	}
	a.step(t, f.packet(tcp, syn).bytes(outsider, a.mac))
	before := a.p.held
	a.restart(t)
	read, err := a.p.objects.read()
	if err != nil {
		t.Fatal(err)
	}
	if !maps.Equal(read.nodes, before.nodes) || !maps.Equal(read.macs, before.macs) || !maps.Equal(read.vips, before.vips) ||
		!maps.Equal(read.frontends, before.frontends) || len(read.tables) != 2 {
		t.Errorf("written:\n%+v\nread:\n%+v", before, read)
	}
	a.state.Frontends = a.state.Frontends[:2]
	a.state.Nodes = a.state.Nodes[:2]
	a.sync(t)
	if len(a.p.held.tables) != 1 || len(a.p.held.nodes) != 2 || len(a.p.held.vips) != 1 {
		t.Errorf("%+v", a.p.held)
	}
	for d, table := range a.p.held.tables {
		if table.at != before.tables[d].at {
			t.Errorf("table %d became %d", before.tables[d].at, table.at)
		}
	}
	if again, err := a.p.objects.read(); err != nil || len(again.tables) != 1 || len(again.nodes) != 2 || len(again.macs) != 2 || len(again.frontends) != 2 {
		t.Errorf("%+v %v", again, err)
	}
	if c := a.counters(t).VIPs[f.vip.Addr()]; c != (Count{1, 1}) {
		t.Errorf("the VIP has counted %+v", c)
	}
	if c := a.counters(t).Nodes["b"]; c != (Count{1, 1}) {
		t.Errorf("the node has counted %+v", c)
	}
}

// A number of a node that has gone counts from 0 for the next one.
func TestNumbersAgain(t *testing.T) {
	l := newLab(t, Options{}, "a", "b", "c")
	a, f := l.node("a"), families[0]
	all := a.state.Nodes
	a.state.Nodes = all[:2]
	a.state.Frontends = []Frontend{{VIP: f.vip, Proto: tcp, Slots: l.slots("b a")}}
	a.sync(t)
	a.step(t, f.packet(tcp, syn).bytes(outsider, a.mac))
	a.state.Nodes, a.state.Frontends = all[:1], nil
	a.sync(t)
	a.state.Nodes = []Node{all[0], all[2]}
	a.state.Frontends = []Frontend{{VIP: f.vip, Proto: tcp, Slots: &Slots{Chains: l.slots("b a").Chains}}}
	a.sync(t)
	if c := a.counters(t).Nodes["c"]; c.Packets != 0 {
		t.Errorf("%+v", c)
	}
	if what, _ := a.step(t, f.packet(tcp, syn).bytes(outsider, a.mac)); what != "c" {
		t.Error(what)
	}
}

// Each Sync renews the lease, and holds the end of walks as long as it is told to.
func TestLease(t *testing.T) {
	l := newLab(t, Options{}, "a")
	a := l.nodes[0]
	a.state.Hold = time.Hour
	for range 2 {
		before := uint64(uptime(t))
		if err := a.p.Sync(a.state, nil); err != nil {
			t.Fatal(err)
		}
		s, after := a.settings(t), uint64(uptime(t))+1
		for until, lasts := range map[uint64]time.Duration{s.Until: Lease, s.Hold: time.Hour} {
			second, lasts := until/uint64(time.Second), uint64(lasts/time.Second)
			if second < before+lasts || second > after+lasts {
				t.Errorf("between %d and %d until %d, not %d s", before, after, second, lasts)
			}
		}
	}
}

// Maps under this version's name that are not its own are replaced.
func TestForeignMaps(t *testing.T) {
	l := newLab(t, Options{}, "a")
	a := l.nodes[0]
	a.p.Close()
	pin := filepath.Join(a.p.opt.Pins, layout, "frontends")
	if err := os.Remove(pin); err != nil {
		t.Fatal(err)
	}
	m, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Hash, KeySize: 4, ValueSize: 4, MaxEntries: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if err := m.Pin(pin); err != nil {
		t.Fatal(err)
	}
	a.restart(t)
	a.sync(t)
}

// restart is what a restart of the agent does.
func (n *node) restart(t *testing.T) {
	t.Helper()
	n.p.Close()
	n.space.Do(t, func() (err error) {
		n.p, err = Open(n.p.opt)
		return err
	})
	t.Cleanup(n.p.Close)
}

func TestMarks(t *testing.T) {
	for _, m := range []Marks{{}, {1, 2, 0}, {1, 2, 2}, {1, 2, 12}, {3, 4, 0}} {
		if _, err := Open(Options{Marks: m}); err == nil {
			t.Errorf("%+v", m)
		}
	}
}

// Probe says what the kernel can, and why it cannot.
func TestProbe(t *testing.T) {
	loadConntrack(t)
	a, err := Probe()
	if err != nil {
		t.Fatal(err)
	}
	if a.Oracle == (a.WhyNot != "") {
		t.Errorf("%+v", a)
	}
	t.Logf("%+v", a)
}
