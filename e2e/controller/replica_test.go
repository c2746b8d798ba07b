package controller_test

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/fairlead/fairlead/allocator"
	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/internal/controller"
	"github.com/fairlead/fairlead/internal/kube"
)

// replica is a running controller that elects nobody.
type replica struct {
	c       *cluster
	reg     *prometheus.Registry
	cancel  context.CancelFunc
	stopped chan error
	mu      sync.Mutex
	writes  map[string]int // by "verb resource"
}

// options are those of the chart.
var options = allocator.Options{Class: v1alpha1.LoadBalancerClass, DefaultClass: true}

// start runs a controller until stop, or the end of the test.
func (c *cluster) start(opt allocator.Options) *replica {
	c.Helper()
	r := &replica{c: c, reg: prometheus.NewRegistry(), stopped: make(chan error, 1), writes: map[string]int{}}
	clients, err := kube.Connect(kube.Access{Kubeconfig: server.Kubeconfig, UserAgent: "fairlead-controller", Written: r.written})
	c.must(err)
	var ctx context.Context
	ctx, r.cancel = context.WithCancel(context.Background())
	ctl := controller.New(controller.Config{
		Clients: clients, Options: opt, Log: slog.New(slog.NewTextHandler(c.Output(), nil)), Metrics: r.reg, Identity: "test",
	})
	go func() { r.stopped <- ctl.Run(ctx) }()
	c.Cleanup(r.stop)
	return r
}

func (r *replica) written(verb, resource string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.writes[verb+" "+resource]++
}

// stop ends the controller and waits until it is gone.
func (r *replica) stop() {
	r.cancel()
	if err := <-r.stopped; err != nil {
		r.c.Error(err)
	}
	r.stopped <- nil
}

// wrote returns what has been written so far.
func (r *replica) wrote() map[string]int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.writes)
}

// settled waits until the controller has acted on everything that is there now.
// Every decision comes after the end of all that the one before brought, so two
// more decisions, each after a poke, are enough.
func (r *replica) settled() {
	r.c.Helper()
	for range 2 {
		before := r.decisions()
		r.c.poke()
		r.c.eventually("another decision", func() error {
			if r.decisions() == before {
				return fmt.Errorf("%d so far", before)
			}
			return nil
		})
	}
}

func (r *replica) decisions() uint64 {
	families, err := r.reg.Gather()
	r.c.must(err)
	for _, f := range families {
		if f.GetName() == "fairlead_controller_decide_duration_seconds" {
			return f.GetMetric()[0].GetHistogram().GetSampleCount()
		}
	}
	return 0
}

var pokes int

// poke changes something that a controller sees and that changes nothing.
func (c *cluster) poke() {
	c.Helper()
	pokes++
	patch := fmt.Sprintf(`{"metadata":{"labels":{"test/poke":"%d"}}}`, pokes)
	_, err := c.Kube.CoreV1().Namespaces().Patch(c.Context(), "default", types.MergePatchType, []byte(patch), metav1.PatchOptions{})
	c.must(err)
}
