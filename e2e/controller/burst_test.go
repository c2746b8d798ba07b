package controller_test

import (
	"context"
	"testing"
	"time"

	"github.com/fairlead/fairlead/e2e/bench"
)

// TestBurst: 1,000 Services at once, without nodes. It shows that none is
// forgotten; "make bench WHAT=assign" measures how fast it is on a machine of its own.
func TestBurst(t *testing.T) {
	c := newCluster(t)
	r := c.start(options)
	a := bench.Assign{Clients: c.Clients, Services: 1000, Writers: 32, Pool: "198.51.96.0/20", Within: 2 * time.Minute}
	a.Writes = func(context.Context) (sum float64, err error) {
		for _, n := range r.wrote() {
			sum += float64(n)
		}
		return sum, nil
	}
	got, err := a.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Log(got, r.wrote())
	if got.P99 > 50*time.Second {
		t.Error("too slow")
	}
}
