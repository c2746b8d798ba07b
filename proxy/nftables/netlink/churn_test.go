package netlink

import (
	"flag"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/fairlead/fairlead/proxy"
)

var measure = flag.Bool("measure", false, "churn for longer")

// churnTime is how long each kind of churn is tried.
func churnTime() time.Duration {
	if *measure {
		return 15 * time.Second
	}
	return 700 * time.Millisecond
}

// others makes Services that come, go and change at random: their number, their
// endpoints, kinds, policies and affinities.
func (a addressing) others(r *rand.Rand) []*proxy.Frontend {
	var out []*proxy.Frontend
	for i := range 20 + r.IntN(40) {
		if r.IntN(4) == 0 {
			continue
		}
		kind := []proxy.Kind{proxy.ClusterIP, proxy.VIP, proxy.ExternalIP, proxy.NodePort}[r.IntN(4)]
		var endpoints []netip.Addr
		for j := range r.IntN(12) {
			endpoints = append(endpoints, numbered(a.family, 99, 100*i+j))
		}
		f := a.front(kind, "tcp", endpoints...)
		if kind == proxy.NodePort {
			f.Port = uint16(31000 + i)
		} else {
			f.Addr = numbered(a.family, 100+byte(kind), i)
		}
		if kind != proxy.ClusterIP && len(endpoints) > 0 && r.IntN(2) == 0 {
			f = a.localOnly(f, endpoints[:r.IntN(len(endpoints))]...)
		}
		if r.IntN(3) == 0 {
			f.Affinity = time.Duration(1+r.IntN(3)) * time.Hour
		}
		if kind == proxy.VIP && r.IntN(3) == 0 {
			f.Sources = []netip.Prefix{netip.PrefixFrom(a.client2, a.client2.BitLen())}
		}
		out = append(out, f)
	}
	return out
}

// withOthers is a Table of fronts and others, sorted.
func (a addressing) withOthers(r *rand.Rand, fronts ...*proxy.Frontend) *proxy.Table {
	t := a.table(append(fronts, a.others(r)...)...)
	slices.SortFunc(t.Frontends, func(x, y *proxy.Frontend) int { return x.Key.Compare(y.Key) })
	return t
}

// While everything changes at the highest rate that the kernel takes, no
// connection to a Service fails that always has an endpoint: neither when only
// other Services change, nor when its own endpoints, its policy or its affinity
// do.
func TestNoConnectionFailsInChurn(t *testing.T) {
	l := newLab(t)
	// It makes as many connections as it can, and the kernel remembers each for 10 s. A full
	// table would lose SYNs even if nothing changed.
	l.node.Run(t, "sysctl", "-qw", "net.netfilter.nf_conntrack_tcp_timeout_close=1")
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("connections that the node tracks: %s", l.node.Run(t, "sh", "-c", "conntrack -C; conntrack -S"))
		}
	})
	for _, family := range bothFamilies {
		a := addressesOf(family)
		for name, own := range map[string]func(r *rand.Rand) *proxy.Frontend{
			"others": func(*rand.Rand) *proxy.Frontend { return a.front(proxy.VIP, "tcp", a.podA, a.podB) },
			"endpoints": func(r *rand.Rand) *proxy.Frontend {
				all := []netip.Addr{a.podA, a.podB, a.remote}
				r.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
				all = all[:1+r.IntN(3)]
				slices.SortFunc(all, netip.Addr.Compare)
				return a.front(proxy.VIP, "tcp", all...)
			},
			"policy": func(r *rand.Rand) *proxy.Frontend {
				f := a.front(proxy.VIP, "tcp", a.podA, a.podB)
				if r.IntN(3) > 0 {
					f = a.localOnly(f, []netip.Addr{a.podA, a.podB}[r.IntN(2)])
				}
				return f
			},
			"affinity": func(r *rand.Rand) *proxy.Frontend {
				f := a.front(proxy.VIP, "tcp", a.podA, a.podB)
				f.Affinity = time.Duration(r.IntN(1000)) * time.Second // with chains of its own
				return f
			},
		} {
			t.Run(family.String()+"/"+name, func(t *testing.T) {
				r := rand.New(rand.NewPCG(1, uint64(family)))
				sync(t, l.engine, a.withOthers(r, own(r)))
				changes := 0
				load := stream{from: l.client, to: netip.AddrPortFrom(a.vip, 80), workers: 8}
				unharmed(t, load.during(func() {
					for end := time.Now().Add(churnTime()); time.Now().Before(end); changes++ {
						sync(t, l.engine, a.withOthers(r, own(r)))
					}
				}))
				t.Logf("%d changes", changes)
			})
		}
	}
}
