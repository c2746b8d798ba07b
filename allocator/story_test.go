package allocator_test

import (
	"fmt"
	"math/rand"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/allocator"
	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/internal/test/storytest"
)

// TestStories tells every file in testdata to Decide. Between two wanted Plans
// the first is applied; after each, deciding again must change nothing, and the
// order of the input must not matter.
func TestStories(t *testing.T) {
	storytest.Each(t, tell)
}

func tell(t *testing.T, s *storytest.Story) {
	w := storytest.NewWorld()
	var plan *allocator.Plan
	for _, step := range s.Steps(t) {
		if plan != nil {
			w.Apply(plan)
		}
		for _, sec := range step.Sections {
			switch sec.Kind() {
			case "cluster", "then":
				if err := w.Do(sec.Text); err != nil {
					t.Fatal(err)
				}
			case "want":
				plan = decideTwice(t, w)
				sec.Want(t, plan.String())
			case "addresses":
				sec.Want(t, lines(plan.Addresses))
			case "pools":
				sec.Want(t, lines(plan.Pools))
			case "messages":
				sec.Want(t, messages(plan))
			default:
				t.Fatalf("no section %q", sec.Name)
			}
		}
	}
}

// decideTwice decides and checks what must hold of every decision.
func decideTwice(t *testing.T, w *storytest.World) *allocator.Plan {
	t.Helper()
	snap, opt := snapshotOf(t, w), w.Options()
	before := fmt.Sprintf("%+v", deep(snap))
	plan := allocator.Decide(snap, opt)
	if after := fmt.Sprintf("%+v", deep(snap)); after != before {
		t.Errorf("Decide changed its input:\n%s\n%s", before, after)
	}
	if other := allocator.Decide(shuffled(snap, 1), opt); !reflect.DeepEqual(plan, other) {
		t.Errorf("the order of the input matters:\n%s-- shuffled --\n%s", plan, other)
	}
	for _, why := range violations(snap, opt, plan) {
		t.Error(why)
	}
	consistent(t, snap, opt, plan)
	return plan
}

// failing is a test, or one of many random ones.
type failing interface{ Fatal(args ...any) }

func snapshotOf(t failing, w *storytest.World) *snapshot.Snapshot {
	s, err := w.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// deep is a Snapshot with its pointers followed, for printing.
func deep(s *snapshot.Snapshot) []any {
	var out []any
	for _, p := range s.Pools {
		out = append(out, *p)
	}
	for _, a := range s.Addresses {
		out = append(out, *a)
	}
	for _, v := range s.Services {
		out = append(out, *v)
	}
	return out
}

// shuffled is the same Snapshot out of order.
func shuffled(s *snapshot.Snapshot, seed int64) *snapshot.Snapshot {
	r := rand.New(rand.NewSource(seed))
	out := &snapshot.Snapshot{Services: mixed(r, s.Services), Pools: mixed(r, s.Pools), Nodes: mixed(r, s.Nodes),
		Namespaces: mixed(r, s.Namespaces), ServiceCIDRs: mixed(r, s.ServiceCIDRs), NodeStates: mixed(r, s.NodeStates)}
	for _, a := range mixed(r, s.Addresses) {
		c := *a
		c.Holders = mixed(r, a.Holders)
		out.Addresses = append(out.Addresses, &c)
	}
	for _, a := range mixed(r, s.NodeAddresses) {
		c := *a
		c.Holders = mixed(r, a.Holders)
		out.NodeAddresses = append(out.NodeAddresses, &c)
	}
	return out
}

func mixed[T any](r *rand.Rand, in []T) []T {
	out := slices.Clone(in)
	r.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	return out
}

func lines[T fmt.Stringer](items []T) string {
	var b strings.Builder
	for _, it := range items {
		b.WriteString(it.String() + "\n")
	}
	return b.String()
}

func messages(p *allocator.Plan) string {
	var b strings.Builder
	for _, o := range p.Services {
		if o.Refusal != nil {
			fmt.Fprintf(&b, "%s %s\n", o.Ref, o.Refusal)
		}
		for _, w := range o.Warnings {
			fmt.Fprintf(&b, "%s warning %s\n", o.Ref, w)
		}
	}
	return b.String()
}
