package agent

import (
	"errors"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/proxy/ebpf"
)

type accelerator ebpf.State

func (a accelerator) State() ebpf.State { return ebpf.State(a) }
func (accelerator) Exclude([]string)    {}

func (accelerator) Remove() (int, error) { return 0, errRemoved }

var errRemoved = errors.New("it was removed")

// TestAccelerator: what the NodeState says of it.
func TestAccelerator(t *testing.T) {
	for _, c := range []struct {
		of   Accelerator
		want snapshot.Accelerator
	}{
		{nil, snapshot.Accelerator{}},
		{accelerator{Wanted: true, On: true, LeftFrontends: 3}, snapshot.Accelerator{Mode: "ebpf", LeftFrontends: 3}},
		{accelerator{Wanted: true, Reason: "no cgroup v2"}, snapshot.Accelerator{Mode: "off", Message: "no cgroup v2"}},
		{accelerator{Reason: "turned off"}, snapshot.Accelerator{Mode: "off", Message: "turned off"}},
	} {
		if got := (&Config{Accelerator: c.of}).accelerator(); got != c.want {
			t.Errorf("%+v: %+v, want %+v", c.of, got, c.want)
		}
	}
}

// The programs are taken out at a stop only if the DaemonSet does not ask for them
// any more: the next agent may not be able to.
func TestDecelerate(t *testing.T) {
	for _, row := range []struct {
		name string
		args []string // of the DaemonSet's agents
		of   Accelerator
		want error
	}{
		{"a restart", []string{"agent", "--accelerate=auto"}, accelerator{Wanted: true}, nil},
		{"turned off", []string{"agent", "--accelerate=off"}, accelerator{Wanted: true}, errRemoved},
		{"turned off by a flag that comes later", []string{"--accelerate=auto", "--accelerate=off"}, accelerator{Wanted: true}, errRemoved},
		{"a version that knows nothing of it", []string{"agent"}, accelerator{Wanted: true}, errRemoved},
		{"was off", []string{"--accelerate=off"}, accelerator{}, nil},
		{"none", []string{"--accelerate=off"}, nil, nil},
	} {
		t.Run(row.name, func(t *testing.T) {
			a, _ := newAgent(t, Full)
			a.cfg.Accelerator = row.of
			set := &appsv1.DaemonSet{}
			set.Spec.Template.Spec.Containers = []corev1.Container{{Args: row.args}}
			a.removal.takeDaemonSet(set)
			if err := a.goodbye(t.Context()); !errors.Is(err, row.want) {
				t.Errorf("%v, want %v", err, row.want)
			}
		})
	}
	a, _ := newAgent(t, Full)
	a.cfg.Accelerator = accelerator{Wanted: true}
	if err := a.goodbye(t.Context()); err != nil {
		t.Errorf("nothing is known of the next agent: %v", err)
	}
}
