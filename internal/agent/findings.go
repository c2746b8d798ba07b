package agent

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/fairlead/fairlead/announcer/l2"
	"github.com/fairlead/fairlead/api/v1alpha1"
)

// findings is what the NodeState says of them.
func findings(found []l2.Finding) []v1alpha1.AddressFinding {
	var out []v1alpha1.AddressFinding
	for _, f := range found[:min(len(found), listed)] {
		entry := v1alpha1.AddressFinding{Address: f.Addr.String(), UID: types.UID(f.UID), Conflict: f.Conflict, Claimant: f.Claimant}
		if !f.ProbedAt.IsZero() {
			entry.ProbedAt = &metav1.Time{Time: f.ProbedAt}
		}
		out = append(out, entry)
	}
	return out
}
