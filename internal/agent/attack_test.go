package agent

import (
	"context"
	"flag"
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/fairlead/fairlead/internal/snapshot"
)

var measure = flag.Bool("measure", false, "hold figures to the limits of a machine that does nothing else")

// The Service of the attack: so many ports, and so many pods behind all of them.
const (
	attackPorts = 8000
	attackPods  = 30
)

// attack changes the readiness of one of the attacker's pods.
func (w *benchWorld) attack(round int) {
	m := benchMeta("attacker-x", round)
	m.Labels = map[string]string{discoveryv1.LabelServiceName: "attacker"}
	sl := &discoveryv1.EndpointSlice{ObjectMeta: m, AddressType: discoveryv1.AddressTypeIPv4}
	for i := range attackPorts {
		name, proto, port := fmt.Sprint("p", i), corev1.ProtocolTCP, int32(1+i)
		sl.Ports = append(sl.Ports, discoveryv1.EndpointPort{Name: &name, Protocol: &proto, Port: &port})
	}
	for i := range attackPods {
		node, ready := fmt.Sprint("node", i%w.nodes), i != round%attackPods
		sl.Endpoints = append(sl.Endpoints, discoveryv1.Endpoint{
			Addresses: []string{fmt.Sprintf("10.200.0.%d", 1+i)}, NodeName: &node, Conditions: discoveryv1.EndpointConditions{Ready: &ready, Serving: &ready},
		})
	}
	w.builder.Set(sl)
}

func attacker() *corev1.Service {
	s := &corev1.Service{ObjectMeta: benchMeta("attacker", 0)}
	s.Spec.Type, s.Spec.ClusterIPs = corev1.ServiceTypeClusterIP, []string{"10.97.0.1"}
	for i := range attackPorts {
		s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{Name: fmt.Sprint("p", i), Protocol: corev1.ProtocolTCP, Port: int32(1 + i)})
	}
	return s
}

// TestAttackByALargeService: a tenant has a Service of 8,000 ports and 30 pods that
// flap ten times a second. What another Service changes is programmed as before, and
// the attacker is told what is left out.
func TestAttackByALargeService(t *testing.T) {
	w := newBenchWorld(t, benchSize{services: 20, nodes: 4, endpoints: 10})
	w.builder.Pace()
	var told int
	w.engine.exceeded = func(found []snapshot.Problem) { told = len(found) }
	w.engine.through = func() uint64 { return math.MaxUint64 } // nothing is withdrawn
	rounds, pause := 8, time.Duration(0)
	if *measure {
		rounds, pause = 1000, 20*time.Millisecond
	}
	// change returns how long it takes until the engine has a change of another Service.
	round := 0
	change := func(attack bool) time.Duration {
		time.Sleep(pause)
		round++
		if attack {
			w.attack(round)
		}
		// The change comes when a step has just begun, and waits for that and its own.
		began := cpu()
		steps := []func(context.Context) error{w.step, w.engine.step}
		if w.engine.compiler.More() {
			steps = append([]func(context.Context) error{w.engine.step}, steps...)
		}
		w.change("endpoint", round)
		for _, step := range steps {
			if err := step(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		return cpu() - began
	}
	var alone, beside []time.Duration
	for range rounds {
		alone = append(alone, change(false))
	}
	w.builder.Set(attacker())
	first := change(true)
	for range rounds {
		beside = append(beside, change(true))
	}
	p99 := func(of []time.Duration) time.Duration { return slices.Sorted(slices.Values(of))[len(of)*99/100] }
	t.Logf("attack: ports and pods: another Service's change takes %s without it and %s with it (p99), and %s when it comes first",
		p99(alone), p99(beside), first)
	if told != 1 {
		t.Errorf("%d Services are told that they are too large", told)
	}
	limit := 3 * time.Second // before, one step took half a minute
	if *measure {
		limit = p99(alone) + 10*time.Millisecond
	}
	if p99(beside) > limit || first > 10*time.Second {
		t.Errorf("another Service's change takes %s beside the attacker, and %s alone; the first %s", p99(beside), p99(alone), first)
	}
}
