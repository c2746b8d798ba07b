package stories

import (
	"context"
	"testing"

	"github.com/fairlead/fairlead/e2e/demo"
)

// web deploys the examples for the length of a story: six web servers behind
// an address of each family.
func web(t *testing.T) demo.Service {
	t.Helper()
	l := cluster(t)
	undo(t, func(ctx context.Context) error {
		// By name and label: the garbage collector takes its time after an outage.
		for _, args := range [][]string{
			{"service/web"},
			{"deployment/web", "--cascade=orphan"},
			{"replicaset", "--selector=app=web", "--cascade=orphan"},
			{"pod", "--selector=app=web"},
			{"pod/" + demo.Visitor, "--grace-period=1"},
		} {
			if _, err := l.Kubectl(ctx, append([]string{"delete", "--ignore-not-found"}, args...)...); err != nil {
				return err
			}
		}
		return nil
	})
	s, err := demo.Deploy(t.Context(), l, l.Root())
	if err != nil {
		t.Fatal(err)
	}
	settle(t, s)
	return s
}

// settle waits until every path reaches all six. CoreDNS remembers a name for
// some seconds: that of an earlier story's Service too.
func settle(t *testing.T, s demo.Service) {
	t.Helper()
	l := cluster(t)
	for _, p := range demo.Paths(l, s) {
		eventually(t, settled, p.Name, func(ctx context.Context) error {
			r, err := p.Probe(ctx, l)
			if err == nil {
				err = objection(r, demo.Replicas)
			}
			return err
		})
	}
}
