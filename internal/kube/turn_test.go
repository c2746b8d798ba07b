package kube

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/fairlead/fairlead/internal/snapshot"
)

// A tenant has many Services that all change before each look. A Service of another
// tenant is taken in with the next Snapshot all the same, and each Snapshot is bounded.
// Every Service of the tenant has its turn, and at the end all are as they are.
func TestTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const many, pods, ports = 300, 4, 400
		b := NewBuilder()
		b.Pace()
		change := func(namespace, name string, round int) {
			svc, parts := wide(name, 1, 1, pods, func(n int) bool { return n == round%pods })
			svc.Namespace, parts[0].Namespace = namespace, namespace
			if round == 0 {
				for i := range ports { // they make it costly, and not slow to test
					svc.Spec.Ports = append(svc.Spec.Ports, corev1.ServicePort{Name: fmt.Sprint("q", i), Port: int32(1000 + i)})
				}
				b.Set(svc)
			}
			parts[0].ResourceVersion = fmt.Sprint(round + 1)
			b.Set(parts[0])
		}
		flap := func(round int) {
			for i := range many {
				change("tenant", fmt.Sprint("s", i), round)
			}
			change("other", "web", round)
		}
		flap(0)
		last := b.Snapshot() // the first has everything
		if n := len(last.Services); n != many+1 {
			t.Fatalf("the first Snapshot has %d Services", n)
		}
		turns := map[snapshot.Ref]int{}
		look := func() (n int) {
			now := b.Snapshot()
			for _, svc := range now.Services {
				if last.Service(svc.Ref) != svc {
					turns[svc.Ref]++
					n++
				}
			}
			last = now
			return n
		}
		const rounds = 9
		most := 0
		for round := 1; round <= rounds; round++ {
			flap(round)
			most = max(most, look())
		}
		if n := turns[snapshot.Ref{Namespace: "other", Name: "web"}]; n != rounds {
			t.Errorf("the other Service was taken in %d times of %d", n, rounds)
		}
		if most > perTurn/ports {
			t.Errorf("one Snapshot took %d Services in", most)
		}
		if len(turns) != many+1 {
			t.Errorf("%d of %d Services had their turn", len(turns), many+1)
		}
		for at := b.Resume(); !at.IsZero(); at = b.Resume() {
			time.Sleep(time.Until(at))
			look()
		}
		for _, svc := range last.Services {
			if ep := svc.Endpoints[rounds%pods]; ep.Ready {
				t.Fatalf("in the end %s has %v", svc.Ref, ep)
			}
		}
	})
}
