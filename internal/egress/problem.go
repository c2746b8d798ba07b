package egress

import "github.com/fairlead/fairlead/internal/snapshot"

// The reasons of the Problems of Services that ask for egress.
const (
	// EgressHeld: connections of pods to destinations outside are dropped.
	EgressHeld snapshot.Reason = "EgressHeld"
	// EgressLeftOut: connections of some pods have another source.
	EgressLeftOut snapshot.Reason = "EgressLeftOut"
)

// said is what a node has to say of one Service.
type said struct {
	held   bool         // connections of pods of this node are
	why    string       // the way is to be held
	host   bool         // an endpoint of this node is the node itself
	shared snapshot.Ref // an older Service that has a pod of this node too
}

func (s said) problems(svc snapshot.Ref) (out []snapshot.Problem) {
	if s.held {
		out = append(out, snapshot.Problem{Service: svc, Reason: EgressHeld, Message: "connections of its pods to destinations outside of the cluster wait: " + s.why +
			". Next: see who announces it: kubectl get addresses; without the annotation " + snapshot.AnnotationEgress + " they leave with another source"})
	}
	if s.host {
		out = append(out, snapshot.Problem{Service: svc, Reason: EgressLeftOut, Message: "pods in the node's network leave with the node's address, not with the Service's. " +
			"Next: run them without hostNetwork"})
	}
	if s.shared != (snapshot.Ref{}) {
		out = append(out, snapshot.Problem{Service: svc, Reason: EgressLeftOut, Message: "pods that the older Service " + s.shared.String() + " has too leave with that one's address. " +
			"Next: take the annotation " + snapshot.AnnotationEgress + " off one of the two"})
	}
	return out
}
