package stories

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/fairlead/fairlead/e2e/bench/routed"
	"github.com/fairlead/fairlead/e2e/demo"
)

// byBGP replaces the pool of the stories by addresses that the nodes announce to the
// router, until the story is over.
func byBGP(t *testing.T, b *routed.Bench) (ips []string) {
	t.Helper()
	pool := filepath.Join(b.Lab.Root(), "examples", "pool.yaml")
	kubectl(t, "delete", "-f", pool)
	undo(t, func(ctx context.Context) error {
		_, err := b.Lab.Kubectl(ctx, "apply", "-f", pool)
		return err
	})
	undo(t, func(ctx context.Context) error {
		_, err := b.Lab.Kubectl(ctx, "delete", "pod", demo.Visitor, "--ignore-not-found", "--grace-period=1")
		return err
	})
	undo(t, b.Clean)
	ips, err := b.Deploy(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return ips
}

// A router that the nodes announce an address to shares its connections between all
// of them. One that loses power is out of the router's kernel long before the hold
// time: BFD has missed it.
func TestRouterSharesConnectionsBetweenTheNodesAndMissesALostOne(t *testing.T) {
	l := cluster(t)
	electable(t)
	quick := routed.Cases[0]
	b := &routed.Bench{Lab: l, Router: "bird", Cases: []routed.Case{quick}, Out: os.Stderr}
	for _, ip := range byBGP(t, b) {
		eventually(t, time.Minute, ip+" by every node", func(ctx context.Context) error {
			route, err := demo.Spread(ctx, l, ip)
			if err != nil {
				return err
			}
			t.Logf("connections to %s by node: %v", ip, route.Connections)
			return route.Objection(l.Nodes())
		})
	}
	results, err := b.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if limit := 10 * quick.Gone; results[0].Went > limit { // a noisy machine; make bench WHAT=bgp holds it to the limit
		t.Errorf("the route was there for %s", results[0].Went)
	}
}
