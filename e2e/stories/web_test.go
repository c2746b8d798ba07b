package stories

import (
	"context"
	"errors"
	"path/filepath"
	"sync"
	"testing"

	"github.com/fairlead/fairlead/e2e/demo"
	"github.com/fairlead/fairlead/e2e/lab"
)

// web deploys the examples for the length of a story: six web servers behind
// an address of each family.
func web(t *testing.T) demo.Service {
	t.Helper()
	l := cluster(t)
	undo(t, func(ctx context.Context) error { return removeWeb(ctx, l) })
	electable(t)
	s, err := demo.Deploy(t.Context(), l, l.Root())
	if err != nil {
		t.Fatal(err)
	}
	forgotten(t, s.ExternalIPs...)
	settle(t, s)
	return s
}

// removeWeb removes all that belongs to the examples itself: where an API server was
// away, Kubernetes' garbage collector takes a minute to look again.
func removeWeb(ctx context.Context, l *lab.Lab) error {
	for _, what := range [][]string{
		{"-f", filepath.Join(l.Root(), "examples", "web.yaml")}, {"replicasets", "-l", "app=web"}, {"pods", "-l", "app=web"},
		{"endpointslices", "-l", "kubernetes.io/service-name=web"}, {"pod", demo.Visitor},
	} {
		if _, err := l.Kubectl(ctx, append([]string{"delete", "--ignore-not-found", "--grace-period=1"}, what...)...); err != nil {
			return err
		}
	}
	return nil
}

// settle waits until every path reaches all six. CoreDNS remembers a name for
// some seconds: that of an earlier story's Service too.
func settle(t *testing.T, s demo.Service) {
	t.Helper()
	l := cluster(t)
	paths := demo.Paths(l, s)
	errs := make([]error, len(paths))
	var asked sync.WaitGroup
	for i, p := range paths {
		asked.Go(func() {
			errs[i] = lab.Until(t.Context(), settled, p.Name, func(ctx context.Context) error {
				r, err := p.Probe(ctx, l)
				if err == nil {
					err = objection(r, demo.Replicas)
				}
				return err
			})
		})
	}
	asked.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}
