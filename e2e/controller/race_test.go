package controller_test

import (
	"fmt"
	"sync"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestTwoLeaders: two controllers act at once, as when a paused leader wakes up
// after its Lease was taken, on 500 Services that 16 writers create. Every
// Service gets an address, and no address stays given twice.
func TestTwoLeaders(t *testing.T) {
	const services, writers = 500, 16
	c := newCluster(t)
	c.pool("lan", "198.51.100.0/23")
	replicas := []*replica{c.start(options), c.start(options)}
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := w; i < services; i += writers {
				_, err := c.Kube.CoreV1().Services("default").Create(t.Context(), newService(fmt.Sprintf("s%03d", i)), metav1.CreateOptions{})
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	c.eventually("addresses for all", func() error {
		if n := len(c.served()); n < services {
			return fmt.Errorf("%d of %d have one", n, services)
		}
		return nil
	})
	for _, r := range replicas {
		r.settled()
	}
	// Each may undo what the other did just before; that ends by itself.
	c.eventually("every address to be that of one Service", func() error { return c.agreed(services) })
	c.pooled("lan", "512/500/12 PoolReady")
	t.Logf("%d Services; writes of the two: %v and %v", services, replicas[0].wrote(), replicas[1].wrote())
}

// agreed says which statuses and records do not name so many Services with an address each.
func (c *cluster) agreed(services int) error {
	c.Helper()
	by := map[string]string{}
	for name, addr := range c.served() {
		if other, taken := by[addr]; taken {
			return fmt.Errorf("%s is given to %s and %s", addr, name, other)
		}
		by[addr] = name
	}
	records := c.records()
	for _, a := range records {
		if n := len(a.Spec.Holders); n != 1 || by[a.Spec.Address] != a.Spec.Holders[0].Name {
			return fmt.Errorf("the record of %s names %v, the status is that of %q", a.Spec.Address, a.Spec.Holders, by[a.Spec.Address])
		}
	}
	if len(by) != services || len(records) != services {
		return fmt.Errorf("%d addresses and %d records for %d Services", len(by), len(records), services)
	}
	return nil
}

// served lists the address of every Service that has one.
func (c *cluster) served() map[string]string {
	list, err := c.Kube.CoreV1().Services("default").List(c.Context(), metav1.ListOptions{})
	c.must(err)
	out := map[string]string{}
	for i := range list.Items {
		if addr := ips(&list.Items[i]); addr != "" {
			out[list.Items[i].Name] = addr
		}
	}
	return out
}
