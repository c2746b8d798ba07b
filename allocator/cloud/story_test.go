package cloud

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	cloudprovider "k8s.io/cloud-provider"
	"k8s.io/cloud-provider/api"

	"github.com/fairlead/fairlead/allocator"
	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/internal/test/apitest"
	"github.com/fairlead/fairlead/internal/test/storytest"
)

// elsewhere lists the stories that this door cannot tell, and why.
var elsewhere = map[string]string{
	"24-classes":         "the service controller serves Services without a class alone",
	"lease-pool-deleted": "Services keep their status while no pool gives them anything",
}

// TestStories tells the allocator's stories to the provider, with a service
// controller that syncs every Service until nothing changes any more.
func TestStories(t *testing.T) {
	storytest.EachIn(t, "../testdata", func(t *testing.T, file string) {
		if why := elsewhere[strings.TrimSuffix(filepath.Base(file), ".txtar")]; why != "" {
			t.Skip(why)
		}
		t.Parallel()
		server := apitest.New()
		p := New(Config{Clients: server.Clients, Log: slog.New(slog.DiscardHandler)})
		server.Store = p.store
		p.items.Patience = time.Hour
		server.Start(t)
		server.Tell(t, storytest.Read(t, file), func(allocator.Options) error {
			u := upstream{API: server, lb: balancer{p}}
			for range 8 {
				if err := errors.Join(u.syncAll(t.Context()), p.keep(t.Context())); err != nil {
					return err
				}
				if server.Quiet(func() error { return errors.Join(u.syncAll(t.Context()), p.keep(t.Context())) }) == nil {
					return nil
				}
			}
			return errors.New("it does not settle")
		})
	})
}

// upstream does what the service controller of k8s.io/cloud-provider does to a
// Service in a sync.
type upstream struct {
	*apitest.API
	lb balancer
}

func (u upstream) syncAll(ctx context.Context) error {
	var errs []error
	for _, svc := range u.Services() {
		errs = append(errs, u.sync(ctx, svc))
	}
	return errors.Join(errs...)
}

func (u upstream) sync(ctx context.Context, svc *corev1.Service) error {
	marked := slices.Contains(svc.Finalizers, v1alpha1.FinalizerClassless)
	wants := svc.Spec.Type == corev1.ServiceTypeLoadBalancer && svc.Spec.LoadBalancerClass == nil
	switch {
	case marked && (svc.DeletionTimestamp != nil || !wants):
		return u.clean(ctx, svc)
	case !wants || svc.DeletionTimestamp != nil:
		return nil
	}
	if !marked {
		svc.Finalizers = append(svc.Finalizers, v1alpha1.FinalizerClassless)
		u.Put(svc)
		svc = u.again(svc)
	}
	status, err := u.lb.EnsureLoadBalancer(ctx, "kubernetes", svc, nil)
	var later *api.RetryError
	switch {
	case err == cloudprovider.ImplementedElsewhere || errors.As(err, &later): //nolint:errorlint // as the service controller compares it
		return nil
	case err != nil:
		return fmt.Errorf("%s: %w", svc.Name, err)
	case status == nil:
		return fmt.Errorf("%s: neither status nor error", svc.Name)
	}
	u.patch(svc, *status)
	return nil
}

func (u upstream) clean(ctx context.Context, svc *corev1.Service) error {
	_, exists, err := u.lb.GetLoadBalancer(ctx, "kubernetes", svc)
	if err == nil && exists {
		err = u.lb.EnsureLoadBalancerDeleted(ctx, "kubernetes", svc)
	}
	if err != nil {
		return err
	}
	svc.Finalizers = slices.DeleteFunc(svc.Finalizers, func(f string) bool { return f == v1alpha1.FinalizerClassless })
	u.Put(svc)
	u.patch(svc, corev1.LoadBalancerStatus{})
	return nil
}

// patch writes the addresses into the status, if they differ from those that the
// sync began with.
func (u upstream) patch(svc *corev1.Service, status corev1.LoadBalancerStatus) {
	if equality.Semantic.DeepEqual(svc.Status.LoadBalancer, status) {
		return
	}
	now := u.again(svc)
	now.Status.LoadBalancer = status
	u.Put(now)
}

// again is the version of svc that the server has now.
func (u upstream) again(svc *corev1.Service) *corev1.Service {
	all := u.Services()
	return all[slices.IndexFunc(all, func(s *corev1.Service) bool { return s.Namespace == svc.Namespace && s.Name == svc.Name })]
}
