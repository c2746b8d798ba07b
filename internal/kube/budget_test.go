package kube

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/fairlead/fairlead/internal/snapshot"
)

// wide makes a Service of some ports, and slices of it that have all of these ports and
// some pods each. Pods for which unready holds are not ready.
func wide(name string, ports, parts, pods int, unready func(int) bool) (*corev1.Service, []*discoveryv1.EndpointSlice) {
	svc := newService(name, "1", "10.96.0.1")
	var of []discoveryv1.EndpointPort
	for i := range ports {
		name, number := fmt.Sprint("p", i), int32(1+i)
		svc.Spec.Ports = append(svc.Spec.Ports, corev1.ServicePort{Name: name, Port: number})
		of = append(of, discoveryv1.EndpointPort{Name: &name, Port: &number})
	}
	var out []*discoveryv1.EndpointSlice
	for part := range parts {
		sl := newSlice(fmt.Sprint(name, "-", part), "", 80)
		sl.Labels[discoveryv1.LabelServiceName], sl.Ports = name, of
		for i := range pods {
			n := part*pods + i
			ready := !unready(n)
			sl.Endpoints = append(sl.Endpoints, discoveryv1.Endpoint{
				Addresses: []string{fmt.Sprintf("10.%d.%d.%d", 100+n>>16, n>>8&255, n&255)}, Conditions: discoveryv1.EndpointConditions{Ready: &ready},
			})
		}
		out = append(out, sl)
	}
	return svc, out
}

func never(int) bool { return false }

// built is a Service with the endpoints of slices.
func built(svc *corev1.Service, all []*discoveryv1.EndpointSlice) *snapshot.Service {
	out := toService(svc, false)
	var parts []*part
	for _, sl := range all {
		parts = append(parts, toPart(sl))
	}
	out.Endpoints, out.LeftOut = boundedUnion(out.Ports, parts)
	return out
}

// However many slices, pods and ports a Service has, so many of its endpoints are read,
// of each port as many. What is left out is said.
func TestBudget(t *testing.T) {
	for _, c := range []struct {
		what               string
		ports, parts, pods int
		each               int // endpoints of each port
		says               string
	}{
		{"small", 3, 2, 10, 20, ""},
		{"as large as may be", 4, 16, 512, 8192, ""},
		{"many ports", 8000, 1, 30, 4, "some endpoints of its EndpointSlices"},
		{"many slices", 1, 40, 1000, mostEndpoints, "some endpoints of its EndpointSlices"},
		{"all of it", 1000, 20, 1000, 32, "some endpoints of its EndpointSlices"},
	} {
		t.Run(c.what, func(t *testing.T) {
			svc, parts := wide("large", c.ports, c.parts, c.pods, never)
			began := time.Now()
			got := built(svc, parts)
			t.Log(time.Since(began))
			if got.LeftOut != c.says {
				t.Errorf("it is said that %q is left out, want %q", got.LeftOut, c.says)
			}
			of := map[string]int{}
			for _, ep := range got.Endpoints {
				of[ep.PortName]++
			}
			if len(of) != min(c.ports, mostPorts) || len(got.Endpoints) > mostEndpoints {
				t.Errorf("%d endpoints of %d ports", len(got.Endpoints), len(of))
			}
			for name, n := range of {
				if n != c.each {
					t.Fatalf("%s has %d endpoints, want %d", name, n, c.each)
				}
			}
		})
	}
}

// Beyond the budget, what is ready is read first.
func TestBudgetReadyFirst(t *testing.T) {
	svc, parts := wide("large", 2000, 3, 100, func(n int) bool { return n%40 != 0 && n < 299 })
	got := built(svc, parts)
	n := 0
	for _, ep := range got.Endpoints {
		if ep.PortName == "p1999" && ep.Ready {
			n++
		}
	}
	if want := 9; n != want { // 0, 40, … 280 and 299
		t.Errorf("%d of the %d ready endpoints are read", n, want)
	}
}

// A large Service that flaps is taken in now and then, and in the end as it is. Another
// Service is taken in at once, and so is the end of the large one.
func TestPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := NewBuilder()
		b.Pace()
		large, small := snapshot.Ref{Namespace: "default", Name: "large"}, snapshot.Ref{Namespace: "default", Name: "small"}
		flap := func(name string, ports, round int) {
			svc, parts := wide(name, ports, 1, 30, func(n int) bool { return n == round%30 })
			if round == 0 {
				b.Set(svc)
			}
			parts[0].ResourceVersion = fmt.Sprint(round + 1)
			b.Set(parts[0])
		}
		changes := map[snapshot.Ref]int{}
		var last *snapshot.Snapshot
		look := func() {
			now := b.Snapshot()
			for _, ref := range []snapshot.Ref{large, small} {
				if last == nil || now.Service(ref) != last.Service(ref) {
					changes[ref]++
				}
			}
			last = now
		}
		const rounds = 60
		for round := range rounds {
			flap("large", 1200, round)
			flap("small", 3, round)
			look()
			time.Sleep(500 * time.Millisecond)
		}
		if changes[small] != rounds {
			t.Errorf("the small Service was taken in %d times of %d", changes[small], rounds)
		}
		if n := changes[large]; n < 3 || n > 8 { // 30 s
			t.Errorf("the large Service was taken in %d times", n)
		}
		for at := b.Resume(); !at.IsZero(); at = b.Resume() {
			time.Sleep(time.Until(at))
			look()
		}
		for _, ep := range last.Service(large).Endpoints {
			if want := !strings.HasSuffix(ep.Addr.Addr().String(), fmt.Sprint(".", (rounds-1)%30)); ep.Ready != want {
				t.Fatalf("in the end %v", ep)
			}
		}
		flap("large", 1200, 0)
		b.Delete(newService("large", "2", "10.96.0.1"))
		if look(); last.Service(large) != nil {
			t.Error("a Service that is deleted is still there")
		}
	})
}
