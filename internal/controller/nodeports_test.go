package controller

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"
	toolsrecord "k8s.io/client-go/tools/record"

	"github.com/fairlead/fairlead/announcer/observe"
	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/internal/kube"
	"github.com/fairlead/fairlead/internal/snapshot"
)

// A problem becomes a condition and one Event, of any Service; it is told once,
// also by the next leader, and the condition goes with the problem.
func TestNodePortProblems(t *testing.T) {
	obj := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "web"}, Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeNodePort}}
	client := fake.NewClientset(obj)
	b := kube.NewBuilder()
	taken := snapshot.Problem{Service: web, Reason: "NodePortClaimed", Message: "node port 30080/tcp: taken"}
	var c *Controller
	pass := func(problems ...snapshot.Problem) []string {
		t.Helper()
		got, err := client.CoreV1().Services("a").Get(t.Context(), "web", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		recorder := toolsrecord.NewFakeRecorder(10)
		c = patient(&kube.Clients{Kube: client}) // a new leader
		c.Recorder = recorder
		c.Store.Written(got)
		b.Set(got)
		s := b.Snapshot()
		s.NodeStates = []*snapshot.NodeState{{Electable: snapshot.Electable{Node: "n1"}, Problems: problems}}
		c.items.Run(t.Context(), c.writer.NodePorts(s, observe.Observe(s, time.Now()), recorder))
		close(recorder.Events)
		var events []string
		for e := range recorder.Events {
			events = append(events, e)
		}
		return events
	}
	if got := pass(); got != nil {
		t.Errorf("without a problem: %v", got)
	}
	if got := strings.Join(pass(taken), ", "); got != "Warning NodePortClaimed node n1: node port 30080/tcp: taken. Next: give the Service another nodePort, or ask the cluster's administrator to stop that process" {
		t.Errorf("a problem: %s", got)
	}
	cond := meta.FindStatusCondition(c.Store.Service(web).Status.Conditions, v1alpha1.ConditionNodePorts)
	if cond == nil || cond.Status != metav1.ConditionFalse || cond.Reason != "NodePortClaimed" {
		t.Errorf("condition %+v", cond)
	}
	if got := pass(taken); got != nil {
		t.Errorf("the same problem: %v", got)
	}
	if got := pass(); got != nil {
		t.Errorf("solved: %v", got)
	}
	if left := c.Store.Service(web).Status.Conditions; len(left) != 0 {
		t.Errorf("left %+v", left)
	}
	writes := 0
	for _, a := range client.Actions() {
		if a.GetVerb() == "update" {
			writes++
		}
	}
	if writes != 2 {
		t.Errorf("%d writes, want 2", writes)
	}
}
