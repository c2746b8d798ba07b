package agent

import (
	"testing"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/proxy/ebpf"
)

type accelerator ebpf.State

func (a accelerator) State() ebpf.State { return ebpf.State(a) }
func (accelerator) Exclude([]string)    {}

// TestAccelerator: what the NodeState says of it.
func TestAccelerator(t *testing.T) {
	for _, c := range []struct {
		of   Accelerator
		want v1alpha1.AcceleratorState
	}{
		{nil, v1alpha1.AcceleratorState{}},
		{accelerator{Wanted: true, On: true, Left: 3}, v1alpha1.AcceleratorState{Mode: "ebpf", LeftCount: 3}},
		{accelerator{Wanted: true, Reason: "no cgroup v2"}, v1alpha1.AcceleratorState{Mode: "off", Message: "no cgroup v2"}},
		{accelerator{Reason: "turned off"}, v1alpha1.AcceleratorState{Mode: "off", Message: "turned off"}},
	} {
		if got := (&Config{Accelerator: c.of}).accelerator(); got != c.want {
			t.Errorf("%+v: %+v, want %+v", c.of, got, c.want)
		}
	}
}
