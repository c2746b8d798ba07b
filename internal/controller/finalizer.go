package controller

import (
	"slices"

	"github.com/fairlead/fairlead/allocator"
	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/internal/snapshot"
)

// finalizer is the one that svc gets while it holds addresses.
func finalizer(svc *snapshot.Service) string {
	if svc.Class == "" {
		return v1alpha1.FinalizerClassless
	}
	return v1alpha1.FinalizerClassed
}

// toClean returns the Services that carry our finalizer but are no longer
// ours to serve: deleted ones, and those of another type. Kubernetes' own
// finalizer is ours only on a class-less Service that we serve by default and
// that we marked.
func toClean(s *snapshot.Snapshot, opt allocator.Options) []*snapshot.Service {
	var out []*snapshot.Service
	for _, svc := range s.Services {
		if allocator.Ours(svc, opt) && !svc.Deleting {
			continue
		}
		_, marked := svc.Conditions[v1alpha1.ConditionAddressAssigned]
		own := slices.Contains(svc.Finalizers, v1alpha1.FinalizerClassed)
		common := slices.Contains(svc.Finalizers, v1alpha1.FinalizerClassless) && svc.Class == "" && opt.DefaultClass && marked
		if own || common || marked && svc.Class == "" && svc.Type != snapshot.LoadBalancer {
			out = append(out, svc)
		}
	}
	return out
}
