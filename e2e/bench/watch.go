package bench

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// watch begins to note when each Service is seen with an address. What it
// returns waits until n of them were.
func (a Assign) watch(ctx context.Context) (func(n int) (map[string]time.Time, error), error) {
	w, err := a.Clients.Kube.CoreV1().Services(name).Watch(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	return func(n int) (map[string]time.Time, error) {
		defer w.Stop()
		served := make(map[string]time.Time, n)
		for len(served) < n {
			select {
			case e, ok := <-w.ResultChan():
				if !ok {
					return nil, fmt.Errorf("the watch ended with %d of %d Services served", len(served), n)
				}
				svc, ok := e.Object.(*corev1.Service)
				if !ok || len(svc.Status.LoadBalancer.Ingress) == 0 {
					continue
				}
				if _, twice := served[svc.Name]; !twice {
					served[svc.Name] = time.Now()
				}
			case <-ctx.Done():
				return nil, fmt.Errorf("%d of %d Services served: %w", len(served), n, ctx.Err())
			}
		}
		return served, nil
	}, nil
}
