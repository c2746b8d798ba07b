package controller_test

import (
	"fmt"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead/fairlead/allocator"
	"github.com/fairlead/fairlead/api/v1alpha1"
)

// TestEvents: what a Service's owner is told from the creation to the end, and
// that the entries of the status are VIPs.
func TestEvents(t *testing.T) {
	c := newCluster(t)
	c.pool("lan", "192.0.2.0/30")
	r := c.start(options)
	c.service("web")
	c.holds("web", "192.0.2.0")
	r.settled()
	s := c.get("web")
	if m := s.Status.LoadBalancer.Ingress[0].IPMode; !isVIP(s.Status.LoadBalancer.Ingress[0]) {
		t.Errorf("ipMode %v", m)
	}
	c.told("web", "Normal EnsuringLoadBalancer", "Normal EnsuredLoadBalancer")
	c.edit("web", note(v1alpha1.AnnotationAddresses, "192.0.2.2"))
	c.holds("web", "192.0.2.2")
	c.told("web", "Normal EnsuringLoadBalancer", "Normal EnsuredLoadBalancer", "Normal UpdatedLoadBalancer")
	c.delete("web")
	c.gone("web")
	c.noRecords()
	c.service("other")
	c.holds("other", "192.0.2.0")
	c.edit("other", func(s *corev1.Service) {
		s.Spec.Type, s.Spec.AllocateLoadBalancerNodePorts = corev1.ServiceTypeClusterIP, nil
	})
	c.told("other", "Normal EnsuringLoadBalancer", "Normal EnsuredLoadBalancer", "Normal DeletingLoadBalancer", "Normal DeletedLoadBalancer")
	c.noRecords()
}

// told waits for the Events of a Service, in whatever order they were written.
func (c *cluster) told(name string, want ...string) {
	c.Helper()
	slices.Sort(want)
	c.eventually("Events of "+name, func() error {
		if got := slices.Sorted(slices.Values(c.events(name))); !slices.Equal(got, want) {
			return fmt.Errorf("%q, want %q", got, want)
		}
		return nil
	})
}

// TestStatusRepaired: a status that somebody wiped or edited is repaired, and
// what it named is not believed.
func TestStatusRepaired(t *testing.T) {
	c := newCluster(t)
	c.pool("lan", "192.0.2.0/30")
	c.start(options)
	c.service("web")
	c.holds("web", "192.0.2.0")
	proxy := corev1.LoadBalancerIPModeProxy
	for what, edited := range map[string][]corev1.LoadBalancerIngress{
		"wiped":       nil,
		"another":     {{IP: "192.0.2.1"}},
		"outside":     {{IP: "203.0.113.1"}},
		"one more":    {{IP: "192.0.2.0"}, {IP: "192.0.2.3"}},
		"a host name": {{Hostname: "lb.example"}},
		"a family":    {{IP: "2001:db8::1"}},
		"proxy mode":  {{IP: "192.0.2.0", IPMode: &proxy}},
	} {
		c.editStatus("web", func(st *corev1.ServiceStatus) { st.LoadBalancer.Ingress = edited })
		c.eventually(what, func() error {
			in := c.get("web").Status.LoadBalancer.Ingress
			if len(in) != 1 || in[0].IP != "192.0.2.0" || in[0].Hostname != "" || !isVIP(in[0]) {
				return fmt.Errorf("%+v", in)
			}
			return nil
		})
	}
	c.editStatus("web", func(st *corev1.ServiceStatus) { st.Conditions = nil })
	c.eventually("conditions", func() error {
		if n := len(c.get("web").Status.Conditions); n != 2 {
			return fmt.Errorf("%d", n)
		}
		return nil
	})
	if n := len(c.records()); n != 1 {
		t.Errorf("%d records after all that, want 1", n)
	}
}

// TestFinalizers: a Service gets none, loses those of version 0.1 when a controller
// begins to lead, and keeps those of others.
func TestFinalizers(t *testing.T) {
	c := newCluster(t)
	c.pool("lan", "192.0.2.0/30")
	none := c.start(options)
	for name, tc := range map[string]struct {
		old     string
		changes []change
	}{
		"plain":   {v1alpha1.FinalizerClassless, nil},
		"classed": {v1alpha1.FinalizerClassed, []change{classed(v1alpha1.LoadBalancerClass)}},
	} {
		foreign := func(s *corev1.Service) { s.Finalizers = []string{"example.com/keep"} }
		c.service(name, append(tc.changes, foreign)...)
		c.finalizers(name)
		none.stop()
		c.edit(name, func(s *corev1.Service) { s.Finalizers = append(s.Finalizers, tc.old) })
		none = c.start(options)
		c.finalizers(name)
		c.edit(name, func(s *corev1.Service) {
			s.Spec.Type, s.Spec.LoadBalancerClass, s.Spec.AllocateLoadBalancerNodePorts = corev1.ServiceTypeClusterIP, nil, nil
		})
		c.eventually(name+" of another type", func() error {
			if s := c.get(name); ips(s) != "" || len(s.Status.Conditions) > 0 || c.recorded(s) != "" {
				return fmt.Errorf("status %+v, records %q", s.Status, c.recorded(s))
			}
			return nil
		})
	}
}

// finalizers waits until a Service has an address and no finalizer of ours.
func (c *cluster) finalizers(name string) {
	c.Helper()
	c.eventually(name, func() error {
		if s := c.get(name); ips(s) == "" || !slices.Equal(s.Finalizers, []string{"example.com/keep"}) {
			return fmt.Errorf("finalizers %q, status %q", s.Finalizers, ips(s))
		}
		return nil
	})
}

// TestNotOursAnyMore: with another --default-class, a Service without a class loses
// everything of ours, and keeps what another load balancer has written.
func TestNotOursAnyMore(t *testing.T) {
	c := newCluster(t)
	c.pool("lan", "192.0.2.0/32")
	r := c.start(options)
	c.service("plain")
	c.holds("plain", "192.0.2.0")
	r.settled()
	r.stop()
	c.service("classed", classed(v1alpha1.LoadBalancerClass))
	c.editStatus("plain", func(st *corev1.ServiceStatus) {
		st.LoadBalancer.Ingress = append(st.LoadBalancer.Ingress, corev1.LoadBalancerIngress{IP: "203.0.113.9"})
	})
	c.start(allocator.Options{Class: v1alpha1.LoadBalancerClass})
	c.holds("classed", "192.0.2.0")
	if s := c.get("plain"); ips(s) != "203.0.113.9" || len(s.Status.Conditions) > 0 {
		t.Errorf("status %+v", s.Status)
	}
	c.delete("plain")
	c.gone("plain")
}

// TestForeign: a Service of another class is left byte for byte as it is, and
// one without a class too where these are not ours.
func TestForeign(t *testing.T) {
	c := newCluster(t)
	c.pool("lan", "192.0.2.0/30")
	c.service("other", classed("example.com/lb"), note(v1alpha1.AnnotationAddresses, "nonsense"), func(s *corev1.Service) {
		s.Finalizers = []string{v1alpha1.FinalizerClassless}
	})
	c.editStatus("other", func(st *corev1.ServiceStatus) {
		st.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "192.0.2.0"}}
	})
	c.service("plain")
	before := map[string]string{"other": c.get("other").String(), "plain": c.get("plain").String()}
	r := c.start(allocator.Options{Class: v1alpha1.LoadBalancerClass})
	c.service("ours", classed(v1alpha1.LoadBalancerClass))
	c.holds("ours", "192.0.2.0")
	r.settled()
	for name, was := range before {
		if now := c.get(name).String(); now != was {
			t.Errorf("%s was changed:\n%s\n%s", name, was, now)
		}
		if e := c.events(name); len(e) > 0 {
			t.Errorf("%s was told %q", name, e)
		}
	}
}

// TestTypeChange: a Service that becomes a NodePort Service frees its address
// for who waits, and gets one again when it comes back.
func TestTypeChange(t *testing.T) {
	c := newCluster(t)
	c.pool("lan", "192.0.2.0/32")
	c.start(options)
	c.service("web")
	c.holds("web", "192.0.2.0")
	c.service("waits")
	c.refused("waits", "PoolExhausted")
	c.edit("web", func(s *corev1.Service) {
		s.Spec.Type, s.Spec.AllocateLoadBalancerNodePorts = corev1.ServiceTypeNodePort, nil
	})
	c.holds("web", "")
	c.holds("waits", "192.0.2.0")
	c.delete("waits")
	c.edit("web", func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeLoadBalancer })
	c.holds("web", "192.0.2.0")
}

// TestNoPool: without a pool Services wait, and are told so without a Warning.
func TestNoPool(t *testing.T) {
	c := newCluster(t)
	r := c.start(options)
	c.service("web")
	c.service("named", note(v1alpha1.AnnotationPool, "lan"))
	c.eventually("waiting", func() error {
		for _, k := range c.get("web").Status.Conditions {
			if k.Reason == "NoPool" && k.Status == metav1.ConditionFalse {
				return nil
			}
		}
		return fmt.Errorf("conditions %+v", c.get("web").Status.Conditions)
	})
	r.settled()
	c.told("web", "Normal NoPool")
	c.pool("lan", "192.0.2.0/30")
	c.eventually("addresses", func() error {
		if ips(c.get("web")) == "" || ips(c.get("named")) == "" {
			return fmt.Errorf("web %q, named %q", ips(c.get("web")), ips(c.get("named")))
		}
		return nil
	})
}
