package agent

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// A node whose Node object is deleted keeps forwarding: its node ports, and what is
// known of its pods, stay as they were.
func TestNodeObjectIsDeleted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, d := lived(t)
		d.do(t, a, "node a ips=198.51.100.1 pods=10.1.1.0/24\n"+twoVIPs("web", 10))
		d.read(10 * time.Second)
		d.mu.Lock()
		was := d.table
		d.mu.Unlock()
		d.do(t, a, "delete node a\n"+twoVIPs("two", 20))
		d.read(10 * time.Second)
		d.mu.Lock()
		defer d.mu.Unlock()
		if len(d.table.Frontends) <= len(was.Frontends) {
			t.Fatal("the engine holds the table of before")
		}
		if !slices.Equal(d.table.NodePortAddrs, was.NodePortAddrs) || len(was.NodePortAddrs) == 0 {
			t.Errorf("node ports answer on %v, want %v", d.table.NodePortAddrs, was.NodePortAddrs)
		}
		if !slices.Equal(d.table.LocalPods, was.LocalPods) || len(was.LocalPods) == 0 {
			t.Errorf("the local pods are %v, want %v", d.table.LocalPods, was.LocalPods)
		}
	})
}
