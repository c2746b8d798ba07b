package stories

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/fairlead/fairlead/e2e/demo"
)

// web deploys the examples for the length of a story: six web servers behind
// an address of each family.
func web(t *testing.T) demo.Service {
	t.Helper()
	l := cluster(t)
	undo(t, func(ctx context.Context) error {
		_, err := l.Kubectl(ctx, "delete", "-f", filepath.Join(l.Root(), "examples", "web.yaml"), "--ignore-not-found", "--cascade=foreground")
		if err != nil {
			return err
		}
		_, err = l.Kubectl(ctx, "delete", "pod", demo.Visitor, "--ignore-not-found", "--grace-period=1")
		return err
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
