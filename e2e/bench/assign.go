// Package bench measures fairlead in a cluster that is there, such as the lab.
package bench

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/e2e/bench/report"
	"github.com/fairlead/fairlead/internal/kube"
)

// Assign is a burst of Services of type LoadBalancer.
type Assign struct {
	Clients  *kube.Clients
	Services int    // how many are created at once
	Writers  int    // by how many writers
	Pool     string // CIDR that they get their addresses from; nothing else may have it
	Within   time.Duration
	Writes   func(context.Context) (float64, error) // of the controllers so far; nil: by the metrics of their pods

	namespace string // of this run
}

// Assigned is what came of it. Waits are counted from the moment that the API
// server acknowledged a Service's creation until a watcher saw its address.
type Assigned struct {
	Services         int
	AllAfter         time.Duration // the last address, from the last acknowledgement on
	P50, P99         time.Duration
	WritesPerService float64 // of the controller, Events included
}

func (a Assigned) String() string {
	return fmt.Sprintf("bench-assign: n=%d all_after_s=%.2f p50_s=%.2f p99_s=%.2f api_writes_per_service=%.2f",
		a.Services, a.AllAfter.Seconds(), a.P50.Seconds(), a.P99.Seconds(), a.WritesPerService)
}

// Lines returns the burst as a line.
func (a Assigned) Lines() *report.Lines {
	out := &report.Lines{}
	out.Add(fmt.Sprintf("Assign/services=%d", a.Services), a.Services, report.Time(a.AllAfter, "all-sec"),
		report.Time(a.P50, "p50-sec"), report.Time(a.P99, "p99-sec"), report.Of(a.WritesPerService, "writes/op"))
	return out
}

const (
	name      = "bench-assign"
	fairleads = "fairlead-system"
)

// Run measures once, and removes what it made.
func (a Assign) Run(ctx context.Context) (out Assigned, err error) {
	defer func() { err = errors.Join(err, a.remove(context.WithoutCancel(ctx))) }()
	if a.Writes == nil {
		a.Writes = func(ctx context.Context) (float64, error) { return controllerWrites(ctx, a.Clients.Kube, fairleads) }
	}
	if err := a.prepare(ctx); err != nil {
		return out, err
	}
	before, err := a.Writes(ctx)
	if err != nil {
		return out, err
	}
	ctx, cancel := context.WithTimeout(ctx, a.Within)
	defer cancel()
	seen := a.watch(ctx)
	created, err := a.create(ctx)
	if err != nil {
		return out, err
	}
	served, err := seen()
	if err != nil {
		return out, err
	}
	out = a.reckon(created, served)
	after, err := a.quiet(ctx)
	out.WritesPerService = float64(after-before) / float64(a.Services)
	return out, err
}

// prepare makes the pool and the namespace, and waits until the pool is ready.
func (a *Assign) prepare(ctx context.Context) error {
	ns, err := a.Clients.Kube.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: name + "-"}}, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	a.namespace = ns.Name
	no := false
	pool := &v1alpha1.AddressPool{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: v1alpha1.AddressPoolSpec{Addresses: []string{a.Pool}, AutoAssign: &no}}
	if _, err := a.Clients.Pools.Create(ctx, pool, metav1.CreateOptions{}); err != nil {
		return err
	}
	return poll(ctx, time.Minute, "pool", func() error {
		p, err := a.Clients.Pools.Get(ctx, name, metav1.GetOptions{})
		if err == nil && p.Status.IPv4.Free < int64(a.Services) {
			err = fmt.Errorf("%d free addresses", p.Status.IPv4.Free)
		}
		return err
	})
}

// create makes all Services and tells when each was acknowledged.
func (a Assign) create(ctx context.Context) (sightings, error) {
	created := make(sightings, a.Services)
	var mu sync.Mutex
	var first error
	var wg sync.WaitGroup
	for w := range a.Writers {
		wg.Go(func() {
			for i := w; i < a.Services; i += a.Writers {
				svc := service(i)
				_, err := a.Clients.Kube.CoreV1().Services(a.namespace).Create(ctx, svc, metav1.CreateOptions{})
				mu.Lock()
				created[svc.Name] = time.Now()
				first = cmp.Or(first, err)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return created, first
}

func service(i int) *corev1.Service {
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("s%04d", i), Annotations: map[string]string{v1alpha1.AnnotationPool: name}},
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeLoadBalancer, Selector: map[string]string{"app": name}, Ports: []corev1.ServicePort{{Port: 80}},
		},
	}
}

// reckon makes the result of when each Service was acknowledged and served.
func (a Assign) reckon(created, served sightings) Assigned {
	out := Assigned{Services: a.Services}
	var last time.Time
	for _, t := range created {
		if t.After(last) {
			last = t
		}
	}
	var waits []time.Duration
	for name, t := range served {
		waits = append(waits, max(0, t.Sub(created[name])))
		out.AllAfter = max(out.AllAfter, t.Sub(last))
	}
	slices.Sort(waits)
	out.P50, out.P99 = waits[len(waits)/2], waits[(len(waits)*99-1)/100]
	return out
}

// remove deletes what prepare and create made.
func (a Assign) remove(ctx context.Context) error {
	services := a.Clients.Kube.CoreV1().Services(a.namespace)
	if a.namespace == "" {
		return nil
	}
	if err := a.Clients.Kube.CoreV1().RESTClient().Delete().Namespace(a.namespace).Resource("services").Do(ctx).Error(); err != nil {
		return err
	}
	err := poll(ctx, 2*time.Minute, "end of the Services", func() error {
		list, err := services.List(ctx, metav1.ListOptions{Limit: 1})
		if err == nil && len(list.Items) > 0 {
			err = errors.New("there are some")
		}
		return err
	})
	return errors.Join(err, a.Clients.Pools.Delete(ctx, name, metav1.DeleteOptions{}),
		a.Clients.Kube.CoreV1().Namespaces().Delete(ctx, a.namespace, metav1.DeleteOptions{}))
}

// poll asks check until it has no objection.
func poll(ctx context.Context, limit time.Duration, what string, check func() error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	for {
		err := check()
		if err == nil {
			return nil
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w: %w", what, ctx.Err(), err)
		}
	}
}
