package lab

import (
	"reflect"
	"testing"
)

func TestParsePods(t *testing.T) {
	got, err := parsePods([]byte(`{"items":[
		{"metadata":{"namespace":"default","name":"a"},"spec":{"nodeName":"node1"},
		 "status":{"podIPs":[{"ip":"192.0.2.1"},{"ip":"2001:db8::1"}],"containerStatuses":[{"containerID":"containerd://abc","ready":true}]}},
		{"metadata":{"namespace":"default","name":"gone","deletionTimestamp":"2026-01-01T00:00:00Z"}},
		{"metadata":{"namespace":"default","name":"new"}}]}`))
	want := []Pod{
		{Namespace: "default", Name: "a", Node: "node1", IPs: []string{"192.0.2.1", "2001:db8::1"}, Ready: true, Container: "abc"},
		{Namespace: "default", Name: "new"},
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("pods = %+v, %v", got, err)
	}
}

func TestTaskPID(t *testing.T) {
	list := "TASK   PID   STATUS\nabc    218   RUNNING\ndef    0     STOPPED\n"
	if got, err := taskPID(list, "abc"); got != "218" || err != nil {
		t.Errorf("pid = %q, %v", got, err)
	}
	for _, container := range []string{"", "def", "xyz"} {
		if got, err := taskPID(list, container); err == nil {
			t.Errorf("pid of %q = %q", container, got)
		}
	}
}

// The port of a bridge is found, and not the bridge that the route to the pod names.
func TestOtherEndOfAPodsLink(t *testing.T) {
	const node = `[{"ifindex":1,"ifname":"lo"},{"ifindex":3,"ifname":"cni0"},
		{"ifindex":5,"link_index":2,"ifname":"veth1","master":"cni0"},{"ifindex":7,"link_index":2,"ifname":"veth2","master":"cni0"}]`
	if got, err := otherEnd([]byte(`[{"ifindex":2,"link_index":7,"ifname":"eth0"}]`), []byte(node)); got != "veth2" || err != nil {
		t.Errorf("link %q, %v", got, err)
	}
	for _, pod := range []string{``, `[]`, `[{"ifindex":2,"link_index":9,"ifname":"eth0"}]`} {
		if got, err := otherEnd([]byte(pod), []byte(node)); err == nil {
			t.Errorf("%s: link %q", pod, got)
		}
	}
}
