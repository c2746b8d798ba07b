package snapshot

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// What Picked returns is what a walk finds, whatever changed and whether or not that was
// noted.
func TestPickedAgainstAWalk(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		picked, last := Picked{Pick: func(svc *Service) bool { return svc.Egress }}, &Snapshot{}
		for range rapid.IntRange(1, 10).Draw(t, "snapshots") {
			next := drawn(t, last)
			for i, svc := range next.Services {
				if last.Service(svc.Ref) != svc && rapid.Bool().Draw(t, "egress") {
					next.Services[i] = &Service{Ref: svc.Ref, Egress: true}
				}
			}
			if rapid.Bool().Draw(t, "noted") {
				next.Follows(last, walk(last, next))
			}
			want := slices.DeleteFunc(slices.Clone(next.Services), func(svc *Service) bool { return !svc.Egress })
			if got := picked.Of(next); !slices.Equal(got, want) {
				t.Fatalf("picked %v, want %v", got, want)
			}
			last = next
		}
	})
}

// One change of many Services is one look at the Service before it and one after it.
func TestPickedLooksAtWhatChanged(t *testing.T) {
	was := &Snapshot{}
	for i := range 1000 {
		was.Services = append(was.Services, &Service{Ref: Ref{"ns", fmt.Sprintf("s%03d", i)}})
	}
	was.Follows(nil, Changes{})
	picked := Picked{Pick: func(svc *Service) bool { return svc.Egress }}
	picked.Of(was)
	now := &Snapshot{Services: slices.Clone(was.Services)}
	now.Services[500] = &Service{Ref: was.Services[500].Ref, Egress: true}
	now.Follows(was, Changes{Services: []Ref{was.Services[500].Ref}})
	picked.looked = 0
	if got := picked.Of(now); len(got) != 1 || got[0] != now.Services[500] {
		t.Errorf("picked %v", got)
	}
	picked.Of(now)
	if picked.looked != 2 {
		t.Errorf("looked at %d Services, want 2", picked.looked)
	}
}
