package netlink

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	gosync "sync"
	"testing"
	"time"

	vnl "github.com/vishvananda/netlink"

	"github.com/fairlead/fairlead/internal/link"
	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/internal/test/storytest"
	"github.com/fairlead/fairlead/proxy"
)

// caliLink is the link of the pod that plugCalico makes.
const caliLink = "cali0a1b2c3d4e5"

// caliAddr is the address of that pod, which is not in the node's podCIDRs.
func caliAddr(f snapshot.Family) netip.Addr {
	if f == snapshot.IPv6 {
		return netip.MustParseAddr("fd98:0:190::5")
	}
	return netip.MustParseAddr("198.18.190.5")
}

// plugCalico connects a pod as Calico does. The link has no IPv4 address: the node
// answers ARP for the gateway, which nobody has. The routes are the last step.
func (l *lab) plugCalico(t *testing.T) space {
	t.Helper()
	pod := newSpace(t, "calico")
	pod.prepare(t)
	l.node.Run(t, "ip", "link", "add", caliLink, "address", "ee:ee:ee:ee:ee:ee", "type", "veth", "peer", "name", "eth0", "netns", pod.Name)
	l.node.Run(t, "sysctl", "-qw", "net.ipv4.conf."+caliLink+".proxy_arp=1", "net.ipv4.neigh."+caliLink+".proxy_delay=0", "net.ipv6.conf."+caliLink+".accept_dad=0")
	l.node.Run(t, "ip", "link", "set", caliLink, "up")
	pod.Run(t, "sysctl", "-qw", "net.ipv6.conf.eth0.accept_dad=0")
	pod.Run(t, "ip", "link", "set", "eth0", "up")
	pod.Run(t, "ip", "addr", "add", caliAddr(snapshot.IPv4).String()+"/32", "dev", "eth0")
	pod.Run(t, "ip", "addr", "add", caliAddr(snapshot.IPv6).String()+"/128", "dev", "eth0", "nodad")
	pod.Run(t, "ip", "route", "add", "169.254.1.1", "dev", "eth0", "scope", "link")
	pod.Run(t, "ip", "route", "add", "default", "via", "169.254.1.1", "dev", "eth0")
	pod.Run(t, "ip", "route", "add", "default", "via", "fe80::ecee:eeff:feee:eeee", "dev", "eth0")
	for _, f := range bothFamilies {
		l.routeTo(t, caliAddr(f))
	}
	return pod
}

// routeTo is what Calico does for each address of a pod.
func (l *lab) routeTo(t *testing.T, addr netip.Addr) {
	t.Helper()
	l.node.Do(t, func() error {
		at, err := vnl.LinkByName(caliLink)
		if err != nil {
			return err
		}
		return vnl.RouteAdd(&vnl.Route{LinkIndex: at.Attrs().Index, Dst: host128(addr), Scope: vnl.SCOPE_LINK})
	})
}

// following keeps the engine current with the node's routes, as the agent does.
type following struct {
	mu    gosync.Mutex
	pods  []netip.Prefix // of the last Sync
	wrote proxy.Change   // of all Syncs but the first
}

func (l *lab) follow(t *testing.T, cluster string) *following {
	t.Helper()
	world := storytest.NewWorld()
	if err := world.Do(cluster); err != nil {
		t.Fatal(err)
	}
	s, err := world.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg gosync.WaitGroup
	t.Cleanup(func() { cancel(); wg.Wait() })
	f, wake := &following{}, make(chan struct{}, 1)
	wg.Go(func() {
		l.node.Do(t, func() error {
			return link.Watch(ctx, func() {
				select {
				case wake <- struct{}{}:
				default:
				}
			})
		})
	})
	wg.Go(func() {
		l.node.Do(t, func() error {
			var compiler proxy.Compiler
			for n := 0; ; n++ {
				select {
				case <-ctx.Done():
					return nil
				case <-wake:
				}
				st, err := link.Read()
				if err != nil {
					wake <- struct{}{} // interrupted by a change
					continue
				}
				table := compiler.Compile(s, "node2", s.Node("node2").InternalIPs, proxy.Options{Own: st.Addrs, Routed: st.Pods})
				change, err := l.engine.Sync(ctx, table)
				if err != nil && ctx.Err() == nil {
					return err
				}
				f.synced(table, change, n == 0)
			}
		})
	})
	return f
}

func (f *following) synced(t *proxy.Table, c proxy.Change, first bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.pods = t.LocalPods
	if !first {
		f.wrote.Added, f.wrote.Deleted = f.wrote.Added+c.Added, f.wrote.Deleted+c.Deleted
		f.wrote.Rebuilt = f.wrote.Rebuilt || c.Rebuilt
	}
}

// knows waits until the engine holds addr, or no longer, as a pod's.
func (f *following) knows(t *testing.T, addr netip.Addr, want bool) time.Duration {
	t.Helper()
	began := time.Now()
	for deadline := began.Add(time.Minute); ; time.Sleep(50 * time.Microsecond) {
		f.mu.Lock()
		got := slices.Contains(f.pods, netip.PrefixFrom(addr, addr.BitLen()))
		f.mu.Unlock()
		if got == want {
			return time.Since(began)
		}
		if time.Now().After(deadline) {
			t.Fatalf("after a minute the engine knows %s as a pod: %t", addr, got)
		}
	}
}

const caliCluster = `
node node2 ips=198.18.0.1,fd98::1 pods=198.18.130.0/24,fd98:0:130::/64
pool lan 198.18.200.0/24,fd98:0:200::/64
address 198.18.200.1 holder=default/web
address fd98:0:200::1 holder=default/web
service default/web ip=198.18.96.1,fd98:0:96::1 ports=tcp/80,udp/80 external=Local
`

// spec 1, 42: a pod outside of the node's podCIDRs, which is connected as Calico does
// it and is not an endpoint of anything, is known by its route, also if it comes while the
// engine runs. It keeps its source on the way to a ClusterIP, a Local VIP without an
// endpoint here answers it, and so does a ping.
func TestPodOutsideOfPodCIDRs(t *testing.T) {
	l := newLab(t)
	cluster := caliCluster
	for _, f := range bothFamilies {
		for _, proto := range []string{"tcp", "udp"} {
			cluster += fmt.Sprintf("endpoint default/web %s proto=%s node=node3\n", addressesOf(f).ep(addressesOf(f).remote), proto)
		}
	}
	follow := l.follow(t, cluster)
	pod := l.plugCalico(t)
	for _, family := range bothFamilies {
		follow.knows(t, caliAddr(family), true)
	}
	each(t, func(t *testing.T, a addressing, network string) {
		kept := "remote " + caliAddr(a.family).String()
		pod.wants(t, network, netip.AddrPortFrom(a.clusterIP, 80), kept)
		pod.wants(t, network, netip.AddrPortFrom(a.vip, 80), kept)
		pod.Pipe(t, "", "ping", "-c", "1", "-W", "2", a.vip.String())
		// A host that comes over the uplink is still outside.
		l.client.wants(t, network, netip.AddrPortFrom(a.clusterIP, 80), "remote "+a.nodeOnRemote.String())
		l.client.silent(t, network, netip.AddrPortFrom(a.vip, 80))
	})
	l.node.Run(t, "ip", "link", "del", caliLink)
	for _, family := range bothFamilies {
		follow.knows(t, caliAddr(family), false)
	}
}

// A pod that comes or goes is an element of its own in two sets. It is there long
// before a pod's process can run.
func TestPodsComeAsElements(t *testing.T) {
	l := newLab(t)
	follow := l.follow(t, caliCluster)
	l.plugCalico(t)
	follow.knows(t, caliAddr(snapshot.IPv6), true)
	follow.mu.Lock()
	follow.wrote = proxy.Change{}
	follow.mu.Unlock()
	const pods = 50
	var took []time.Duration
	for i := range pods {
		addr := netip.AddrFrom4([4]byte{198, 18, 190, byte(100 + i)}) // neighbours
		l.routeTo(t, addr)
		took = append(took, follow.knows(t, addr, true))
	}
	slices.Sort(took)
	t.Logf("from the route to the kernel's set: median %v, longest %v", took[pods/2], took[pods-1])
	follow.mu.Lock()
	defer follow.mu.Unlock()
	if want := (proxy.Change{Added: 2 * pods}); follow.wrote != want {
		t.Errorf("%d pods came as %+v, want %+v", pods, follow.wrote, want)
	}
}
