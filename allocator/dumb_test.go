package allocator_test

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/fairlead/fairlead/allocator"
	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/internal/test/storytest"
)

// TestAgainstDumbAllocator compares Decide with an allocator that walks through
// every address, for clusters simple enough for it.
func TestAgainstDumbAllocator(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := storytest.NewWorld()
		run := func(format string, args ...any) {
			line := fmt.Sprintf(format, args...)
			t.Log(line)
			if err := w.Do(line); err != nil {
				t.Fatal(err)
			}
		}
		known := map[int]bool{}
		which := func(t *rapid.T) int { return rapid.IntRange(0, 7).Draw(t, "Service") }
		t.Repeat(map[string]func(*rapid.T){
			"create": func(t *rapid.T) {
				n := which(t)
				known[n] = true
				run("service z/s%d", n)
			},
			"ask": func(t *rapid.T) {
				n := which(t)
				known[n] = true
				run("service z/s%d addresses=192.0.2.%d", n, rapid.SampledFrom(wished).Draw(t, "address"))
			},
			"ask no more": func(t *rapid.T) {
				n := which(t)
				known[n] = true
				run(`service z/s%d addresses=""`, n)
			},
			"delete": func(t *rapid.T) {
				n := which(t)
				if !known[n] {
					t.Skip()
				}
				delete(known, n)
				run("delete service z/s%d", n)
			},
			"pool": func(t *rapid.T) {
				line := word(t, plainPools...)
				if name, gone := strings.CutPrefix(line, "delete pool "); gone && !w.Has("pool", name) {
					t.Skip()
				}
				run("%s", line)
			},
			"act": func(t *rapid.T) {
				snap := snapshotOf(t, w)
				plan := allocator.Decide(snap, w.Options())
				want := dumb(snap)
				for _, o := range plan.Services {
					if got := cmp.Or(netip.Addr{}, append(o.Addrs, netip.Addr{})[0]); got != want[o.Ref] {
						t.Fatalf("%s gets %s, the dumb allocator says %s\n%s", o.Ref, got, want[o.Ref], plan)
					}
				}
				w.Apply(plan)
			},
		})
	})
}

// wished are addresses that Services ask for: few, so that they get in each
// other's way.
var wished = []int{0, 1, 2, 3, 4, 16, 18, 21, 255}

// plainPools are those that the dumb allocator understands: none overlaps
// another.
var plainPools = []string{
	"pool p 192.0.2.0/29 disabled=", "pool p 192.0.2.0/31 disabled=", "pool p 192.0.2.4/30 disabled", "delete pool p",
	"pool q 192.0.2.16/30 priority=3 auto=", "pool q 192.0.2.18-192.0.2.21 priority= auto=false", "delete pool q",
	"pool r 192.0.2.255-192.0.3.2 avoidBuggyIPs", "pool r 192.0.2.254-192.0.3.2 avoidBuggyIPs=", "delete pool r",
}

// dumb allocates single IPv4 addresses without sharing.
func dumb(s *snapshot.Snapshot) map[snapshot.Ref]netip.Addr {
	d := &dumbAllocator{held: map[snapshot.Ref]netip.Addr{}, taken: map[netip.Addr]bool{}, pools: slices.Clone(s.Pools)}
	for _, a := range s.Addresses {
		if v := find(s, a.Holders[0].Ref); v != nil && v.UID == a.Holders[0].UID {
			d.take(v.Ref, a.Addr)
		}
	}
	slices.SortStableFunc(d.pools, func(a, b *snapshot.Pool) int { return cmp.Compare(a.Priority, b.Priority) })
	services := slices.Clone(s.Services)
	slices.SortFunc(services, func(a, b *snapshot.Service) int { return a.Created.Compare(b.Created) })
	for again := true; again; {
		again = slices.ContainsFunc(services, d.move)
	}
	for _, v := range services {
		if !d.held[v.Ref].IsValid() {
			d.give(v)
		}
	}
	return d.held
}

type dumbAllocator struct {
	held  map[snapshot.Ref]netip.Addr
	taken map[netip.Addr]bool
	pools []*snapshot.Pool // the first choice first
}

func (d *dumbAllocator) take(ref snapshot.Ref, a netip.Addr) {
	delete(d.taken, d.held[ref])
	d.held[ref], d.taken[a] = a, true
}

// free reports whether p may give a to somebody.
func (d *dumbAllocator) free(p *snapshot.Pool, a netip.Addr) bool {
	last := a.As4()[3]
	return !d.taken[a] && p.Ranges[0].Contains(a) && !p.Disabled && !(p.AvoidBuggyIPs && (last == 0 || last == 255))
}

func (d *dumbAllocator) anyFree(a netip.Addr) bool {
	return slices.ContainsFunc(d.pools, func(p *snapshot.Pool) bool { return d.free(p, a) })
}

// move gives v the other address that it asks for, if it can.
func (d *dumbAllocator) move(v *snapshot.Service) bool {
	has := d.held[v.Ref]
	want, err := netip.ParseAddr(v.Annotations[allocator.AnnotationAddresses])
	if err != nil || !has.IsValid() || want == has || !d.anyFree(want) {
		return false
	}
	d.take(v.Ref, want)
	return true
}

// give serves v, which holds nothing.
func (d *dumbAllocator) give(v *snapshot.Service) {
	if text := v.Annotations[allocator.AnnotationAddresses]; text != "" {
		if want := netip.MustParseAddr(text); d.anyFree(want) {
			d.take(v.Ref, want)
		}
		return
	}
	for _, p := range d.pools {
		for a := p.Ranges[0].From(); p.AutoAssign && p.Ranges[0].Contains(a); a = a.Next() {
			if d.free(p, a) {
				d.take(v.Ref, a)
				return
			}
		}
	}
}
