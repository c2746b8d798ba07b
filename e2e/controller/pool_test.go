package controller_test

import (
	"fmt"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead/fairlead/api/v1alpha1"
)

func addresses(list ...string) func(*v1alpha1.AddressPoolSpec) {
	return func(p *v1alpha1.AddressPoolSpec) { p.Addresses = list }
}

// TestPoolChanges: growing serves who waits; shrinking, disabling and deleting
// move nobody and give nothing; the counters say so at every step.
func TestPoolChanges(t *testing.T) {
	c := newCluster(t)
	c.pool("lan", "192.0.2.0/32")
	c.start(options)
	c.service("one")
	c.holds("one", "192.0.2.0")
	c.service("two")
	c.refused("two", "PoolExhausted")
	c.pooled("lan", "1/1/0 PoolReady")

	c.editPool("lan", addresses("192.0.2.0/30"))
	c.holds("two", "192.0.2.1")
	c.pooled("lan", "4/2/2 PoolReady")

	c.editPool("lan", addresses("192.0.2.1/32"))
	c.pooled("lan", "1/1/0 PoolReady")
	c.condition("one", "True OutsidePools")
	c.holds("one", "192.0.2.0")

	c.editPool("lan", func(p *v1alpha1.AddressPoolSpec) { p.Addresses, p.Disabled = []string{"192.0.2.0/30"}, true })
	c.pooled("lan", "4/2/0 PoolDisabled")
	c.service("three")
	c.refused("three", "PoolDisabled")
	c.condition("one", "True Assigned")

	c.must(c.Pools.Delete(t.Context(), "lan", metav1.DeleteOptions{}))
	c.condition("one", "True OutsidePools")
	c.condition("three", "False NoPool")
	c.holds("two", "192.0.2.1")

	c.pool("first", "192.0.2.0/32")
	c.pool("second", "192.0.2.1-192.0.2.3")
	c.holds("three", "192.0.2.2")
	c.pooled("first", "1/1/0 PoolReady")
	c.pooled("second", "3/2/1 PoolReady")
	for _, a := range c.records() {
		want := "second"
		if a.Name == "192.0.2.0" {
			want = "first"
		}
		if a.Spec.Pool != want {
			t.Errorf("the record of %s names pool %s, want %s", a.Name, a.Spec.Pool, want)
		}
	}
}

// TestPoolOverlap: the older pool stands whole, the newer gives nothing until
// the overlap is gone.
func TestPoolOverlap(t *testing.T) {
	c := newCluster(t)
	c.pool("old", "192.0.2.0/31")
	r := c.start(options)
	c.pooled("old", "2/0/2 PoolReady")
	c.newSecond()
	c.pool("new", "192.0.2.1-192.0.2.9")
	c.pooled("new", "9/0/0 PoolConflicting")
	c.service("web", note(v1alpha1.AnnotationPool, "new"))
	c.refused("web", "PoolConflicting")
	c.editPool("old", addresses("192.0.2.0/32"))
	c.pooled("new", "9/1/8 PoolReady")
	c.holds("web", "192.0.2.1")
	r.settled()
}

// newSecond waits until a pool that is made now is younger than those that are
// there: Kubernetes notes the time of creation in whole seconds.
func (c *cluster) newSecond() {
	c.Helper()
	made := func() metav1.Time {
		e, err := c.Kube.CoreV1().ConfigMaps("default").Create(c.Context(), newMark(), metav1.CreateOptions{})
		c.must(err)
		c.must(c.Kube.CoreV1().ConfigMaps("default").Delete(c.Context(), e.Name, metav1.DeleteOptions{}))
		return e.CreationTimestamp
	}
	first := made()
	c.eventually("another second", func() error {
		if now := made(); !first.Before(&now) {
			return fmt.Errorf("still %s", now)
		}
		return nil
	})
}

// condition waits for the status and the reason of a Service's condition
// AddressAssigned.
func (c *cluster) condition(name, want string) {
	c.Helper()
	c.eventually("condition of "+name, func() error {
		for _, k := range c.get(name).Status.Conditions {
			if k.Type == v1alpha1.ConditionAddressAssigned && string(k.Status)+" "+k.Reason == want {
				return nil
			}
		}
		return fmt.Errorf("%+v, want %s", c.get(name).Status.Conditions, want)
	})
}
