package ebpf

import (
	"path/filepath"
	"strings"
	"testing"
)

// TestPodCgroup: the cgroup that a kubelet made is found at and below the one that
// is given; without one it is the one that is given, but for the root.
func TestPodCgroup(t *testing.T) {
	pods := newCgroup(t)
	for dir, want := range map[string]string{filepath.Dir(pods): pods, pods: pods, pods + "/pod": pods + "/pod"} {
		if got, err := podCgroup(dir); got != want || err != nil {
			t.Errorf("%s: %q %v, want %q", dir, got, err, want)
		}
	}
	if isRoot(pods) {
		t.Error("it is taken for the root of all cgroups")
	}
	if got, err := podCgroup(t.TempDir()); err == nil || !strings.Contains(err.Error(), "no cgroup v2") {
		t.Errorf("a folder that is not a cgroup: %q %v", got, err)
	}
}

func TestIsPods(t *testing.T) {
	for name, want := range map[string]bool{
		"kubepods": true, "kubepods.slice": true, "kubelet-kubepods.slice": true, "kubepods-burstable.slice": false, "system.slice": false,
	} {
		if got := isPods(name); got != want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
