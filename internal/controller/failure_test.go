package controller

import (
	"context"
	"errors"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	toolsrecord "k8s.io/client-go/tools/record"

	"github.com/fairlead/fairlead/allocator"
	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/internal/kube"
	"github.com/fairlead/fairlead/internal/test/apitest"
	"github.com/fairlead/fairlead/internal/test/storytest"
)

// faulty refuses to make records while broken.
type faulty struct {
	kube.Objects[*v1alpha1.Address, *v1alpha1.AddressList]
	broken bool
}

func (f *faulty) Create(ctx context.Context, a *v1alpha1.Address, opt metav1.CreateOptions) (*v1alpha1.Address, error) {
	if f.broken {
		return nil, errors.New("etcd is full")
	}
	return f.Objects.Create(ctx, a, opt)
}

// Item 38: what could not be done is an error, so that it is tried again, and a
// Warning; the Service gets no status before the record is there. What is
// decided not to be done is not an error and not tried again.
func TestFailureIsRetried(t *testing.T) {
	api := apitest.New()
	records := &faulty{Objects: api.Clients.Addresses, broken: true}
	api.Clients.Addresses = records
	c := patient(api.Clients)
	events := toolsrecord.NewFakeRecorder(20)
	c.Recorder, api.Store = events, c.Store
	c.items.MinRetry = time.Hour
	api.Start(t)
	story := "-- cluster --\npool lan 192.0.2.0/32\nservice a/web\nservice a/waits\n-- want --\n"
	steps := 0
	api.Tell(t, storytest.Parse([]byte(story+"assign a/web 192.0.2.0 pool=lan\nrefuse a/waits PoolExhausted\n")), func(opt allocator.Options) error {
		c.Options = opt
		steps++
		if err := c.step(t.Context()); err != nil {
			return err
		}
		if c.items.Next().IsZero() {
			t.Error("a record that could not be written is not tried again")
		}
		if got := c.Store.Service(web).Status.LoadBalancer.Ingress; len(got) > 0 {
			t.Errorf("the status says %v without a record", got)
		}
		records.broken, c.items.MinRetry = false, 0
		if err := c.step(t.Context()); err != nil {
			return err
		}
		return api.Quiet(func() error { return c.step(t.Context()) })
	})
	if steps == 0 {
		t.Fatal("nothing was told")
	}
	close(events.Events)
	told := map[string]int{}
	for e := range events.Events {
		told[e]++
	}
	for event, n := range map[string]int{
		corev1.EventTypeWarning + " SyncLoadBalancerFailed Error syncing load balancer: record of 192.0.2.0: etcd is full. Next: nothing, as it is tried again; if it stays, ask the cluster's administrator": 1,
		corev1.EventTypeNormal + " EnsuredLoadBalancer Ensured load balancer: 192.0.2.0 from pool lan":                                                                                                        1,
	} {
		if told[event] != n {
			t.Errorf("%q was told %d times, want %d: %v", event, told[event], n, told)
		}
	}
}
