package nodestate

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead/fairlead/announcer"
	"github.com/fairlead/fairlead/announcer/bgp"
	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/internal/snapshot"
)

// A Describer, which remembers, describes what Known.Describe does, whatever changes from
// one time to the next. Lists that did not change stay the same list.
func TestDescriberMemoryDoesNotShow(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	var d Describer
	k := Known{View: view("n0")}
	for step := range 2000 {
		switch r.IntN(9) {
		case 0:
			k.Held = some(r, func(a netip.Addr) announcer.Claim { return announcer.Claim{Addr: a, Link: "eth0"} })
		case 1:
			k.State.Elected = some(r, vip)
		case 2:
			k.State.Leaving = some(r, vip)
		case 3:
			k.State.Routed = some(r, func(a netip.Addr) bgp.VIP {
				return bgp.VIP{Addr: a, Peers: []string{"spine", "tor"}, Services: []snapshot.Ref{{Namespace: "shop", Name: fmt.Sprint(r.IntN(3))}}}
			})
		case 4:
			k.State.Refused = some(r, func(a netip.Addr) announcer.Refused {
				return announcer.Refused{Addr: a, Owner: []string{"", "n0", "n1"}[r.IntN(3)], Refusal: snapshot.Refusal{Reason: []snapshot.Reason{announcer.NotOwner, announcer.NoEndpoint}[r.IntN(2)]}}
			})
		case 5:
			k.Up = map[string]bool{"spine": r.IntN(2) == 0, "tor": r.IntN(2) == 0}
		case 6:
			k.Links = []snapshot.Link{{Name: "eth0", MAC: fmt.Sprint(r.IntN(3))}}
		case 7:
			k.View.Members = nil
			for i := range 12 {
				k.View.Members = append(k.View.Members, announcer.Member{Node: fmt.Sprint("n", i), Verdict: announcer.Verdicts[r.IntN(len(announcer.Verdicts))]})
			}
		case 8:
			k.Endpoints++
		}
		now := time.Unix(int64(step), 0)
		if got, want := d.Describe(k, now), k.Describe(now); !reflect.DeepEqual(got, want) {
			t.Fatalf("step %d: got %+v, want %+v", step, got, want)
		}
	}
}

// some makes something of each of some addresses, nil of none.
func some[T any](r *rand.Rand, of func(netip.Addr) T) (out []T) {
	for _, a := range vips {
		if r.IntN(2) == 0 {
			out = append(out, of(a))
		}
	}
	return out
}

func vip(a netip.Addr) announcer.VIP {
	return announcer.VIP{Addr: a, Services: []snapshot.Ref{{Namespace: "shop", Name: a.String()}}}
}

// A Writer, which remembers, writes what one does that knows nothing but what was written.
func TestWriterMemoryDoesNotShow(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	server := &api{}
	w := Writer{Client: server, Node: "n1"}
	var list []snapshot.Announced
	now := time.Unix(1_000_000, 0)
	since := map[netip.Addr]time.Time{}
	for step := range 500 {
		now = now.Add(time.Duration(r.IntN(3)) * time.Minute)
		if r.IntN(2) == 0 {
			list = some(r, func(a netip.Addr) snapshot.Announced {
				return snapshot.Announced{Addr: a, Link: "eth0", MAC: fmt.Sprint(r.IntN(2)), Service: "shop/web"}
			})
		}
		st := snapshot.NodeState{Electable: snapshot.Electable{Node: "n1", InSync: true}, Engine: snapshot.Engine{Endpoints: r.IntN(3)}, Announces: list}
		writes := server.writes
		if _, err := w.writeAt(t.Context(), st, nil, []string{"n1"}, now); err != nil {
			t.Fatal(err)
		}
		var held []netip.Addr
		for _, a := range list {
			held = append(held, a.Addr)
			if server.writes > writes && since[a.Addr].IsZero() {
				since[a.Addr] = now
			}
			if !a.Since.IsZero() {
				t.Fatal("the list that it was given has changed")
			}
		}
		if server.writes > writes {
			for a := range since {
				if !slices.Contains(held, a) {
					delete(since, a)
				}
			}
		}
		if len(server.obj.Status.Announces) != len(list) {
			t.Fatalf("step %d: it has %d addresses, want %d", step, len(server.obj.Status.Announces), len(list))
		}
		for i, a := range server.obj.Status.Announces {
			if want := list[i]; a.Address != want.Addr.String() || a.MAC != want.MAC || !a.Since.Time.Equal(since[want.Addr]) {
				t.Fatalf("step %d: got %+v, want %+v since %s", step, a, want, since[want.Addr])
			}
		}
	}
}

// A pod that comes or goes costs a node that announces a thousand addresses what it costs
// one that announces ten.
func TestDescribingAPodCostsNoMoreWithManyAddresses(t *testing.T) {
	cost := map[int]float64{}
	for _, n := range []int{10, 1000} {
		k, w, d := Known{View: view("n1", announcer.Member{Node: "n1"}), Links: []snapshot.Link{{Name: "eth0"}}}, Writer{Client: quiet{}, Node: "n1"}, Describer{}
		for i := range n {
			a := netip.AddrFrom4([4]byte{198, 18, byte(i >> 8), byte(i)})
			k.Held, k.State.Elected = append(k.Held, announcer.Claim{Addr: a, Link: "eth0"}), append(k.State.Elected, vip(a))
		}
		now := time.Unix(1_000_000, 0)
		pod := func() {
			k.Endpoints++
			now = now.Add(time.Millisecond)
			if _, err := w.writeAt(context.Background(), d.Describe(k, now), nil, []string{"n1"}, now); err != nil {
				t.Fatal(err)
			}
		}
		pod() // the first one writes
		cost[n] = testing.AllocsPerRun(100, pod)
	}
	if cost[1000] > cost[10]+5 {
		t.Errorf("%v allocations with 10 addresses, %v with 1000", cost[10], cost[1000])
	}
}

// quiet is an API server that takes everything.
type quiet struct{ Client }

func (quiet) Get(context.Context, string, metav1.GetOptions) (*v1alpha1.NodeState, error) {
	return &v1alpha1.NodeState{}, nil
}

func (quiet) UpdateStatus(_ context.Context, obj *v1alpha1.NodeState, _ metav1.UpdateOptions) (*v1alpha1.NodeState, error) {
	return obj, nil
}
