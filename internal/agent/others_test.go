package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
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
	"github.com/fairlead/fairlead/internal/proxies"
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
		want    string
	}{
		{"nothing", nil, ""},
		{"kube-proxy", []runtime.Object{kubeProxy(3)}, "kube-proxy"},
		{"kube-proxy on no node", []runtime.Object{kubeProxy(0)}, ""},
		{"kube-proxy that was just changed", []runtime.Object{fresh}, "kube-proxy"},
		{"kube-proxy of another namespace", []runtime.Object{elsewhere}, ""},
		{"Cilium as a replacement", []runtime.Object{ciliumSays("true")}, "cilium"},
		{"an old Cilium as a replacement", []runtime.Object{ciliumSays("strict")}, "cilium"},
		{"Cilium as a network alone", []runtime.Object{ciliumSays("false")}, "not cilium"},
		{"both", []runtime.Object{kubeProxy(1), ciliumSays("true")}, "cilium kube-proxy"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := readOthers(t.Context(), fake.NewClientset(tt.objects...))
			if err != nil {
				t.Fatal(err)
			}
			var names []string
			for _, name := range slices.Sorted(maps.Keys(got.Declared)) {
				names = append(names, string(name))
			}
			for name := range got.Denied {
				names = append(names, "not "+string(name))
			}
			if text := strings.Join(names, " "); text != tt.want {
				t.Errorf("got %q, want %q", text, tt.want)
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

// While the API server does not answer, auto waits unless it is known who forwarded before.
// The other modes go by the node, and so does auto without the right to ask.
func TestDecideWithoutAPI(t *testing.T) {
	away := apierrors.NewServiceUnavailable("away")
	forbidden := apierrors.NewForbidden(schema.GroupResource{Resource: "daemonsets"}, "kube-proxy", nil)
	tests := []struct {
		name  string
		mode  Mode
		saved *saved.State
		err   error
		want  proxies.Name
	}{
		{"auto knows", Auto, &saved.State{Proxy: "kube-proxy"}, away, proxies.KubeProxy},
		{"auto may not ask", Auto, nil, forbidden, Fairlead},
		{"full", Full, nil, away, Fairlead},
		{"full may not ask", Full, nil, forbidden, Fairlead},
		{"off", Off, nil, away, proxies.Another},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a, client := newAgent(t, tt.mode)
			a.cluster.saved = tt.saved
			failing(client, tt.err)
			synctest.Test(t, func(t *testing.T) {
				got, err := a.chooseProxy(t.Context())
				if got.Proxy != tt.want || err != nil {
					t.Errorf("got %+v, %v", got, err)
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
			if got, err := a.chooseProxy(t.Context()); got.Proxy != Fairlead || time.Since(began) < time.Hour {
				t.Errorf("got %+v, %v after %s", got, err, time.Since(began))
			}
		})
	})
}

// rules are what kube-proxy has in the kernel, written for the nth time.
func rules(nth int) map[proxies.Object]string {
	return map[proxies.Object]string{{Kind: proxies.Table, Name: "ip kube-proxy"}: fmt.Sprint(nth)}
}

func port10256() map[uint16]bool { return map[uint16]bool{10256: true} }

// On a node that has something of a proxy at the start, an agent that does not know who
// forwarded waits for a sign of life. One that forwarded goes on.
func TestChooseProxyByTheNode(t *testing.T) {
	late := func(after time.Duration) func() proxies.Facts {
		began := time.Time{}
		return func() proxies.Facts {
			if began.IsZero() {
				began = time.Now()
			}
			f := proxies.Facts{Objects: rules(1)}
			if time.Since(began) >= after {
				f.Listening = port10256()
			}
			return f
		}
	}
	tests := []struct {
		name   string
		mode   Mode
		saved  *saved.State
		traces func() proxies.Facts
		want   string
		within time.Duration
	}{
		{"kube-proxy answers late", Auto, nil, late(5 * time.Second), "kube-proxy LeftToAnother", 6 * time.Second},
		{"kube-proxy never answers", Auto, nil, late(time.Hour), "fairlead LeftBehind", settleFor + time.Second},
		{"after a restart", Auto, &saved.State{Proxy: "fairlead"}, late(time.Hour), "fairlead LeftBehind", 0},
		{"after a restart beside kube-proxy", Auto, &saved.State{Proxy: "kube-proxy"}, late(time.Hour), "kube-proxy LeftToAnother", 0},
		{"a port alone", Auto, nil, func() proxies.Facts { return proxies.Facts{Listening: port10256()} }, "another NotCertain", 0},
		{"told to forward", Full, nil, late(0), "kube-proxy Refused", 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a, _ := newAgent(t, tt.mode)
			a.cluster.saved, a.others.traces = tt.saved, tt.traces
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				got, err := a.chooseProxy(t.Context())
				if text := fmt.Sprint(got.Proxy, " ", got.Reason); text != tt.want || err != nil {
					t.Errorf("got %s, %v", text, err)
				}
				if took := time.Since(began); took > tt.within {
					t.Errorf("decided after %s", took)
				}
			})
		})
	}
}

// watched runs watchOthers of an agent beside whom forwards, with what the node shows, which
// changed may change, and returns the error and when it came.
func watched(t *testing.T, a *Agent, whom proxies.Name, traces *proxies.Facts, changed func()) (time.Duration, error) {
	t.Helper()
	a.engine.proxy = whom
	var mu sync.Mutex
	a.others.traces = func() proxies.Facts {
		mu.Lock()
		defer mu.Unlock()
		return *traces
	}
	done := make(chan error)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() { done <- a.watchOthers(ctx) }()
	time.Sleep(time.Hour)
	synctest.Wait()
	mu.Lock()
	changed()
	mu.Unlock()
	began := time.Now()
	time.AfterFunc(time.Hour, cancel)
	err := <-done
	return time.Since(began), err
}

// When another proxy goes from a node, the agent starts again, and forwards. Before it
// leaves the forwarding to one that came, it leaves the ports to it and waits for it. It says
// that another one forwards when that is so, and not before.
func TestWatchOthers(t *testing.T) {
	t.Run("a DaemonSet goes", func(t *testing.T) {
		a, client := newAgent(t, Auto, kubeProxy(3))
		synctest.Test(t, func(t *testing.T) {
			took, err := watched(t, a, proxies.KubeProxy, &proxies.Facts{}, func() {
				if err := client.AppsV1().DaemonSets("kube-system").Delete(t.Context(), "kube-proxy", metav1.DeleteOptions{}); err != nil {
					t.Error(err)
				}
			})
			if !errors.Is(err, ErrChanged) || took > lookEvery*3/2+traceEvery {
				t.Errorf("after %s: %v", took, err)
			}
		})
	})
	tests := []struct {
		name        string
		whom        proxies.Name
		before      proxies.Facts
		after       proxies.Facts
		yields      bool
		from, until time.Duration // until is 0 if the agent stays
	}{
		{"a process ends and leaves its rules", proxies.KubeProxy, proxies.Facts{Objects: rules(1), Listening: port10256()}, proxies.Facts{Objects: rules(1)},
			false, proxies.Grace - traceEvery, proxies.Grace + traceEvery},
		{"its rules go with it", proxies.KubeProxy, proxies.Facts{Objects: rules(1), Listening: port10256()}, proxies.Facts{}, false, 0, traceEvery},
		{"one comes and nothing answers", Fairlead, proxies.Facts{}, proxies.Facts{Objects: rules(1), Listening: port10256()}, true, yieldFor - traceEvery, yieldFor + 3*traceEvery},
		{"one whose rules were there comes back", Fairlead, proxies.Facts{Objects: rules(1)}, proxies.Facts{Objects: rules(2)}, true, yieldFor - traceEvery, yieldFor + 3*traceEvery},
		{"rules that are left go", Fairlead, proxies.Facts{Objects: rules(1)}, proxies.Facts{}, false, 0, 0},
		{"nothing changes", Fairlead, proxies.Facts{}, proxies.Facts{}, false, 0, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a, _ := newAgent(t, Auto)
			a.cfg.OtherHealth = "http://nobody.invalid:0" // no answer
			yielded := false
			a.yield = func() { yielded = true }
			synctest.Test(t, func(t *testing.T) {
				a.engine.other.client.Transport = refusing{}
				now := tt.before
				took, err := watched(t, a, tt.whom, &now, func() { now = tt.after })
				if tt.until == 0 && err != nil || tt.until > 0 && (!errors.Is(err, ErrChanged) || took < tt.from || took > tt.until) || yielded != tt.yields {
					t.Errorf("after %s, ports left: %v: %v", took, yielded, err)
				}
				said := a.others.now
				if said.Proxy != tt.whom || strings.Contains(said.Message, "until kube-proxy (") != tt.yields {
					t.Errorf("%s forwarded to the end, and the agent said: %s (%s)", tt.whom, said.Message, said.Reason)
				}
			})
		})
	}
}

// refusing is a network in which nothing answers.
type refusing struct{}

func (refusing) RoundTrip(*http.Request) (*http.Response, error) { return nil, errors.New("refused") }

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
	a.engine.proxy, a.cfg.OtherHealth = proxies.KubeProxy, srv.URL
	a.say(Forwarder{Proxy: proxies.KubeProxy})
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
