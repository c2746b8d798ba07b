package allocator_test

import (
	"cmp"
	"flag"
	"fmt"
	"math/rand"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/allocator"
	"github.com/fairlead/fairlead/allocator/story"
	"github.com/fairlead/fairlead/internal/snapshot"
)

var rounds = flag.Int("rounds", 400, "how many random stories to tell")

// TestRandomStories makes up stories and checks every step against the oracle.
// A failure prints the story as one that can be put into testdata.
func TestRandomStories(t *testing.T) {
	for seed := range int64(*rounds) {
		if !t.Run(fmt.Sprint(seed), func(t *testing.T) { randomStory(t, rand.New(rand.NewSource(seed))) }) {
			return
		}
	}
}

func randomStory(t *testing.T, r *rand.Rand) {
	w := story.NewWorld()
	var script strings.Builder
	for step := range 15 {
		name := "then"
		if step == 0 {
			name = "cluster"
		}
		fmt.Fprintf(&script, "-- %s --\n", name)
		for range 1 + r.Intn(6) {
			line := randomLine(r)
			if err := w.Do(line); err != nil && !strings.Contains(err.Error(), "no such") {
				t.Fatal(err)
			}
			script.WriteString(line + "\n")
		}
		snap := w.Snapshot()
		plan := allocator.Decide(snap, w.Opt)
		fmt.Fprintf(&script, "-- want --\n%s", plan)
		why := violations(snap, w.Opt, plan)
		if other := allocator.Decide(shuffled(snap, 7), w.Opt); other.String() != plan.String() {
			why = append(why, "the order of the input matters:\n"+other.String())
		}
		if len(why) > 0 {
			t.Fatalf("%s\n%s", script.String(), strings.Join(why, "\n"))
		}
		if r.Intn(4) > 0 { // a controller that was away sees two steps at once
			w.Apply(plan)
		}
	}
}

func pick(r *rand.Rand, of ...string) string { return of[r.Intn(len(of))] }

// randomLine returns a command about few names and few addresses, so that they
// often meet.
func randomLine(r *rand.Rand) string {
	service := pick(r, "x", "y") + "/" + pick(r, "a", "b", "c", "d", "e", "f", "g")
	switch n := r.Intn(20); {
	case n < 3:
		return "pool " + pick(r, "p", "q", "r") + " " +
			pick(r, "192.0.2.0/31", "192.0.2.0/30", "192.0.2.2-192.0.2.5", "198.51.100.254-198.51.101.1", "192.0.2.0/30,2001:db8::/127", "2001:db8::/126,198.51.100.0/31") +
			pick(r, "", "", "", " auto=false", " avoidBuggyIPs", " disabled", " namespaces=x", " priority=1", " bad=x")
	case n == 3:
		return "delete pool " + pick(r, "p", "q", "r")
	case n < 6:
		return "delete service " + service
	case n == 6:
		return "delete address " + pick(r, "192.0.2.1", "192.0.2.2", "2001:db8::1")
	case n == 7:
		return pick(r, "node n 192.0.2.3", "delete node n", "address 192.0.2.1 deleting", "recreate "+service)
	}
	return "service " + service + pick(r, "", "", " ports=tcp/80", " ports=tcp/81", " ports=tcp/80,udp/80") +
		pick(r, "", "", "", ` addresses=""`, " addresses=192.0.2.1", " addresses=192.0.2.2", " addresses=192.0.2.1,2001:db8::1", " addresses=nonsense") +
		pick(r, "", "", "", ` pool=""`, " pool=p", " pool=q") +
		pick(r, "", "", ` key=""`, " key=K", " key=L", " key=K share=x,y", ` key=K share=""`, " key=\"\x01\"") +
		pick(r, "", "", "", " policy=Prefer", " policy=Require", " policy=Single families=4", " policy=Single families=6", ` families=""`) +
		pick(r, "", "", "", "", " local selector=app=web", ` local=""`, " selector=app=db") +
		pick(r, "", "", "", "", " status=192.0.2.2", " status=203.0.113.1,2001:db8::", " status=lb.example.org") +
		pick(r, "", "", "", "", "", " type=NodePort", " type=LoadBalancer", ` deleting=""`, " deleting", " class=example.org/lb", ` class=""`)
}

// TestAgainstDumbAllocator compares Decide with an allocator that walks through
// every address, for clusters simple enough for it.
func TestAgainstDumbAllocator(t *testing.T) {
	for seed := range int64(300) {
		r := rand.New(rand.NewSource(seed))
		w := story.NewWorld()
		for i, p := range []string{"pool p 192.0.2.0/29", "pool q 192.0.2.16/30 priority=3", "pool r 192.0.2.255-192.0.3.2 avoidBuggyIPs"} {
			if i == 0 || r.Intn(2) == 0 {
				must(t, w.Do(p))
			}
		}
		for step := range 6 {
			for range 8 {
				name := fmt.Sprintf("z/s%d", r.Intn(14))
				must(t, w.Do("service "+name+pick(r, "", "", ` addresses=""`, fmt.Sprintf(" addresses=192.0.2.%d", r.Intn(22)))))
			}
			snap := w.Snapshot()
			plan := allocator.Decide(snap, w.Opt)
			want := dumb(snap)
			for _, o := range plan.Services {
				if got := cmp.Or(netip.Addr{}, append(o.Addrs, netip.Addr{})[0]); got != want[o.Ref] {
					t.Fatalf("seed %d step %d: %s gets %s, the dumb allocator says %s\n%s", seed, step, o.Ref, got, want[o.Ref], plan)
				}
			}
			w.Apply(plan)
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// dumb allocates single IPv4 addresses without sharing.
func dumb(s *snapshot.Snapshot) map[snapshot.Ref]netip.Addr {
	held, holder := map[snapshot.Ref]netip.Addr{}, map[netip.Addr]snapshot.Ref{}
	for _, a := range s.Addresses {
		held[a.Holders[0].Ref], holder[a.Addr] = a.Addr, a.Holders[0].Ref
	}
	pools := slices.Clone(s.Pools)
	slices.SortStableFunc(pools, func(a, b *snapshot.Pool) int { return cmp.Compare(a.Priority, b.Priority) })
	free := func(a netip.Addr) bool {
		_, taken := holder[a]
		for _, p := range pools {
			b := a.As4()[3]
			if !taken && len(p.Ranges) == 1 && p.Ranges[0].Contains(a) && !(p.AvoidBuggyIPs && (b == 0 || b == 255)) {
				return true
			}
		}
		return false
	}
	take := func(ref snapshot.Ref, a netip.Addr) {
		delete(holder, held[ref])
		held[ref], holder[a] = a, ref
	}
	services := slices.Clone(s.Services)
	slices.SortFunc(services, func(a, b *snapshot.Service) int { return a.Created.Compare(b.Created) })
	for again := true; again; {
		again = false
		for _, v := range services {
			want, err := netip.ParseAddr(v.Annotations[allocator.AnnotationAddresses])
			if has := held[v.Ref]; err == nil && has.IsValid() && want != has && free(want) {
				take(v.Ref, want)
				again = true
			}
		}
	}
	for _, v := range services {
		if held[v.Ref].IsValid() {
			continue
		}
		if text := v.Annotations[allocator.AnnotationAddresses]; text != "" {
			if want := netip.MustParseAddr(text); free(want) {
				take(v.Ref, want)
			}
			continue
		}
		walk(pools, free, func(a netip.Addr) { take(v.Ref, a) })
	}
	return held
}

// walk tells found of the first free address.
func walk(pools []*snapshot.Pool, free func(netip.Addr) bool, found func(netip.Addr)) {
	for _, p := range pools {
		for a := p.Ranges[0].From(); p.Ranges[0].Contains(a); a = a.Next() {
			if free(a) {
				found(a)
				return
			}
		}
	}
}
