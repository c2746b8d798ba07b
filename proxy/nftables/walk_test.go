package nftables

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/proxy"
)

// visits counts the chains that the kernel looks at when it looks for loops after a
// change of a verdict. Before Linux 6.6 it follows each jump, and each element of each
// map that a rule looks into, as often as it comes by.
func visits(r *Ruleset, f *Family) int {
	targets := map[string][]string{} // by map
	for _, e := range r.Elements(f) {
		if target, ok := strings.CutPrefix(e.Data, "goto "); ok {
			targets[e.Set] = append(targets[e.Set], target)
		}
	}
	leads := map[string][]string{}
	var base []string
	for _, c := range r.Layouts[f].Chains {
		if c.Hook != nil {
			base = append(base, c.Name)
		}
		for _, rule := range c.Rules {
			for _, s := range rule.Statements {
				leads[c.Name] = append(leads[c.Name], s.Chains...)
				if s.Verb == Vmap {
					leads[c.Name] = append(leads[c.Name], targets[s.Set]...)
				}
			}
		}
	}
	n := 0
	var visit func(chain string)
	visit = func(chain string) {
		n++
		for _, next := range leads[chain] {
			visit(next)
		}
	}
	for _, chain := range base {
		visit(chain)
	}
	return n
}

// loadBalancers are n Services with a ClusterIP, a VIP and a node port. Every other one
// has policy Local, every tenth affinity, each with a timeout of its own.
func loadBalancers(n, endpoints int) *proxy.Table {
	out := make([]*proxy.Frontend, 0, 3*n)
	for _, kind := range []proxy.Kind{proxy.ClusterIP, proxy.VIP, proxy.NodePort} {
		for i := range n {
			f := &proxy.Frontend{Key: proxy.Key{Kind: kind, Family: snapshot.IPv4, Protocol: snapshot.TCP, Port: uint16(10000 + i)}}
			if kind != proxy.NodePort {
				f.Addr = netip.AddrFrom4([4]byte{10, 96 + byte(kind), byte(i >> 8), byte(i)})
			}
			for e := range endpoints {
				f.Cluster = append(f.Cluster, numbered(e))
			}
			if f.LocalOnly = kind != proxy.ClusterIP && i%2 == 1; f.LocalOnly {
				f.Local = f.Cluster[:1]
			}
			if i%10 == 0 {
				f.Affinity = time.Duration(1+i) * time.Second
			}
			out = append(out, f)
		}
	}
	return &proxy.Table{Frontends: out}
}

// The kernel's search for loops grows no faster than the number of Services.
func TestWalkGrowsLinearly(t *testing.T) {
	for _, endpoints := range []int{1, 10, 20} {
		t.Run(fmt.Sprint(endpoints), func(t *testing.T) {
			count := func(services int) float64 {
				r, _ := Adopt(nothing(), loadBalancers(services, endpoints), DefaultMark, false)
				return float64(visits(r, IP4))
			}
			none := count(0)
			first := (count(50) - none) / 50
			for _, services := range []int{100, 200, 1000} {
				each := (count(services) - none) / float64(services)
				t.Logf("%d LoadBalancer Services: %.0f visits each", services, each)
				if each > 1.1*first {
					t.Errorf("%.0f visits for each of %d Services, %.0f for each of 50", each, services, first)
				}
			}
		})
	}
}

// Services with many timeouts do not multiply chains and sets.
func TestTimeoutsMakeFewChains(t *testing.T) {
	size := func(services int, timeout func(i int) time.Duration) int {
		table := loadBalancers(services, 3)
		for i, f := range table.Frontends {
			f.Affinity = timeout(i)
		}
		r, _ := Adopt(nothing(), table, DefaultMark, false)
		return len(r.Layouts[IP4].Chains) + len(r.Layouts[IP4].Sets)
	}
	one := size(1, func(int) time.Duration { return time.Hour })
	timeout := func(i int) time.Duration { return time.Duration(1+i%1000*86) * time.Second }
	all := size(1000, timeout)
	if all > 4*one {
		t.Errorf("1,000 timeouts make %d chains and sets, one makes %d", all, one)
	}
	// Also where they follow each other.
	r, _ := Adopt(nothing(), &proxy.Table{}, DefaultMark, false)
	table := loadBalancers(1, 3)
	for i := range 1000 {
		next := &proxy.Table{}
		for _, f := range table.Frontends {
			with := *f
			with.Affinity = timeout(i)
			next.Frontends = append(next.Frontends, &with)
		}
		r, _ = r.Next(next)
	}
	if n := len(r.Layouts[IP4].Chains) + len(r.Layouts[IP4].Sets); n > all {
		t.Errorf("1,000 timeouts one after the other leave %d chains and sets", n)
	}
}
