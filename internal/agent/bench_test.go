package agent

import (
	"fmt"
	"net/netip"
	"os"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/fairlead/fairlead/announcer"
	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/internal/kube"
	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/internal/test/nstest"
	"github.com/fairlead/fairlead/nodeport"
	"github.com/fairlead/fairlead/proxy"
	nftables "github.com/fairlead/fairlead/proxy/nftables/netlink"
)

const (
	benchServices  = 10000
	benchEndpoints = 10
	benchChanges   = 51
	benchNodes     = 10
)

// TestBenchCompile prints what one changed EndpointSlice costs an agent with
// 10,000 Services of 10 endpoints each: the CPU time of the whole process, the
// kernel's work for it and collecting its garbage included, for each part of its
// step. It runs with BENCH_COMPILE=1, as root.
func TestBenchCompile(t *testing.T) {
	if os.Getenv("BENCH_COMPILE") != "1" {
		return
	}
	for _, kind := range []corev1.ServiceType{corev1.ServiceTypeClusterIP, corev1.ServiceTypeLoadBalancer} {
		b := kube.NewBuilder()
		for i := range benchNodes {
			b.Set(benchNode(i))
		}
		for i := range benchServices {
			b.Set(benchService(i, kind))
			b.Set(benchSlice(i, 0))
			if kind == corev1.ServiceTypeLoadBalancer {
				b.Set(benchAddress(i))
			}
		}
		var all parts
		step := &benchStep{builder: b, engine: benchEngine(t)}
		step.run(t, &all)
		fmt.Printf("bench-compile: type=%s services=%d endpoints=%d first %s\n", kind, benchServices, benchServices*benchEndpoints, all)
		all = parts{}
		for i := range benchChanges {
			b.Set(benchSlice(i*97%benchServices, 1+i))
			step.run(t, &all)
		}
		fmt.Printf("bench-compile: type=%s services=%d endpoints=%d change %s\n", kind, benchServices, benchServices*benchEndpoints, all.mean(benchChanges))
	}
}

// parts are the CPU times of a step.
type parts struct{ snapshot, compile, sync, decide, checks, sum time.Duration }

func (p parts) String() string {
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	return fmt.Sprintf("cpu_ms=%.3f snapshot_ms=%.3f compile_ms=%.3f sync_ms=%.3f decide_ms=%.3f checks_ms=%.3f",
		ms(p.sum), ms(p.snapshot), ms(p.compile), ms(p.sync), ms(p.decide), ms(p.checks))
}

func (p parts) mean(n time.Duration) parts {
	return parts{p.snapshot / n, p.compile / n, p.sync / n, p.decide / n, p.checks / n, p.sum / n}
}

type benchStep struct {
	builder  *kube.Builder
	compiler proxy.Compiler
	decider  announcer.Decider
	engine   *nftables.Engine
}

func (b *benchStep) run(t *testing.T, into *parts) {
	on := []netip.Addr{netip.MustParseAddr("203.0.113.1")}
	var s *snapshot.Snapshot
	var table *proxy.Table
	took := func(d *time.Duration, f func()) {
		start := cpu()
		f()
		spent := cpu() - start
		*d += spent
		into.sum += spent
	}
	took(&into.snapshot, func() { s = b.builder.Snapshot() })
	took(&into.compile, func() { table = b.compiler.Compile(s, "node1", on, proxy.Options{}) })
	took(&into.sync, func() {
		if _, err := b.engine.Sync(t.Context(), table); err != nil {
			t.Fatal(err)
		}
	})
	in := benchInput(s)
	took(&into.decide, func() { b.decider.Decide(in) })
	took(&into.checks, func() { nodeport.Checks(s, "node1") })
}

// benchEngine is an engine in a network namespace of its own.
func benchEngine(t *testing.T) *nftables.Engine {
	e := nftables.New(nftables.Options{Netns: int(nstest.New(t, "bench").Handle)})
	t.Cleanup(e.Close)
	return e
}

func benchInput(s *snapshot.Snapshot) announcer.Input {
	in := announcer.Input{Snapshot: s, Node: "node1", Alive: map[string]bool{}, Self: snapshot.NodeState{Node: "node1", InSync: true}}
	links := []snapshot.Link{{Name: "eth0", Prefixes: []netip.Prefix{netip.MustParsePrefix("198.18.0.0/16")}}}
	in.Self.Links, in.Others = links, map[string]snapshot.NodeState{}
	for i := range benchNodes {
		name := fmt.Sprint("node", i)
		in.Alive[name], in.Others[name] = true, snapshot.NodeState{Node: name, InSync: true, Links: links}
	}
	return in
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
	return &corev1.Node{ObjectMeta: m, Spec: corev1.NodeSpec{PodCIDRs: []string{fmt.Sprintf("10.%d.0.0/16", 100+i)}},
		Status: corev1.NodeStatus{Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}}}
}

func benchService(i int, kind corev1.ServiceType) *corev1.Service {
	s := &corev1.Service{ObjectMeta: benchMeta(fmt.Sprint("service", i), 0)}
	s.Spec.Type = kind
	s.Spec.ClusterIPs = []string{fmt.Sprintf("10.96.%d.%d", i>>8, i&255)}
	p := corev1.ServicePort{Name: "http", Protocol: corev1.ProtocolTCP, Port: 80, TargetPort: intstr.FromInt32(8080)}
	if kind == corev1.ServiceTypeLoadBalancer {
		p.NodePort = int32(30000 + i)
		s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: benchVIP(i)}}
	}
	s.Spec.Ports = []corev1.ServicePort{p}
	return s
}

func benchVIP(i int) string { return fmt.Sprintf("198.18.%d.%d", i>>8, i&255) }

func benchSlice(i, round int) *discoveryv1.EndpointSlice {
	m := benchMeta(fmt.Sprintf("service%d-x", i), round)
	m.Labels = map[string]string{discoveryv1.LabelServiceName: fmt.Sprint("service", i)}
	sl := &discoveryv1.EndpointSlice{ObjectMeta: m, AddressType: discoveryv1.AddressTypeIPv4}
	name, proto, port := "http", corev1.ProtocolTCP, int32(8080)
	sl.Ports = []discoveryv1.EndpointPort{{Name: &name, Protocol: &proto, Port: &port}}
	for j := range benchEndpoints {
		n := i*benchEndpoints + j
		if j == 0 && round > 0 {
			n = benchServices*benchEndpoints + round
		}
		node, yes := fmt.Sprint("node", n%benchNodes), true
		sl.Endpoints = append(sl.Endpoints, discoveryv1.Endpoint{
			Addresses: []string{fmt.Sprintf("10.%d.%d.%d", 100+n%benchNodes, n/benchNodes>>8, n/benchNodes&255)}, NodeName: &node,
			Conditions: discoveryv1.EndpointConditions{Ready: &yes, Serving: &yes},
		})
	}
	return sl
}

func benchAddress(i int) *v1alpha1.Address {
	a := &v1alpha1.Address{ObjectMeta: benchMeta(fmt.Sprintf("198-18-%d-%d", i>>8, i&255), 0)}
	a.Namespace = ""
	a.Spec.Address = benchVIP(i)
	name := fmt.Sprint("service", i)
	a.Spec.Holders = []v1alpha1.AddressHolder{{Namespace: "default", Name: name, UID: types.UID(name)}}
	return a
}
