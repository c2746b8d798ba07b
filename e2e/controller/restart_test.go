package controller_test

import (
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead/fairlead/api/v1alpha1"
)

// TestRestarts: five restarts with two addresses and four Services. Holders
// keep, the others wait, and nothing is written nor told.
func TestRestarts(t *testing.T) {
	c := newCluster(t)
	c.pool("lan", "192.0.2.0/31")
	first := c.start(options)
	for i := range 4 {
		c.service(fmt.Sprintf("s%d", i))
		if i < 2 {
			c.holds(fmt.Sprintf("s%d", i), fmt.Sprintf("192.0.2.%d", i))
		}
	}
	c.refused("s2", "PoolExhausted")
	c.refused("s3", "PoolExhausted")
	c.pooled("lan", "2/2/0 PoolReady")
	first.settled()
	first.stop()
	told := len(c.events("s0"))
	for i := range 5 {
		r := c.start(options)
		r.settled()
		r.stop()
		if n := r.wrote(); len(n) > 0 {
			t.Errorf("restart %d wrote %v", i+1, n)
		}
	}
	if n := len(c.events("s0")); n != told {
		t.Errorf("%d Events of s0 after the restarts, %d before", n, told)
	}
	for name, want := range map[string]string{"s0": "192.0.2.0", "s1": "192.0.2.1", "s2": "", "s3": ""} {
		c.holds(name, want)
	}
	// A waiter gets what is freed, and is told nothing else.
	c.start(options)
	c.delete("s0")
	c.holds("s2", "192.0.2.0")
	c.gone("s0")
}

// TestRecordsWithoutService: what a crash left is collected; a record that
// names a Service by another UID too.
func TestRecordsWithoutService(t *testing.T) {
	c := newCluster(t)
	c.pool("lan", "192.0.2.0/30")
	s := c.service("web")
	for addr, name := range map[string]string{"192.0.2.0": "gone", "192.0.2.1": "web"} {
		_, err := c.Addresses.Create(t.Context(), &v1alpha1.Address{ObjectMeta: metav1.ObjectMeta{Name: addr}, Spec: v1alpha1.AddressSpec{
			Address: addr, Pool: "lan", Holders: []v1alpha1.AddressHolder{{Namespace: "default", Name: name, UID: "uid-of-an-earlier-one"}},
		}}, metav1.CreateOptions{})
		c.must(err)
	}
	r := c.start(options)
	r.settled()
	if got := ips(c.get("web")); got == "" {
		t.Error("web got no address")
	}
	held := 0
	for _, a := range c.records() {
		if len(a.Spec.Holders) > 0 {
			held++
		} else if a.Spec.Freed == nil {
			t.Errorf("record %+v is nobody's, and does not cool down", a.Spec)
		}
	}
	if held != 1 {
		t.Errorf("%d addresses are held, want that of web alone", held)
	}
	c.holds("web", c.recorded(s))
}

// TestStatusWithoutRecord: a status alone is adopted if the Service may have the
// address; if not it is replaced, with the reason.
func TestStatusWithoutRecord(t *testing.T) {
	c := newCluster(t)
	c.pool("lan", "192.0.2.0/29")
	for name, addr := range map[string]string{"free": "192.0.2.5", "outside": "203.0.113.9", "twice": "192.0.2.5"} {
		c.service(name)
		c.editStatus(name, func(st *corev1.ServiceStatus) {
			st.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: addr}}
		})
	}
	c.service("named")
	c.editStatus("named", func(st *corev1.ServiceStatus) {
		st.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{Hostname: "lb.example"}, {IP: "192.0.2.6"}}
	})
	r := c.start(options)
	r.settled()
	got := map[string]string{}
	for _, name := range []string{"free", "outside", "twice", "named"} {
		got[name] = ips(c.get(name))
		c.holds(name, c.recorded(c.get(name)))
		if !strings.HasPrefix(got[name], "192.0.2.") {
			t.Errorf("%s has %q", name, got[name])
		}
	}
	if got["free"] != "192.0.2.5" && got["twice"] != "192.0.2.5" {
		t.Errorf("nobody adopted 192.0.2.5: %v", got)
	}
	if got["named"] != "192.0.2.6" {
		t.Errorf("named has %q beside a host name, want its address", got["named"])
	}
	c.eventually("warning of outside", func() error {
		if told := strings.Join(c.events("outside"), "; "); !strings.Contains(told, "Warning StatusIgnored") {
			return fmt.Errorf("events %s", told)
		}
		return nil
	})
}
