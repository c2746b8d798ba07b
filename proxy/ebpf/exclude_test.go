package ebpf

import (
	"testing"

	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/proxy"
)

func TestPodUID(t *testing.T) {
	for name, want := range map[string]string{
		"pod3e2f-11": "3e2f-11", "kubepods-burstable-pod3e2f_11.slice": "3e2f-11", "kubepods-pod3e2f_11.slice": "3e2f-11",
		"kubelet-kubepods-besteffort-pod3e2f_11.slice": "3e2f-11", "burstable": "", "kubepods-burstable.slice": "s-burstable",
	} {
		if got := podUID(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

// TestExclude: the sockets of a pod that opted out are left alone, the others' are
// not, and its next Engine knows it from the start.
func TestExclude(t *testing.T) {
	l, e := alone(t)
	table := &proxy.Table{Frontends: []*proxy.Frontend{front("198.18.96.1", snapshot.TCP, 80, podA4)}}
	sync(t, e, table)
	inside, other := l.program(t, "client"), l.programIn(t, "client", l.cgroup)
	inside.want(t, "map[podA:1]", "flood tcp 198.18.96.1:80 1")
	e.Exclude([]string{"", "not-here"})
	sync(t, e, table)
	if got := e.State().PodsMissing; got != 1 {
		t.Errorf("%d pods are missing, want 1", got)
	}
	excluded := func() {
		t.Helper()
		if got := inside.do(t, "flood tcp 198.18.96.1:80 1"); !fails(got) {
			t.Errorf("the excluded pod: %q", got)
		}
		other.want(t, "map[podA:1]", "flood tcp 198.18.96.1:80 1")
	}
	excluded()
	next := l.another(t)
	sync(t, next, table) // it has not been told yet
	excluded()
	next.Exclude([]string{""})
	sync(t, next, table)
	excluded()
	next.Exclude(nil)
	sync(t, next, table)
	inside.want(t, "map[podA:1]", "flood tcp 198.18.96.1:80 1")
}
