package agent

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"github.com/fairlead/fairlead/announcer/bgp/gobgp"
	"github.com/fairlead/fairlead/internal/kube"
	"github.com/fairlead/fairlead/internal/node"
	"github.com/fairlead/fairlead/internal/saved"
	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/proxy"
	"github.com/fairlead/fairlead/proxy/dataplanetest"
)

func TestMain(m *testing.M) {
	if spec := os.Getenv(runPeer); spec != "" {
		if err := peerMain(spec); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if len(os.Args) > 1 && os.Args[1] == SessionCommand {
		pipes, err := gobgp.Inherited()
		if err == nil {
			err = gobgp.Serve(context.Background(), pipes, slog.New(slog.NewTextHandler(os.Stderr, nil)))
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "session:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if spec := os.Getenv(runControlPlane); spec != "" {
		if err := controlPlaneMain(spec); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

func kubeProxy(wanted int32) *appsv1.DaemonSet {
	return &appsv1.DaemonSet{
		ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: "kube-proxy", Generation: 1},
		Status:     appsv1.DaemonSetStatus{ObservedGeneration: 1, DesiredNumberScheduled: wanted},
	}
}

func ciliumSays(value string) *corev1.ConfigMap {
	return &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: "cilium-config"},
		Data:       map[string]string{"kube-proxy-replacement": value},
	}
}

func TestReadOthers(t *testing.T) {
	fresh := kubeProxy(0)
	fresh.Generation = 2
	elsewhere := kubeProxy(3)
	elsewhere.Namespace = "default"
	tests := []struct {
		name    string
		objects []runtime.Object
		want    Others
	}{
		{"nothing", nil, Others{}},
		{"kube-proxy", []runtime.Object{kubeProxy(3)}, Others{KubeProxy: true}},
		{"kube-proxy on no node", []runtime.Object{kubeProxy(0)}, Others{}},
		{"kube-proxy that was just changed", []runtime.Object{fresh}, Others{KubeProxy: true}},
		{"kube-proxy of another namespace", []runtime.Object{elsewhere}, Others{}},
		{"Cilium as a replacement", []runtime.Object{ciliumSays("true")}, Others{Cilium: true}},
		{"an old Cilium as a replacement", []runtime.Object{ciliumSays("strict")}, Others{Cilium: true}},
		{"Cilium as a network alone", []runtime.Object{ciliumSays("false")}, Others{}},
		{"both", []runtime.Object{kubeProxy(1), ciliumSays("true")}, Others{KubeProxy: true, Cilium: true}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := readOthers(t.Context(), fake.NewClientset(tt.objects...))
			if err != nil || got != tt.want {
				t.Errorf("got %+v, %v; want %+v", got, err, tt.want)
			}
		})
	}
}

// newAgent is an Agent with a client that knows objects, and nothing in the
// kernel.
func newAgent(t *testing.T, mode Mode, objects ...runtime.Object) (*Agent, *fake.Clientset) {
	t.Helper()
	client := fake.NewClientset(objects...)
	a, err := New(Config{
		Node: "a", Clients: &kube.Clients{Kube: client}, Dataplane: dataplanetest.NewFake(), Engine: "fake",
		Log: slog.New(slog.DiscardHandler), Mode: mode,
	})
	if err != nil {
		t.Fatal(err)
	}
	return a, client
}

func failing(client *fake.Clientset, err error) {
	client.PrependReactor("get", "daemonsets", func(clienttesting.Action) (bool, runtime.Object, error) { return true, nil, err })
}

// While the API server does not answer, auto waits unless it is known who
// forwarded before; the other modes go on.
func TestDecideWithoutAPI(t *testing.T) {
	away := apierrors.NewServiceUnavailable("away")
	forbidden := apierrors.NewForbidden(schema.GroupResource{Resource: "daemonsets"}, "kube-proxy", nil)
	tests := []struct {
		name  string
		mode  Mode
		saved *saved.State
		err   error
		want  Proxy // "": fails
	}{
		{"auto knows", Auto, &saved.State{Proxy: string(KubeProxy)}, away, KubeProxy},
		{"auto may not ask", Auto, nil, forbidden, ""},
		{"full", Full, nil, away, Fairlead},
		{"full may not ask", Full, nil, forbidden, Fairlead},
		{"off", Off, nil, away, Another},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a, client := newAgent(t, tt.mode)
			a.cluster.saved = tt.saved
			failing(client, tt.err)
			synctest.Test(t, func(t *testing.T) {
				got, err := a.chooseProxy(t.Context())
				if got != tt.want || (err != nil) != (tt.want == "") {
					t.Errorf("got %q, %v", got, err)
				}
			})
		})
	}
	t.Run("auto knows nothing", func(t *testing.T) {
		a, client := newAgent(t, Auto)
		synctest.Test(t, func(t *testing.T) {
			began := time.Now()
			client.PrependReactor("get", "daemonsets", func(clienttesting.Action) (bool, runtime.Object, error) {
				return time.Since(began) < time.Hour, nil, away
			})
			if got, err := a.chooseProxy(t.Context()); got != Fairlead || time.Since(began) < time.Hour {
				t.Errorf("got %q, %v after %s", got, err, time.Since(began))
			}
		})
	})
}

// When kube-proxy goes from a cluster, or comes, the agent restarts.
func TestWatchOthers(t *testing.T) {
	a, client := newAgent(t, Auto, kubeProxy(3))
	a.engine.proxy = KubeProxy
	synctest.Test(t, func(t *testing.T) {
		done := make(chan error)
		go func() { done <- a.watchOthers(t.Context()) }()
		time.Sleep(time.Hour)
		synctest.Wait()
		if err := client.AppsV1().DaemonSets("kube-system").Delete(t.Context(), "kube-proxy", metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		err := <-done
		if err == nil || !strings.Contains(err.Error(), "by kube-proxy and are now to be forwarded by fairlead") {
			t.Errorf("got %v", err)
		}
		if took := time.Since(began); took > lookEvery*3/2 {
			t.Errorf("noticed after %s", took)
		}
	})
}

// Where another proxy forwards, the node is in order while it is. A guard for the
// ports of VIPs takes the place of what an earlier agent left, and not before.
func TestLeave(t *testing.T) {
	a, _ := newAgent(t, Off)
	kernel := a.cfg.Dataplane.(*dataplanetest.Fake).Kernel
	kernel.Set(&proxy.Table{NodePortAddrs: []netip.Addr{netip.MustParseAddr("198.51.100.1")}})
	code := http.StatusServiceUnavailable
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }))
	defer srv.Close()
	defer a.engine.other.client.CloseIdleConnections()
	a.engine.proxy, a.cfg.OtherHealth = KubeProxy, srv.URL
	svc := &snapshot.Service{
		Ref: snapshot.Ref{Namespace: "a", Name: "web"}, UID: "u", Type: snapshot.LoadBalancer,
		ClusterIPs: []netip.Addr{netip.MustParseAddr("198.18.96.1")}, Ports: []snapshot.Port{{Protocol: snapshot.TCP, Port: 80}},
	}
	vip := &snapshot.Address{Addr: netip.MustParseAddr("198.18.0.200"), Holders: []snapshot.Holder{{Ref: svc.Ref, UID: svc.UID}}}
	order := engineOrder{Program: node.Program{
		Snapshot: &snapshot.Snapshot{Services: []*snapshot.Service{svc}, Addresses: []*snapshot.Address{vip}}, Addrs: []netip.Addr{netip.MustParseAddr("198.51.100.1")},
	}}
	leave := func() node.Engine {
		if err := a.engine.leave(t.Context(), order); err != nil {
			t.Error(err)
		}
		return a.engine.State().Engine
	}
	if now := leave(); now.InSync || !now.Other || kernel.Syncs() != 0 {
		t.Errorf("beside an unhealthy proxy: %+v; in the kernel: %v", now, kernel.Table())
	}
	code, a.engine.other.asked = http.StatusOK, time.Time{}
	const want = "guard 198.18.0.200 tcp/80 -> none\nnodeport-address 198.51.100.1\n"
	if now := leave(); !now.InSync || !now.Other || kernel.Table().String() != want {
		t.Errorf("beside a healthy one: %+v; in the kernel:\n%v", now, kernel.Table())
	}
	if got := a.mode(); got != "kube-proxy" {
		t.Errorf("engine mode %q", got)
	}
}
