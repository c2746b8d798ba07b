package agent

import (
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// The time of the condition is that of the last change between right and wrong.
func TestSysctlCondition(t *testing.T) {
	var s sysctls
	if got := s.condition(); got != nil {
		t.Errorf("before the first look: %+v", got)
	}
	start := time.Unix(1000, 0)
	step := func(after time.Duration, wrong []string, news bool, status metav1.ConditionStatus, since time.Duration) {
		t.Helper()
		if got := s.found(wrong, start.Add(after)); got != news {
			t.Errorf("after %s: news is %v", after, got)
		}
		if c := s.condition()[0]; c.Status != status || !c.LastTransitionTime.Time.Equal(start.Add(since)) {
			t.Errorf("after %s: %s since %s", after, c.Status, c.LastTransitionTime)
		}
	}
	step(0, nil, true, metav1.ConditionTrue, 0)
	step(time.Second, nil, false, metav1.ConditionTrue, 0)
	step(2*time.Second, []string{"a is 0"}, true, metav1.ConditionFalse, 2*time.Second)
	step(3*time.Second, []string{"a is 0", "b is 0"}, true, metav1.ConditionFalse, 2*time.Second)
	step(4*time.Second, nil, true, metav1.ConditionTrue, 4*time.Second)
}
