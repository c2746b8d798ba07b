package record

import (
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead/fairlead/api/v1alpha1"
)

// TestTurned: the Event says which prefix a pool follows now, and until when Services keep
// the addresses of the one before.
func TestTurned(t *testing.T) {
	until := metav1.NewTime(time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC))
	first := v1alpha1.PoolPrefix{Prefix: "2001:db8:1::/64", State: "Current"}
	leaving := v1alpha1.PoolPrefix{Prefix: "2001:db8:1::/64", State: "Leaving", Until: &until}
	second := v1alpha1.PoolPrefix{Prefix: "2001:db8:2::/64", State: "Current"}
	list := func(ps ...v1alpha1.PoolPrefix) []v1alpha1.PoolPrefix { return ps }
	for _, c := range []struct {
		old, now []v1alpha1.PoolPrefix
		want     string
	}{
		{nil, nil, ""},
		{nil, list(first), "gives addresses of 2001:db8:1::/64 from now on"},
		{list(first), list(first), ""},
		{list(first), list(leaving, second), "gives addresses of 2001:db8:2::/64 from now on, instead of 2001:db8:1::/64. Services keep their addresses of the former one until 2026-01-01T12:00:00Z"},
		{list(leaving, second), list(second), ""},
		{list(first), nil, ""},
	} {
		if got := turned(c.old, c.now); got != c.want {
			t.Errorf("%v, then %v: got %q, want %q", c.old, c.now, got, c.want)
		}
	}
}
