package agent

import (
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	appsv1 "k8s.io/api/apps/v1"

	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/proxy/ebpf"
)

// Accelerator is a Dataplane that stands before another and may be off.
type Accelerator interface {
	State() ebpf.State
	// Exclude names the pods, by UID, that it leaves alone from the next Sync on.
	Exclude(uids []string)
	// Remove takes it out of the kernel, and returns of how many parts it was.
	Remove() (int, error)
}

// flagOf returns the value of a flag, such as "--accelerate=", that a DaemonSet's agents
// have. The last of several counts.
func flagOf(set *appsv1.DaemonSet, name string) string {
	value := ""
	for _, c := range set.Spec.Template.Spec.Containers {
		for _, arg := range c.Args {
			if v, ok := strings.CutPrefix(arg, name); ok {
				value = v
			}
		}
	}
	return value
}

// removeAccelerator takes the Accelerator out if the next agent is to be without: that one
// is not allowed to do it.
func (a *Agent) removeAccelerator() error {
	if a.cfg.Accelerator == nil || !a.cfg.Accelerator.State().Wanted || !a.removal.endsAcceleration.Load() {
		return nil
	}
	n, err := a.cfg.Accelerator.Remove()
	if err == nil {
		a.cfg.Log.Info("detached the eBPF programs: the next agent will not use them", "programs", n)
	}
	return err
}

// removeDirector takes the Director out if the next agent is to be without.
func (a *Agent) removeDirector() error {
	if a.cfg.Direct.Remove == nil || !a.removal.endsDirector.Load() {
		return nil
	}
	n, err := a.cfg.Direct.Remove()
	if err == nil && n > 0 {
		a.cfg.Log.Info("detached the director: the next agent will not use it", "links", n)
	}
	return err
}

// accelerator is what the NodeState says of it; the zero value if there is none.
func (c *Config) accelerator() (out snapshot.Accelerator) {
	if c.Accelerator == nil {
		return out
	}
	s := c.Accelerator.State()
	out.Mode, out.Message, out.LeftFrontends = snapshot.AcceleratorOff, s.Reason, s.LeftFrontends
	if s.On {
		out.Mode = "ebpf"
	}
	return out
}

// accelerationMetrics says of the Accelerator what the NodeState says.
func (c *Config) accelerationMetrics() []prometheus.Collector {
	gauge := func(name, help string, value func(snapshot.Accelerator) float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 { return value(c.accelerator()) })
	}
	return []prometheus.Collector{
		gauge("fairlead_accelerator_on", "1 while sockets of this node's pods are connected to endpoints directly, by eBPF.", func(s snapshot.Accelerator) float64 {
			if s.Mode == "ebpf" {
				return 1
			}
			return 0
		}),
		gauge("fairlead_accelerator_left_frontends", "Addresses and ports with endpoints that the accelerator leaves to the engine.", func(s snapshot.Accelerator) float64 {
			return float64(s.LeftFrontends)
		}),
	}
}
