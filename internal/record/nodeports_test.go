package record_test

import (
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/fairlead/fairlead/internal/record"
	"github.com/fairlead/fairlead/internal/snapshot"
)

// The condition is the memory: the same problem is news once.
func TestSetProblem(t *testing.T) {
	svc := &corev1.Service{}
	set := func(what string, c snapshot.Condition, problem, want bool) {
		t.Helper()
		if got := record.SetProblem(svc, c, problem); got != want {
			t.Errorf("%s: changed is %v", what, got)
		}
	}
	claimed := snapshot.Condition{Status: "False", Reason: "NodePortClaimed", Message: "node a: x"}
	set("nothing", snapshot.Condition{}, false, false)
	set("a problem", claimed, true, true)
	set("the same", claimed, true, false)
	claimed.Message = "node b: x"
	set("another node", claimed, true, true)
	set("solved", snapshot.Condition{}, false, true)
	if len(svc.Status.Conditions) != 0 {
		t.Errorf("left %+v", svc.Status.Conditions)
	}
}
