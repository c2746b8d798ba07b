package agent

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/fairlead/fairlead/announcer"
	"github.com/fairlead/fairlead/announcer/l2"
	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/internal/keyring"
	"github.com/fairlead/fairlead/internal/kube"
	"github.com/fairlead/fairlead/internal/link"
	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/internal/test/nstest"
	nftables "github.com/fairlead/fairlead/proxy/nftables/netlink"
)

// benchRuns is how often make bench WHAT=compile runs each change.
const benchRuns = 20

// benchSize is how large a cluster of BenchmarkStep is. Its Services have a ClusterIP, a
// node port and a VIP each, or with plain only a ClusterIP.
type benchSize struct {
	services, nodes, endpoints int
	plain, dual                bool // dual: both families
}

// limits are what a change may cost, "node" without what engine does.
func (s benchSize) limit(change string) time.Duration {
	limits := map[string]time.Duration{"none": 2 * time.Millisecond, "endpoint": 5 * time.Millisecond, "node": 50 * time.Millisecond}
	if s.plain && change == "endpoint" {
		return 10 * time.Millisecond
	}
	return limits[change]
}

// BenchmarkStep measures what a change costs an agent: the CPU time of the whole
// process, the kernel's work for it and collecting its garbage included. It is
// the agent's own step with those who carry it out: a real engine and real links
// in a network namespace, and every VIP of this node held there. "node" is a node
// that is lost: its VIPs are taken over by layer2; engine then takes its endpoints
// out of all Services. It needs root.
func BenchmarkStep(b *testing.B) {
	for _, size := range []benchSize{
		{services: 10000, nodes: 10, endpoints: 10}, {services: 10000, nodes: 100, endpoints: 5, dual: true},
		{services: 2000, nodes: 500, endpoints: 10}, {services: 50000, nodes: 500, endpoints: 5, plain: true},
	} {
		b.Run(size.String(), func(b *testing.B) {
			w := newBenchWorld(b, size)
			round := 0
			for _, kind := range []string{"none", "endpoint", "node"} {
				b.Run("change="+kind, func(b *testing.B) {
					var all parts
					for b.Loop() {
						round++
						w.change(kind, round)
						w.run(b, &all)
						w.settle(b, kind)
					}
					all.report(b, kind, size.limit(kind))
				})
			}
		})
	}
}

func (s benchSize) String() string {
	what := "vips"
	if s.plain {
		what = "clusterips"
	}
	if s.dual {
		what = "dual-" + what
	}
	return fmt.Sprintf("%s=%d/nodes=%d", what, s.services, s.nodes)
}

// parts are the CPU times of a step.
type parts struct{ decide, layer2, routes, engine time.Duration }

// report prints the means, and fails if they are above the limit. Of a lost node
// the limit is for taking its addresses over.
func (p *parts) report(b *testing.B, kind string, limit time.Duration) {
	n := time.Duration(b.N)
	ms := func(d time.Duration) float64 { return float64((d / n).Microseconds()) / 1000 }
	b.ReportMetric(0, "ns/op") // changing and settling the cluster count in it
	b.ReportMetric(ms(p.decide), "decide-cpu-ms")
	b.ReportMetric(ms(p.layer2), "layer2-cpu-ms")
	b.ReportMetric(ms(p.routes), "routes-cpu-ms")
	b.ReportMetric(ms(p.engine), "engine-cpu-ms")
	sum := p.decide + p.layer2 + p.routes
	if kind != "node" {
		sum += p.engine
	}
	if sum/n > limit && b.N >= benchRuns {
		b.Errorf("%s costs %s, more than %s: %+v", kind, sum/n, limit, parts{p.decide / n, p.layer2 / n, p.routes / n, p.engine / n})
	}
}

// benchWorld is a cluster, an agent of node0 in it, and the namespace on which
// that acts.
type benchWorld struct {
	*Agent
	benchSize
	builder *kube.Builder
	view    announcer.View
}

// Latest, View and so on stand in for the API server and the gossip.
func (w *benchWorld) Latest() (*snapshot.Snapshot, []time.Time) { return w.builder.Snapshot(), nil }
func (w *benchWorld) Snapshot() *snapshot.Snapshot              { return w.builder.Snapshot() }
func (w *benchWorld) Synced() bool                              { return true }
func (w *benchWorld) Heard() time.Time                          { return time.Time{} }
func (w *benchWorld) Run(context.Context) error                 { return nil }

type benchGossip struct{ w *benchWorld }

func (benchGossip) Run(context.Context)            {}
func (benchGossip) SetKeys(keyring.Keys)           {}
func (benchGossip) Follow(*snapshot.Snapshot)      {}
func (benchGossip) SetLost(map[string]bool, bool)  {}
func (benchGossip) Fresh() bool                    { return true }
func (benchGossip) Say(announcer.Report)           {}
func (g benchGossip) View() (announcer.View, bool) { return g.w.view, true }

func newBenchWorld(b testing.TB, size benchSize) *benchWorld {
	b.Helper()
	node, peer := nstest.New(b, "bench"), nstest.New(b, "peer")
	nstest.Wire(b, node, peer, "198.18.255.1/16", "198.18.255.2/16")
	engine := nftables.New(nftables.Options{Netns: int(node.Handle)})
	b.Cleanup(engine.Close)
	log := slog.New(slog.DiscardHandler)
	cfg := &Config{Node: "node0", Log: log, Dataplane: engine, Clients: &kube.Clients{}, SysctlDir: b.TempDir()}
	leases := l2.New(node.Netlink(b), int(node.Handle), log)
	w := &benchWorld{Agent: assemble(cfg, leases), builder: kube.NewBuilder(), benchSize: size}
	w.engine.proxy, w.cluster.store, w.gossip, w.engine.follow = Fairlead, w, benchGossip{w}, func(_ *snapshot.Snapshot, _, _ []netip.Addr) {}
	w.report.leases = leases
	w.links.state = link.State{
		Links: []snapshot.Link{{Name: "eth0", Prefixes: []netip.Prefix{netip.MustParsePrefix("198.18.255.1/16"), netip.MustParsePrefix("fd99::1/64")}}}, Addrs: []netip.Addr{netip.MustParseAddr("203.0.113.1")},
	}
	w.view = announcer.View{Node: "node0"}
	for i := range size.nodes {
		w.builder.Set(benchNode(i))
		name := fmt.Sprint("node", i)
		w.view.Members = append(w.view.Members, announcer.Member{Node: name, Candidate: true, Report: &announcer.Report{Electable: snapshot.Electable{Node: name, InSync: true, Links: w.links.state.Links}, Settled: true}})
	}
	slices.SortFunc(w.view.Members, func(a, b announcer.Member) int { return strings.Compare(a.Node, b.Node) })
	for i := range size.services {
		w.builder.Set(w.service(i))
		w.endpoints(i, 0)
		for _, family := range w.families() {
			if !size.plain {
				w.builder.Set(benchAddress(i, family))
			}
		}
	}
	var first parts
	for range 2 { // program, then announce
		w.run(b, &first)
	}
	w.settle(b, "first")
	vips := size.services * len(w.families())
	if held, _ := w.layer2.Held(); !size.plain && (len(held) == 0 || len(held) > 2*vips/size.nodes) {
		b.Fatalf("holds %d of %d VIPs among %d nodes", len(held), vips, size.nodes)
	}
	return w
}

// change changes the cluster, or nothing.
func (w *benchWorld) change(kind string, round int) {
	switch kind {
	case "endpoint":
		w.endpoints(round*97%w.services, round)
	case "node":
		w.lose(true)
	}
}

// lose has node1 gone, or back.
func (w *benchWorld) lose(gone bool) {
	w.view.Members = slices.Clone(w.view.Members)
	m := w.view.Member("node1")
	m.Candidate, m.Quarantine, m.Verdict = !gone, gone, announcer.Alive
	if gone {
		m.Verdict = announcer.NodeGone
	}
}

// settle ends a round: a lost node is back, and everything is as it was.
func (w *benchWorld) settle(b testing.TB, kind string) {
	var none parts
	switch kind {
	case "none", "endpoint":
		return
	case "node":
		w.lose(false)
		w.run(b, &none)
	}
	for deadline := time.Now().Add(time.Minute); ; { // nodes that are elected for the first time wait
		if plan := w.decision.decider.Decide(w.collect(w.builder.Snapshot(), time.Now())); plan.Wake.IsZero() {
			break
		} else if time.Now().After(deadline) {
			b.Fatal("addresses still wait for their owners")
		} else {
			time.Sleep(time.Until(plan.Wake))
		}
	}
	w.run(b, &none)
}

// run is a step and what follows from it.
func (w *benchWorld) run(b testing.TB, into *parts) {
	for _, part := range []struct {
		took *time.Duration
		do   func(context.Context) error
	}{{&into.decide, w.step}, {&into.layer2, w.layer2.step}, {&into.routes, w.routes.step}, {&into.engine, w.engine.step}} {
		start := cpu()
		if err := part.do(context.Background()); err != nil {
			b.Fatal(err)
		}
		*part.took += cpu() - start
	}
}

// cpu is what this process has spent.
func cpu() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func benchMeta(name string, version int) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: "default", Name: name, UID: types.UID(name), ResourceVersion: fmt.Sprint(version + 1)}
}

func benchNode(i int) *corev1.Node {
	m := benchMeta(fmt.Sprint("node", i), 0)
	m.Namespace = ""
	return &corev1.Node{ObjectMeta: m, Spec: corev1.NodeSpec{PodCIDRs: []string{fmt.Sprintf("10.%d.%d.0/24", 100+i>>8, i&255)}},
		Status: corev1.NodeStatus{Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}}}
}

func (w *benchWorld) families() []discoveryv1.AddressType {
	if w.dual {
		return []discoveryv1.AddressType{discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv6}
	}
	return []discoveryv1.AddressType{discoveryv1.AddressTypeIPv4}
}

// address is number n of one family in a range of addresses that are told apart by net.
func address(family discoveryv1.AddressType, net, n int) string {
	if family == discoveryv1.AddressTypeIPv6 {
		return fmt.Sprintf("fd98:%d::%x:%x", net, n>>16, n&0xffff)
	}
	return fmt.Sprintf("10.%d.%d.%d", net+n>>16, n>>8&255, n&255)
}

func (w *benchWorld) service(i int) *corev1.Service {
	s := &corev1.Service{ObjectMeta: benchMeta(fmt.Sprint("service", i), 0)}
	port := corev1.ServicePort{Name: "http", Protocol: corev1.ProtocolTCP, Port: 80, TargetPort: intstr.FromInt32(8080)}
	s.Spec.Type = corev1.ServiceTypeClusterIP
	if !w.plain {
		s.Spec.Type, port.NodePort = corev1.ServiceTypeLoadBalancer, int32(30000+i)
	}
	s.Spec.Ports = []corev1.ServicePort{port}
	for _, family := range w.families() {
		s.Spec.ClusterIPs = append(s.Spec.ClusterIPs, address(family, 96, i))
		if !w.plain {
			s.Status.LoadBalancer.Ingress = append(s.Status.LoadBalancer.Ingress, corev1.LoadBalancerIngress{IP: benchVIP(i, family)})
		}
	}
	return s
}

func benchVIP(i int, family discoveryv1.AddressType) string {
	if family == discoveryv1.AddressTypeIPv6 {
		return fmt.Sprintf("fd99::%x", i+0x100)
	}
	return fmt.Sprintf("198.18.%d.%d", i>>8, i&255)
}

// endpoints sets the endpoints of the Service i; each round has another first one.
func (w *benchWorld) endpoints(i, round int) {
	for _, family := range w.families() {
		m := benchMeta(fmt.Sprintf("service%d-%s", i, family), round)
		m.Labels = map[string]string{discoveryv1.LabelServiceName: fmt.Sprint("service", i)}
		sl := &discoveryv1.EndpointSlice{ObjectMeta: m, AddressType: family}
		name, proto, port := "http", corev1.ProtocolTCP, int32(8080)
		sl.Ports = []discoveryv1.EndpointPort{{Name: &name, Protocol: &proto, Port: &port}}
		for j := range w.benchSize.endpoints {
			n := i*w.benchSize.endpoints + j
			if j == 0 && round > 0 {
				n = w.services*w.benchSize.endpoints + round
			}
			node, yes := fmt.Sprint("node", (i+n)%w.nodes), true // each change is on another node
			sl.Endpoints = append(sl.Endpoints, discoveryv1.Endpoint{
				Addresses: []string{address(family, 100, n)}, NodeName: &node,
				Conditions: discoveryv1.EndpointConditions{Ready: &yes, Serving: &yes},
			})
		}
		w.builder.Set(sl)
	}
}

func benchAddress(i int, family discoveryv1.AddressType) *v1alpha1.Address {
	addr := benchVIP(i, family)
	a := &v1alpha1.Address{ObjectMeta: benchMeta(strings.NewReplacer(".", "-", ":", "-").Replace(addr), 0)}
	a.Namespace = ""
	a.Spec.Address = addr
	a.Status.ProbedAt = &metav1.Time{Time: time.Unix(1, 0)} // by another node
	name := fmt.Sprint("service", i)
	a.Spec.Holders = []v1alpha1.AddressHolder{{Namespace: "default", Name: name, UID: types.UID(name)}}
	return a
}
