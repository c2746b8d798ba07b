package record

import (
	"slices"

	"go4.org/netipx"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"

	"github.com/fairlead/fairlead/allocator"
	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/internal/snapshot"
)

// Traces returns the Services that carry something of ours and are not ours to
// serve: deleted ones, those of another type, and those that another class or
// another --default-class has made somebody else's.
func Traces(s *snapshot.Snapshot, opt allocator.Options) []*snapshot.Service {
	var out []*snapshot.Service
	for _, svc := range s.Services {
		if allocator.Ours(svc, opt) && !svc.Deleting {
			continue
		}
		if marked(svc) || slices.Contains(svc.Finalizers, v1alpha1.FinalizerClassed) {
			out = append(out, svc)
		}
	}
	return out
}

// marked reports whether a controller of fairlead's has written svc's status.
func marked(svc *snapshot.Service) bool {
	_, marked := svc.Conditions[v1alpha1.ConditionAddressAssigned]
	return marked
}

// ForeignFinalizers returns the finalizers of obj that are not fairlead's. Version
// 0.1 had two; Kubernetes' own is one of them only on a class-less Service that
// fairlead has marked.
func ForeignFinalizers(obj *corev1.Service, svc *snapshot.Service) []string {
	return slices.DeleteFunc(slices.Clone(obj.Finalizers), func(f string) bool {
		return f == v1alpha1.FinalizerClassed || f == v1alpha1.FinalizerClassless && svc.Class == "" && marked(svc)
	})
}

// Cleared returns old without any trace of ours in its status. What another
// load balancer has written into it stays.
func Cleared(old *corev1.Service, s *snapshot.Snapshot) (svc *corev1.Service, changed bool) {
	svc = WithStatus(old)
	if svc.Spec.Type == corev1.ServiceTypeLoadBalancer {
		svc.Status.LoadBalancer.Ingress = slices.DeleteFunc(svc.Status.LoadBalancer.Ingress, func(in corev1.LoadBalancerIngress) bool {
			return ourAddress(in.IP, old, s)
		})
	} else {
		svc.Status.LoadBalancer = corev1.LoadBalancerStatus{}
	}
	ClearConditions(svc)
	return svc, !equality.Semantic.DeepEqual(old.Status, svc.Status)
}

// ourAddress reports whether fairlead put the address into svc's status: it is on
// record or in a pool, or the condition names it, which outlives both.
func ourAddress(text string, svc *corev1.Service, s *snapshot.Snapshot) bool {
	addr, ok := snapshot.ParseAddr(text)
	if !ok {
		return false
	}
	inPool := func(p *snapshot.Pool) bool {
		return slices.ContainsFunc(p.Ranges, func(r netipx.IPRange) bool { return r.Contains(addr) })
	}
	return s.Address(addr) != nil || s.NodeAddress(addr) != nil || slices.ContainsFunc(s.Pools, inPool) || Assigns(svc, text)
}

// WithStatus returns a copy of svc whose status may be changed.
func WithStatus(svc *corev1.Service) *corev1.Service {
	out := *svc
	out.Status = *svc.Status.DeepCopy()
	return &out
}
