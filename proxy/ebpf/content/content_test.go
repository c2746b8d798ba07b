package content

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"testing"

	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/internal/test/layertest"
	"github.com/fairlead/fairlead/proxy"
	"github.com/fairlead/fairlead/proxy/dataplanetest"
)

func TestPure(t *testing.T) { layertest.Pure(t) }

// model is the maps.
type model struct {
	endpoints map[Slot]netip.AddrPort
	members   map[Member]bool
	services  map[Key]Service
	nodeIPs   map[netip.Addr]bool
}

func newModel() *model {
	return &model{map[Slot]netip.AddrPort{}, map[Member]bool{}, map[Key]Service{}, map[netip.Addr]bool{}}
}

// steps are the single writes of a Change.
func (m *model) steps(c *Change) (out []func()) {
	each(&out, c.Endpoints, func(e Endpoint) { m.endpoints[e.Slot] = e.Addr })
	each(&out, c.Members, func(v Member) { m.members[v] = true })
	each(&out, c.Services, func(s Service) { m.services[s.Key] = s })
	each(&out, c.NodeIPs, func(a netip.Addr) { m.nodeIPs[a] = true })
	each(&out, c.GoneNodeIPs, func(a netip.Addr) { delete(m.nodeIPs, a) })
	each(&out, c.GoneServices, func(k Key) { delete(m.services, k) })
	each(&out, c.GoneMembers, func(v Member) { delete(m.members, v) })
	each(&out, c.GoneSlots, func(s Slot) { delete(m.endpoints, s) })
	return out
}

func each[T any](out *[]func(), all []T, f func(T)) {
	for _, v := range all {
		*out = append(*out, func() { f(v) })
	}
}

// sound tells what a socket would miss now.
func (m *model) sound() error {
	for k, s := range m.services {
		for i := range s.Count {
			a, ok := m.endpoints[Slot{s.List, i}]
			if !ok {
				return fmt.Errorf("%s lacks endpoint %d", s, i)
			}
			if (k.Protocol == snapshot.UDP || s.Affinity > 0) && !m.members[Member{k, a}] {
				return fmt.Errorf("%s lacks member %s", s, a)
			}
		}
	}
	return nil
}

func (m *model) held() *Held {
	h := &Held{NodeIPs: slices.Collect(maps.Keys(m.nodeIPs)), Services: slices.Collect(maps.Values(m.services)), Members: slices.Collect(maps.Keys(m.members))}
	for s, a := range m.endpoints {
		h.Endpoints = append(h.Endpoints, Endpoint{s, a})
	}
	return h
}

var plenty = Limit{Services: 1000, Endpoints: 1000}

// TestPlan: at no moment of a change does a socket meet half a Service; a change
// that was broken off anywhere is finished by the agent that adopts what is there; and
// nothing is left over.
func TestPlan(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	m, state := newModel(), &State{}
	for i := range 300 {
		table := dataplanetest.Random(r)
		next, c := Plan(state, table, plenty)
		steps := m.steps(c)
		broken := r.IntN(4) == 0 && len(steps) > 0
		if broken {
			steps = steps[:r.IntN(len(steps))]
		}
		for n, step := range steps {
			step()
			if err := m.sound(); err != nil {
				t.Fatalf("table %d, step %d of\n%s%v", i, n, c, err)
			}
		}
		if broken {
			next, c = Plan(Adopt(m.held(), table), table, plenty)
			for _, step := range m.steps(c) {
				step()
				if err := m.sound(); err != nil {
					t.Fatalf("table %d, finished by\n%s%v", i, c, err)
				}
			}
		}
		state = next
		check(t, m, table)
	}
}

// check compares the maps with a Table, and with what another would write.
func check(t *testing.T, m *model, table *proxy.Table) {
	t.Helper()
	want := newModel()
	_, c := Plan(&State{}, table, plenty)
	for _, step := range want.steps(c) {
		step()
	}
	if len(want.endpoints) != len(m.endpoints) || !maps.Equal(want.members, m.members) || !maps.Equal(want.nodeIPs, m.nodeIPs) || len(want.services) != len(m.services) {
		t.Fatalf("%d endpoints, %d members, %d Services; want %d, %d, %d", len(m.endpoints), len(m.members), len(m.services),
			len(want.endpoints), len(want.members), len(want.services))
	}
	for k, w := range want.services {
		got := m.services[k]
		if got.Count != w.Count || got.Affinity != w.Affinity {
			t.Fatalf("%s, want %s", got, w)
		}
		for i := range w.Count {
			if a, b := m.endpoints[Slot{got.List, i}], want.endpoints[Slot{w.List, i}]; a != b {
				t.Fatalf("%s: endpoint %d is %s, want %s", got, i, a, b)
			}
		}
	}
	if _, c := Plan(Adopt(m.held(), table), table, plenty); !c.Empty() {
		t.Fatalf("another one still has to write\n%s", c)
	}
}

// TestChange: what is written for one change is what that change touches.
func TestChange(t *testing.T) {
	before, after := dataplanetest.Example()
	for _, table := range []*proxy.Table{before, after} {
		for i := range 100 { // Services that stay
			f := *before.Frontends[0]
			f.Kind, f.Addr = proxy.VIP, netip.AddrFrom4([4]byte{203, 0, 113, byte(i)})
			table.Frontends = append(table.Frontends, &f)
		}
	}
	old, _ := Plan(&State{}, before, plenty)
	now, c := Plan(old, after, plenty)
	const want = `+ endpoint 103.0 198.18.1.2:8080
+ endpoint 103.1 198.18.1.4:8080
+ service tcp/80 10.96.0.1 list=103 count=2 affinity=0
- endpoint 1.0
- endpoint 1.1
`
	if c.String() != want {
		t.Errorf("one endpoint:\n%s\nwant\n%s", c, want)
	}
	if _, c := Plan(now, after, plenty); !c.Empty() {
		t.Errorf("nothing:\n%s", c)
	}
}

// TestLimit: what does not fit is left to the engine, and comes in when there is
// room.
func TestLimit(t *testing.T) {
	table, _ := dataplanetest.Example()
	small := Limit{Services: 10, Endpoints: 2}
	st, c := Plan(&State{}, table, small)
	if st.LeftFrontends != 1 || len(st.Placed) != 1 || len(c.Endpoints) != 2 {
		t.Errorf("%d left, %d placed, %d endpoints", st.LeftFrontends, len(st.Placed), len(c.Endpoints))
	}
	table = &proxy.Table{Frontends: table.Frontends[1:]}
	if st, _ = Plan(st, table, small); st.LeftFrontends != 0 || len(st.Placed) != 1 {
		t.Errorf("with room: %d left, %d placed", st.LeftFrontends, len(st.Placed))
	}
	if st, _ := Plan(&State{}, table, Limit{Services: 0, Endpoints: 10}); st.LeftFrontends != 1 || len(st.Placed) != 0 {
		t.Errorf("without: %d left, %d placed", st.LeftFrontends, len(st.Placed))
	}
}

// TestPlanAgainstAWalk: what is planned by what changed is what a walk plans.
func TestPlanAgainstAWalk(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 3))
	state, followed := &State{}, 0
	for i := range 150 {
		table := dataplanetest.Random(r)
		if state.table != nil && r.IntN(4) > 0 { // most Frontends are those of the last Table
			for at, f := range state.table.Frontends {
				if p, found := slices.BinarySearchFunc(table.Frontends, f.Key, func(f *proxy.Frontend, k proxy.Key) int { return f.Key.Compare(k) }); found && r.IntN(8) > 0 {
					table.Frontends[p] = state.table.Frontends[at]
				}
			}
		}
		if r.IntN(8) == 0 && len(table.Frontends) > 0 {
			table.OwnClusterIPs = []netip.Addr{table.Frontends[0].Addr}
		}
		limit := Limit{Services: 5 + r.IntN(40), Endpoints: 20 + r.IntN(200)}
		forgetful := *state
		forgetful.table = nil
		now, c := Plan(state, table, limit)
		wantNow, want := Plan(&forgetful, table, limit)
		for _, st := range []*State{now, wantNow} {
			st.Placed = append([]*Placed{}, st.Placed...) // no list and an empty one are the same
		}
		if !reflect.DeepEqual(now, wantNow) || c.String() != want.String() {
			t.Fatalf("table %d: got\n%s%+v\nwant\n%s%+v", i, c, now, want, wantNow)
		}
		if n, _ := state.follow(table); n != nil && !n.tight(limit) {
			followed++
		}
		state = now
	}
	if followed < 15 || followed > 135 {
		t.Errorf("%d of 150 were planned by what changed", followed)
	}
}

func BenchmarkPlan(b *testing.B) {
	table := &proxy.Table{}
	for i := range 10_000 {
		f := &proxy.Frontend{Key: proxy.Key{Kind: proxy.ClusterIP, Family: snapshot.IPv4, Addr: netip.AddrFrom4([4]byte{10, 96, byte(i >> 8), byte(i)}), Protocol: snapshot.TCP, Port: 80}}
		f.Cluster = []netip.AddrPort{netip.MustParseAddrPort("198.18.1.2:80"), netip.MustParseAddrPort("198.18.1.3:80")}
		table.Frontends = append(table.Frontends, f)
	}
	st, _ := Plan(&State{}, table, Limit{1 << 16, 1 << 18})
	for b.Loop() {
		changed := *table.Frontends[5000]
		changed.Cluster = changed.Cluster[:1+b.N%2]
		table = &proxy.Table{Frontends: slices.Clone(table.Frontends)}
		table.Frontends[5000] = &changed
		st, _ = Plan(st, table, Limit{1 << 16, 1 << 18})
	}
}

// Sockets that dial a ClusterIP which the node has itself are left alone, as
// NodeLocal DNSCache answers there; also when the address comes later.
func TestOwnClusterIPs(t *testing.T) {
	dns := netip.MustParseAddr("10.96.0.10")
	front := func(addr netip.Addr, p snapshot.Protocol) *proxy.Frontend {
		return &proxy.Frontend{Key: proxy.Key{Kind: proxy.ClusterIP, Family: snapshot.IPv4, Addr: addr, Protocol: p, Port: 53},
			Cluster: []netip.AddrPort{netip.MustParseAddrPort("198.18.1.2:53")}}
	}
	fronts := []*proxy.Frontend{front(dns, snapshot.TCP), front(dns, snapshot.UDP), front(netip.MustParseAddr("10.96.0.11"), snapshot.TCP)}
	without := &proxy.Table{Frontends: fronts}
	with := &proxy.Table{Frontends: fronts, OwnClusterIPs: []netip.Addr{dns}}
	st, m := &State{}, newModel()
	for _, step := range []struct {
		table *proxy.Table
		want  int
	}{{with, 1}, {without, 3}, {with, 1}} {
		now, c := Plan(st, step.table, plenty)
		for _, write := range m.steps(c) {
			write()
		}
		if st = now; len(m.services) != step.want {
			t.Errorf("%d services, want %d: %v", len(m.services), step.want, m.services)
		}
		if len(m.endpoints) != step.want {
			t.Errorf("%d endpoints, want %d", len(m.endpoints), step.want)
		}
	}
}
