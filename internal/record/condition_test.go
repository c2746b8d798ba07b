package record_test

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead/fairlead/allocator"
	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/internal/record"
	"github.com/fairlead/fairlead/internal/snapshot"
)

var (
	byN1   = snapshot.Condition{Status: "True", Reason: "Announced", Message: "192.0.2.1 by n1"}
	byN2   = snapshot.Condition{Status: "True", Reason: "Announced", Message: "192.0.2.1 by n2"}
	nobody = snapshot.Condition{Status: "False", Reason: "NotAnnounced", Message: "no node announces 192.0.2.1"}
	given  = allocator.Outcome{Addrs: []netip.Addr{netip.MustParseAddr("192.0.2.1")}, Pool: "lan"}
)

func at(second int64) time.Time { return time.Unix(1_000_000+second, 0).UTC() }

// announced is svc's condition Announced, as "MESSAGE@SECOND".
func announced(svc *corev1.Service) string {
	c := meta.FindStatusCondition(svc.Status.Conditions, v1alpha1.ConditionAnnounced)
	if c == nil {
		return ""
	}
	return c.Message + "@" + c.LastTransitionTime.Sub(at(0)).String()
}

// The condition's time is since when its message has been true; of one that is False,
// since when nobody has announced the address, whatever the reason is by now.
func TestAnnouncedSince(t *testing.T) {
	svc := &corev1.Service{}
	why := nobody
	why.Message += " (n1 is NotReady)"
	for _, step := range []struct {
		second int64
		c      snapshot.Condition
		o      allocator.Outcome
		want   string
	}{
		{0, nobody, given, "no node announces 192.0.2.1@0s"},
		{1, why, given, "no node announces 192.0.2.1 (n1 is NotReady)@0s"},
		{2, byN1, given, "192.0.2.1 by n1@2s"},
		{3, byN1, given, "192.0.2.1 by n1@2s"},
		{4, byN2, given, "192.0.2.1 by n2@4s"},
		{5, nobody, given, "no node announces 192.0.2.1@5s"},
		{6, nobody, allocator.Outcome{Refusal: &snapshot.Refusal{Reason: allocator.PoolExhausted}}, ""},
		{7, byN2, given, "192.0.2.1 by n2@7s"},
	} {
		record.SetConditions(svc, step.o, step.c, at(step.second))
		if got := announced(svc); got != step.want {
			t.Errorf("at %d: %s, want %s", step.second, got, step.want)
		}
	}
}

// set010 writes the condition Announced as version 0.1.0 did.
func set010(svc *corev1.Service, c snapshot.Condition, now time.Time) {
	message := c.Message
	if c.Status == "True" {
		message += " since " + now.UTC().Format(time.RFC3339)
		if was := meta.FindStatusCondition(svc.Status.Conditions, v1alpha1.ConditionAnnounced); was != nil {
			if i := strings.LastIndex(was.Message, " since "); i >= 0 && was.Message[:i] == c.Message {
				message = was.Message
			}
		}
	}
	meta.SetStatusCondition(&svc.Status.Conditions, metav1.Condition{
		Type: v1alpha1.ConditionAnnounced, Status: metav1.ConditionStatus(c.Status), Reason: c.Reason, Message: message, LastTransitionTime: metav1.NewTime(now),
	})
}

// After an upgrade from 0.1.0, which had the time in the message, the time is in its
// field and is the same. After a rollback 0.1.0 writes its own, and the next upgrade
// takes that.
func TestAnnouncedSinceAcrossVersions(t *testing.T) {
	svc := &corev1.Service{}
	set010(svc, byN1, at(0))
	set010(svc, byN2, at(5)) // the status did not change: the field still says 0
	if got := announced(svc); got != "192.0.2.1 by n2 since 1970-01-12T13:46:45Z@0s" {
		t.Fatalf("0.1.0 wrote %s", got)
	}
	if c := record.AnnouncedOf(svc); c.Message != byN2.Message || !c.LastTransitionTime.Time.Equal(at(5)) {
		t.Errorf("it is read as %q of %s", c.Message, c.LastTransitionTime)
	}
	record.SetConditions(svc, given, byN2, at(9))
	if got := announced(svc); got != "192.0.2.1 by n2@5s" {
		t.Errorf("upgraded: %s", got)
	}
	set010(svc, byN2, at(20))
	set010(svc, byN2, at(21))
	if got := announced(svc); got != "192.0.2.1 by n2 since 1970-01-12T13:47:00Z@5s" {
		t.Errorf("rolled back: %s", got)
	}
	record.SetConditions(svc, given, byN2, at(30))
	if got := announced(svc); got != "192.0.2.1 by n2@20s" {
		t.Errorf("upgraded again: %s", got)
	}
	set010(svc, nobody, at(31))
	record.SetConditions(svc, given, nobody, at(32))
	if got := announced(svc); got != "no node announces 192.0.2.1@31s" {
		t.Errorf("upgraded while nobody announces it: %s", got)
	}
	for _, message := range []string{"by the node since yesterday", " since ", ""} {
		c := nobody
		c.Message = message
		set010(svc, c, at(33))
		if got := record.AnnouncedOf(svc); got.Message != message {
			t.Errorf("%q is read as %q", message, got.Message)
		}
	}
}
