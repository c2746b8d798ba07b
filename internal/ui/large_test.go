//go:build linux

package ui

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"net/netip"
	"net/url"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/internal/cli/cluster"
	"github.com/fairlead/fairlead/internal/cli/survey"
	"github.com/fairlead/fairlead/internal/ui/page"
)

const (
	largeServices = 1000
	largeNodes    = 200
)

// large is a cluster of so many Services and nodes, all in order but for one address.
func large() *survey.Objects {
	now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	o := &survey.Objects{Now: now}
	add := func(obj runtime.Object) { o.All = append(o.All, obj) }
	add(&v1alpha1.AddressPool{ObjectMeta: metav1.ObjectMeta{Name: "lan", UID: "lan"}, Spec: v1alpha1.AddressPoolSpec{Addresses: []string{"10.32.0.0/16"}}})
	renewed, yes := metav1.NewMicroTime(now), true
	node := func(i int) string { return fmt.Sprintf("worker-%d", i) }
	vip, pod := netip.MustParseAddr("10.32.1.0"), netip.MustParseAddr("10.244.0.1")
	announces := map[int][]v1alpha1.AnnouncedAddress{}
	for i := range largeServices {
		name, uid, text := fmt.Sprintf("web-%d", i), types.UID(fmt.Sprint("uid-", i)), vip.String()
		m := metav1.ObjectMeta{Namespace: "shop", Name: name, UID: uid}
		add(&corev1.Service{ObjectMeta: m, Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer, ClusterIP: "10.96.0.1", ClusterIPs: []string{"10.96.0.1"}, IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol},
			Ports: []corev1.ServicePort{{Port: 80, Protocol: corev1.ProtocolTCP}}}, Status: corev1.ServiceStatus{LoadBalancer: corev1.LoadBalancerStatus{Ingress: []corev1.LoadBalancerIngress{{IP: text}}}}})
		add(&v1alpha1.Address{ObjectMeta: metav1.ObjectMeta{Name: text}, Spec: v1alpha1.AddressSpec{Address: text, Pool: "lan", Holders: []v1alpha1.AddressHolder{{Namespace: "shop", Name: name, UID: uid}}}})
		n, port, portName, proto := node(i%largeNodes), int32(8080), "", corev1.ProtocolTCP
		add(&discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name, Labels: map[string]string{discoveryv1.LabelServiceName: name}}, AddressType: discoveryv1.AddressTypeIPv4,
			Ports: []discoveryv1.EndpointPort{{Name: &portName, Port: &port, Protocol: &proto}}, Endpoints: []discoveryv1.Endpoint{{Addresses: []string{pod.String()}, NodeName: &n, Conditions: discoveryv1.EndpointConditions{Ready: &yes}}}})
		if i > 0 {
			announces[i%largeNodes] = append(announces[i%largeNodes], v1alpha1.AnnouncedAddress{Address: text, Link: "eth0", Service: "shop/" + name})
		}
		vip, pod = vip.Next(), pod.Next()
	}
	ip := netip.MustParseAddr("10.32.128.1")
	for i := range largeNodes {
		add(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: node(i)}, Status: corev1.NodeStatus{Addresses: []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: ip.String()}}, Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}}})
		st := &v1alpha1.NodeState{ObjectMeta: metav1.ObjectMeta{Name: node(i)}}
		st.Status.RenewTime, st.Status.Engine.Mode, st.Status.Engine.InSync = &renewed, "nftables", true
		st.Status.Links = []v1alpha1.NodeLink{{Name: "eth0", Prefixes: []string{ip.String() + "/16"}}}
		st.Status.Announces = announces[i]
		add(st)
		ip = ip.Next()
	}
	return o
}

// The most that a page of a large cluster may have, and the time of a processor that
// making it takes: a tenth of a second without the race detector.
const (
	mostBytes = 230_000 // beside its style and scripts, which have less than 70,000
	mostTime  = 3 * time.Second
)

// Pages of a large cluster stay small, and are made fast.
func TestLargeCluster(t *testing.T) {
	o := large()
	began := time.Now()
	state := o.State()
	t.Logf("the value of %d objects: %v", len(o.All), time.Since(began))
	s := New(Options{Source: still{objects: o}}, "127.0.0.1:1")
	for _, path := range []string{"/", "/addresses", "/addresses?page=5", "/addresses/10.32.1.0", "/services", "/services?q=web-77", "/services/shop/web-0", "/nodes", "/nodes/worker-1", "/pools", "/timeline", "/doctor"} {
		n, took := drawn(t, s, state, path)
		t.Logf("%-22s %7d bytes %8v", path, n, took.Round(100*time.Microsecond))
		if n > mostBytes || took > mostTime {
			t.Errorf("%s has %d bytes and takes %v", path, n, took)
		}
	}
}

func drawn(t testing.TB, s *Server, state *cluster.State, path string) (int, time.Duration) {
	t.Helper()
	u, err := url.Parse(path)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	began := used(t)
	p := s.draw(state, u)
	if p.Missing {
		t.Errorf("%s is missing", path)
	}
	if err := (page.Frame{At: path}).HTML(p).Render(&b); err != nil {
		t.Fatal(err)
	}
	return b.Len(), used(t) - began
}

// The files of others are unchanged: those of the npm packages htmx.org 2.0.11 and
// htmx-ext-sse 2.2.4.
func TestFilesOfOthers(t *testing.T) {
	for name, want := range map[string]string{
		"static/htmx.min.js": "d6fdc75f204e6bdefa99b69bf1e6d4ac69b8a364f77929f45c13476b4000f717",
		"static/sse.min.js":  "98a46496de0c3605fbffdce9167ba427bdd9553184f83f149c261891a92c0136",
	} {
		data, err := static.ReadFile(name)
		if got := fmt.Sprintf("%x", sha256.Sum256(data)); err != nil || got != want {
			t.Errorf("%s has the checksum %s, %v", name, got, err)
		}
	}
}
