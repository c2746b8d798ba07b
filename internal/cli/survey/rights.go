package survey

import (
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/fairlead/fairlead/internal/cli/cluster"
	"github.com/fairlead/fairlead/internal/history/keep"
)

// Access is one thing that a Live reads, as RBAC names it.
type Access struct {
	Verb, Group, Resource string
	Namespace, Name       string // "": all of them
}

// Accesses lists what a Live reads while fairlead is installed in namespace.
func Accesses(namespace string) []Access {
	var out []Access
	for _, s := range sources {
		out = append(out, Access{Verb: "list", Group: s.Group, Resource: s.Resource})
	}
	return append(out,
		Access{Verb: "get", Resource: "configmaps", Namespace: systemSpace, Name: "kube-proxy"},
		Access{Verb: "get", Resource: "configmaps", Namespace: namespace, Name: keep.ConfigMap},
		Access{Verb: "get", Group: leases.Group, Resource: leases.Resource, Namespace: namespace, Name: "fairlead-controller"})
}

// Only returns the part of o that a person with the accesses has may see, where asked are
// all accesses that were checked. The rest is a gap, as if that person had read the
// cluster. The objects are shared.
func (o *Objects) Only(asked, has []Access) *Objects {
	out := &Objects{Now: o.Now, Gaps: slices.Clone(o.Gaps)}
	for _, obj := range o.All {
		if covered(obj, has) {
			out.All = append(out.All, obj)
		}
	}
	for _, a := range asked {
		if slices.Contains(has, a) {
			continue
		}
		why := unlisted(a.Resource)
		if a.Name != "" {
			why = fmt.Sprintf("you may not get %s in the namespace %s: ask for the ClusterRole fairlead-support (docs/cli.md)", a.Name, a.Namespace)
		}
		out.Gaps = append(out.Gaps, cluster.Gap{What: a.Resource, Why: why})
	}
	return out
}

// covered reports whether one of the accesses is the right to read obj. An object of a
// kind that nobody asked about is not covered.
func covered(obj runtime.Object, has []Access) bool {
	m, err := meta.Accessor(obj)
	if err != nil {
		return false
	}
	gvr, _ := meta.UnsafeGuessKindToResource(obj.GetObjectKind().GroupVersionKind())
	return slices.ContainsFunc(has, func(a Access) bool {
		return a.Group == gvr.Group && a.Resource == gvr.Resource &&
			(a.Namespace == "" || a.Namespace == m.GetNamespace()) && (a.Name == "" || a.Name == m.GetName())
	})
}

// unlisted says what the user may not list, and what to ask for.
func unlisted(resource string) string {
	return fmt.Sprintf("you may not list %s: ask for the ClusterRole fairlead-support (docs/cli.md)", resource)
}
