package agent

import (
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead/fairlead/api/v1alpha1"
)

// Since when an address is announced is kept as long as it stays on its link; what
// is known already is not overwritten.
func TestAnnouncedSince(t *testing.T) {
	at := func(sec int64) *metav1.Time { return &metav1.Time{Time: time.Unix(sec, 0)} }
	now := []v1alpha1.AnnouncedAddress{{Address: "a", Link: "eth0"}, {Address: "b", Link: "eth0"}, {Address: "c", Link: "eth1"}, {Address: "d", Since: at(4)}}
	announcedSince(now, []v1alpha1.AnnouncedAddress{{Address: "a", Link: "eth0", Since: at(1)}, {Address: "c", Link: "eth0", Since: at(2)}, {Address: "d", Since: at(3)}})
	for i, want := range []*metav1.Time{at(1), nil, nil, at(4)} {
		if got := now[i].Since; (got == nil) != (want == nil) || got != nil && !got.Equal(want) {
			t.Errorf("%s since %v, want %v", now[i].Address, got, want)
		}
	}
}
