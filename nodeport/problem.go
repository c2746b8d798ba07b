package nodeport

import (
	"cmp"
	"slices"

	"github.com/fairlead/fairlead/internal/snapshot"
)

// The reasons of Problems: bounded words that are at once Event reasons,
// condition reasons and metric labels.
const (
	HealthCheckFailed snapshot.Reason = "FailedToStartServiceHealthcheck" // kube-proxy's word
	AddressOfNode     snapshot.Reason = "AddressOfNode"
	PortOccupied      snapshot.Reason = "NodePortClaimed"
	PortOfNode        snapshot.Reason = "PortOfNode" // a process of the node has the port of the node's own address
)

// SortProblems puts problems into their order and drops repetitions.
func SortProblems(problems []snapshot.Problem) []snapshot.Problem {
	slices.SortFunc(problems, func(a, b snapshot.Problem) int {
		return cmp.Or(a.Service.Compare(b.Service), cmp.Compare(a.Reason, b.Reason), cmp.Compare(a.Message, b.Message))
	})
	return slices.Compact(problems)
}
