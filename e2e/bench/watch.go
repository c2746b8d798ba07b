package bench

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
)

// sightings is when each Service was first seen with an address.
type sightings map[string]time.Time

func (s sightings) note(svc *corev1.Service) {
	if len(svc.Status.LoadBalancer.Ingress) == 0 {
		return
	}
	if _, twice := s[svc.Name]; !twice {
		s[svc.Name] = time.Now()
	}
}

// watch begins to note addresses. What it returns waits for the last.
func (a Assign) watch(ctx context.Context) func() (sightings, error) {
	seen, done := sightings{}, make(chan error, 1)
	go func() {
		for len(seen) < a.Services {
			if err := a.follow(ctx, seen); err != nil {
				done <- fmt.Errorf("%d of %d Services served: %w", len(seen), a.Services, err)
				return
			}
		}
		done <- nil
	}()
	return func() (sightings, error) { return seen, <-done }
}

// follow lists and watches until all Services were seen or the API server hangs
// up, as it does on who reads slowly while it is busy.
func (a Assign) follow(ctx context.Context, seen sightings) error {
	services := a.Clients.Kube.CoreV1().Services(a.namespace)
	list, err := services.List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	for i := range list.Items {
		seen.note(&list.Items[i])
	}
	w, err := services.Watch(ctx, metav1.ListOptions{ResourceVersion: list.ResourceVersion})
	if err != nil {
		return err
	}
	defer w.Stop()
	for len(seen) < a.Services {
		select {
		case e, ok := <-w.ResultChan():
			if !ok || e.Type == watch.Error {
				return nil
			}
			if svc, ok := e.Object.(*corev1.Service); ok {
				seen.note(svc)
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}
