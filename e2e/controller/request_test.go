package controller_test

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/fairlead/fairlead/api/v1alpha1"
)

// TestBadRequests: what cannot be followed gives no address, a condition and a
// Warning with the same reason.
func TestBadRequests(t *testing.T) {
	c := newCluster(t)
	c.pool("lan", "192.0.2.0/29", "2001:db8::/125")
	c.pool("wan", "198.51.100.0/29")
	c.start(options)
	c.service("holder", note(v1alpha1.AnnotationAddresses, "192.0.2.7"))
	c.holds("holder", "192.0.2.7")
	for reason, changes := range map[string][]change{
		"InvalidRequest":     {note(v1alpha1.AnnotationAddresses, "192.0.2.300")},
		"OutsidePools":       {note(v1alpha1.AnnotationAddresses, "203.0.113.1")},
		"WrongFamily":        {note(v1alpha1.AnnotationAddresses, "2001:db8::1")},
		"AddressInUse":       {note(v1alpha1.AnnotationAddresses, "192.0.2.7")},
		"PoolNotFound":       {note(v1alpha1.AnnotationPool, "nowhere")},
		"ConflictingRequest": {note(v1alpha1.AnnotationAddresses, "192.0.2.1"), note("metallb.io/loadBalancerIPs", "192.0.2.2")},
	} {
		name := strings.ToLower(reason)
		c.service(name, changes...)
		if k := c.refused(name, reason); k.Status != "False" || k.Message == "" {
			t.Errorf("%s: condition %+v", reason, k)
		}
		c.holds(name, "")
	}
	mixed := "address-and-pool"
	c.service(mixed, note(v1alpha1.AnnotationAddresses, "192.0.2.1"), note(v1alpha1.AnnotationPool, "wan"))
	if k := c.refused(mixed, "ConflictingRequest"); k.Status != "False" {
		t.Errorf("%s: condition %+v", mixed, k)
	}
}

// TestTypoCostsNothing: an edit that cannot be followed leaves the address, and
// says so.
func TestTypoCostsNothing(t *testing.T) {
	c := newCluster(t)
	c.pool("lan", "192.0.2.0/30")
	c.start(options)
	c.service("web", note(v1alpha1.AnnotationAddresses, "192.0.2.1"))
	c.holds("web", "192.0.2.1")
	c.edit("web", note(v1alpha1.AnnotationAddresses, "192.0.2.2,"))
	if k := c.refused("web", "InvalidRequest"); k.Status != "True" || !strings.Contains(k.Message, "192.0.2.1") {
		t.Errorf("condition %+v", k)
	}
	c.holds("web", "192.0.2.1")
	c.edit("web", note(v1alpha1.AnnotationAddresses, "192.0.2.2"))
	c.holds("web", "192.0.2.2")
}

// TestLoadBalancerIP: the deprecated field is honoured, and said to be so.
func TestLoadBalancerIP(t *testing.T) {
	c := newCluster(t)
	c.pool("lan", "192.0.2.0/29")
	c.start(options)
	c.service("web", func(s *corev1.Service) { s.Spec.LoadBalancerIP = "192.0.2.5" })
	c.holds("web", "192.0.2.5")
	c.told("web", "Normal EnsuringLoadBalancer", "Normal EnsuredLoadBalancer", "Warning DeprecatedLoadBalancerIP")
}

// TestMovedAddress: the address that a Service leaves goes to who waits for it,
// and a chain of three moves in one go.
func TestMovedAddress(t *testing.T) {
	c := newCluster(t)
	c.pool("lan", "192.0.2.0/30")
	r := c.start(options)
	for name, addr := range map[string]string{"a": "192.0.2.0", "b": "192.0.2.1", "d": "192.0.2.2"} {
		c.service(name, note(v1alpha1.AnnotationAddresses, addr))
		c.holds(name, addr)
	}
	c.service("waits", note(v1alpha1.AnnotationAddresses, "192.0.2.0"))
	c.refused("waits", "AddressInUse")
	c.edit("a", note(v1alpha1.AnnotationAddresses, "192.0.2.1"))
	c.refused("a", "AddressInUse")
	c.edit("b", note(v1alpha1.AnnotationAddresses, "192.0.2.2"))
	c.refused("b", "AddressInUse")
	c.edit("d", note(v1alpha1.AnnotationAddresses, "192.0.2.3"))
	for name, addr := range map[string]string{"waits": "192.0.2.0", "a": "192.0.2.1", "b": "192.0.2.2", "d": "192.0.2.3"} {
		c.holds(name, addr)
	}
	r.settled()
	if n := len(c.records()); n != 4 {
		t.Errorf("%d records", n)
	}
}

// TestSharing: a waiter joins when a port is dropped; who no longer fits goes,
// the others stay.
func TestSharing(t *testing.T) {
	c := newCluster(t)
	c.pool("lan", "192.0.2.0/31")
	c.start(options)
	key := note(v1alpha1.AnnotationShareKey, "web")
	c.service("one", key)
	c.holds("one", "192.0.2.0")
	c.service("two", key, port(443))
	c.holds("two", "192.0.2.0")
	c.pooled("lan", "2/1/1 PoolReady")
	c.service("three", key, note(v1alpha1.AnnotationAddresses, "192.0.2.0"))
	c.refused("three", "ShareRefused")
	c.edit("one", port(8080))
	c.holds("three", "192.0.2.0")
	c.holds("one", "192.0.2.0")
	c.edit("two", note(v1alpha1.AnnotationShareKey, "other"))
	c.holds("two", "192.0.2.1")
	c.holds("one", "192.0.2.0")
	c.holds("three", "192.0.2.0")
	c.pooled("lan", "2/2/0 PoolReady")
}

// TestDualStack: both families, one of them asked for, and a pool that gets the
// other family later.
func TestDualStack(t *testing.T) {
	c := newCluster(t)
	c.pool("lan", "192.0.2.0/30")
	c.start(options)
	prefer, require := corev1.IPFamilyPolicyPreferDualStack, corev1.IPFamilyPolicyRequireDualStack
	c.service("prefer", func(s *corev1.Service) { s.Spec.IPFamilyPolicy = &prefer })
	c.holds("prefer", "192.0.2.0")
	c.service("require", func(s *corev1.Service) { s.Spec.IPFamilyPolicy = &require })
	c.refused("require", "WrongFamily")
	c.editPool("lan", func(p *v1alpha1.AddressPoolSpec) { p.Addresses = append(p.Addresses, "2001:db8::/126") })
	c.holds("prefer", "192.0.2.0,2001:db8::")
	c.holds("require", "192.0.2.1,2001:db8::1")
}
