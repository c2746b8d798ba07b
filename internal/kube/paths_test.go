package kube

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/rest"
)

func TestCandidates(t *testing.T) {
	p := &Paths{given: []string{"lb:6443", "192.0.2.11:6443"}, local: []string{"127.0.0.1:7445"}}
	const asked = "198.51.100.1:443"
	same := func([]string) {}
	want := func(when string, want ...string) {
		t.Helper()
		if got := p.candidates(asked, same); !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", when, got, want)
		}
	}
	want("at first", "lb:6443", "192.0.2.11:6443", asked, "127.0.0.1:7445")
	p.Learn([]netip.AddrPort{netip.MustParseAddrPort("192.0.2.11:6443"), netip.MustParseAddrPort("[2001:db8::11]:6443")})
	want("learned", "lb:6443", "192.0.2.11:6443", asked, "[2001:db8::11]:6443", "127.0.0.1:7445")
	p.took("[2001:db8::11]:6443")
	want("after one worked", "[2001:db8::11]:6443", "lb:6443", "192.0.2.11:6443", asked, "127.0.0.1:7445")
	p.Learn(nil)
	want("a cluster that shows none", "[2001:db8::11]:6443", "lb:6443", "192.0.2.11:6443", asked, "127.0.0.1:7445")
	if got := p.candidates(asked, slices.Reverse); got[1] != "192.0.2.11:6443" || p.given[0] != "lb:6443" {
		t.Errorf("shuffled: %q, and what was given is %q", got, p.given)
	}
}

// Where the kubelet may be connected is asked last, and no longer once anything worked.
func TestCandidatesOfTheKubelet(t *testing.T) {
	p := &Paths{local: []string{"127.0.0.1:6443"}, connected: func() []netip.AddrPort {
		return []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:6443"), netip.MustParseAddrPort("192.0.2.11:6443")}
	}}
	same := func([]string) {}
	if got, want := p.candidates("198.51.100.1:443", same), []string{"198.51.100.1:443", "127.0.0.1:6443", "192.0.2.11:6443"}; !slices.Equal(got, want) {
		t.Errorf("at first: %q, want %q", got, want)
	}
	p.took("192.0.2.11:6443")
	if got, want := p.candidates("198.51.100.1:443", same), []string{"192.0.2.11:6443", "198.51.100.1:443", "127.0.0.1:6443"}; !slices.Equal(got, want) {
		t.Errorf("after one worked: %q, want %q", got, want)
	}
}

// A node that knows no API server, on which nobody serves the ClusterIP, finds the one
// that its kubelet is connected to.
func TestTheKubeletsServer(t *testing.T) {
	w := newWorld(t)
	stranger, right := w.serve("stranger", w.issue("127.0.0.1")), w.serve("right", w.issue(clusterIP))
	c := w.connect()
	c.Paths.connected = func() []netip.AddrPort {
		return []netip.AddrPort{netip.MustParseAddrPort(stranger.Listener.Addr().String()), netip.MustParseAddrPort(right.Listener.Addr().String())}
	}
	w.from(c, "right")
	if n := w.asked.Load(); n != 0 {
		t.Errorf("a stranger got %d requests", n)
	}
}

func TestGivenServers(t *testing.T) {
	p, err := reach(&rest.Config{}, []string{"https://192.0.2.11:6443", "https://[2001:db8::11]:6443", "https://api.example"}, false)
	if err != nil || !slices.Equal(p.given, []string{"192.0.2.11:6443", "[2001:db8::11]:6443", "api.example:443"}) || p.local != nil {
		t.Errorf("%+v, %v", p, err)
	}
	for _, bad := range []string{"192.0.2.11:6443", "http://192.0.2.11:6443", "https://:6443"} {
		if _, err := reach(&rest.Config{}, []string{bad}, false); err == nil {
			t.Errorf("%s is taken", bad)
		}
	}
}

// world is API servers of one cluster, and strangers.
type world struct {
	*testing.T
	ca     []byte
	issue  func(names ...string) tls.Certificate
	asked  atomic.Int64 // requests that a stranger got
	config *rest.Config // names a ClusterIP that nobody serves
}

const clusterIP = "127.97.31.1" // refuses connections; the certificates name it

func newWorld(t *testing.T) *world {
	ca, issue := authority(t)
	return &world{T: t, ca: ca, issue: issue, config: &rest.Config{
		Host: "https://" + clusterIP + ":1", BearerToken: "secret", TLSClientConfig: rest.TLSClientConfig{CAData: ca},
	}}
}

// authority makes certificates that its own certificate vouches for.
func authority(t *testing.T) (ca []byte, issue func(names ...string) tls.Certificate) {
	t.Helper()
	make := func(template, parent *x509.Certificate, by *ecdsa.PrivateKey) (*ecdsa.PrivateKey, []byte) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		if by == nil {
			by = key
		}
		template.SerialNumber, template.NotBefore, template.NotAfter = big.NewInt(1), time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
		der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), by)
		if err != nil {
			t.Fatal(err)
		}
		return key, der
	}
	root := &x509.Certificate{Subject: pkix.Name{CommonName: "test"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	rootKey, der := make(root, root, nil)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), func(names ...string) tls.Certificate {
		leaf := &x509.Certificate{Subject: pkix.Name{CommonName: "leaf"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
		for _, n := range names {
			leaf.IPAddresses = append(leaf.IPAddresses, net.ParseIP(n))
		}
		key, der := make(leaf, root, rootKey)
		return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
	}
}

// serve starts a server with a certificate. It says its name as its version.
func (w *world) serve(name string, cert tls.Certificate) *httptest.Server {
	w.Helper()
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(out http.ResponseWriter, r *http.Request) {
		if name == "stranger" || r.Header.Get("Authorization") != "Bearer secret" {
			w.asked.Add(1)
		}
		fmt.Fprintf(out, `{"gitVersion": %q}`, name)
	}))
	s.TLS = &tls.Config{Certificates: []tls.Certificate{cert}}
	s.EnableHTTP2 = true
	s.StartTLS()
	w.Cleanup(s.Close)
	return s
}

// silent is a server that takes connections and says nothing.
func (w *world) silent() string {
	w.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() { _ = l.Close() })
	return "https://" + l.Addr().String()
}

// refused is an address where nobody listens.
func (w *world) refused() string {
	w.Helper()
	l, err := net.Listen("tcp", "127.97.31.2:0")
	if err != nil {
		w.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return "https://" + l.Addr().String()
}

func (w *world) connect(servers ...string) *Clients {
	w.Helper()
	cfg := rest.CopyConfig(w.config)
	p, err := reach(cfg, servers, false)
	if err != nil {
		w.Fatal(err)
	}
	c, err := FromConfig(cfg)
	if err != nil {
		w.Fatal(err)
	}
	c.Paths = p
	return c
}

// from waits until a server of that name answers.
func (w *world) from(c *Clients, want string) {
	w.Helper()
	var last error
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		v, err := c.Kube.Discovery().ServerVersion()
		if last = err; err == nil && v.GitVersion == want {
			return
		} else if err == nil {
			last = fmt.Errorf("%s answers", v.GitVersion)
		}
	}
	w.Fatalf("%s does not answer: %v", want, last)
}

// An API server is reached whatever else is at the candidates' addresses, and whatever
// name the candidate is given by. Who is not an API server of this cluster gets no
// request, and so no token.
func TestStrangersGetNothing(t *testing.T) {
	w := newWorld(t)
	_, foreign := authority(t)
	kubelet := w.issue("127.0.0.1") // the same authority, another name
	c := w.connect(w.refused(), w.silent(), w.serve("stranger", foreign(clusterIP)).URL, w.serve("stranger", kubelet).URL, w.serve("right", w.issue(clusterIP)).URL)
	w.from(c, "right")
	if n := w.asked.Load(); n != 0 {
		t.Errorf("strangers got %d requests", n)
	}
}

// When the API server that was in use dies, another that the cluster had shown is used.
func TestAnotherServerWhenOneDies(t *testing.T) {
	w := newWorld(t)
	first, second := w.serve("first", w.issue(clusterIP)), w.serve("second", w.issue(clusterIP))
	c := w.connect(first.URL)
	w.from(c, "first")
	c.Paths.Learn([]netip.AddrPort{netip.MustParseAddrPort(second.Listener.Addr().String())})
	w.from(c, "first")
	first.CloseClientConnections()
	first.Close()
	w.from(c, "second")
}

// The error names every candidate, and is one after which informers ask again.
func TestNobodyAnswers(t *testing.T) {
	w := newWorld(t)
	at := w.refused()
	p := w.connect(at).Paths
	conn, err := p.dial(t.Context(), "tcp", clusterIP+":1")
	if err == nil {
		_ = conn.Close()
		t.Fatal("somebody answers")
	}
	if !nobody(err) || !strings.Contains(err.Error(), strings.TrimPrefix(at, "https://")) || !strings.Contains(err.Error(), clusterIP) {
		t.Errorf("the error is %v", err)
	}
}

// Where nobody has said where an API server is, the error says what to give.
func TestNobodyIsKnown(t *testing.T) {
	p := newWorld(t).connect().Paths
	says := func(want bool) {
		t.Helper()
		conn, err := p.dial(t.Context(), "tcp", clusterIP+":1")
		if err == nil {
			_ = conn.Close()
			t.Fatal("somebody answers")
		}
		if got := errors.Is(err, errUnknown); got != want {
			t.Errorf("the error is %v", err)
		}
	}
	says(true)
	p.Learn([]netip.AddrPort{netip.MustParseAddrPort("127.97.31.3:1")})
	says(false)
}

// What does not follow EndpointSlices asks for the one of the API servers.
func TestLearnServers(t *testing.T) {
	no, port, name := false, int32(6443), "https"
	c := &Clients{Paths: &Paths{}, Kube: fake.NewClientset(&discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "kubernetes"}, AddressType: discoveryv1.AddressTypeIPv4,
		Endpoints: []discoveryv1.Endpoint{{Addresses: []string{"192.0.2.12"}}, {Addresses: []string{"192.0.2.11"}}, {Addresses: []string{"192.0.2.13"}, Conditions: discoveryv1.EndpointConditions{Ready: &no}}},
		Ports:     []discoveryv1.EndpointPort{{Name: &name, Port: &port}},
	})}
	if err := c.LearnServers(t.Context()); err != nil {
		t.Fatal(err)
	}
	if want := []string{"192.0.2.11:6443", "192.0.2.12:6443"}; !slices.Equal(c.Paths.learned, want) {
		t.Errorf("learned %q, want %q", c.Paths.learned, want)
	}
	if err := (&Clients{}).LearnServers(t.Context()); err != nil { // of a kubeconfig: nothing to learn
		t.Error(err)
	}
}

// A Snapshot shows the API servers too.
func TestServersIn(t *testing.T) {
	b := NewBuilder()
	for _, name := range []string{"a", "kubernetes", "z"} {
		b.Set(&corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}})
	}
	if got := ServersIn(b.Snapshot()); got != nil {
		t.Errorf("without a slice: %v", got)
	}
	port, name := int32(6443), "https"
	b.Set(&discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "kubernetes", Labels: map[string]string{discoveryv1.LabelServiceName: "kubernetes"}},
		Endpoints:  []discoveryv1.Endpoint{{Addresses: []string{"2001:db8::11"}}}, AddressType: discoveryv1.AddressTypeIPv6,
		Ports: []discoveryv1.EndpointPort{{Name: &name, Port: &port}},
	})
	if got := ServersIn(b.Snapshot()); len(got) != 1 || got[0].String() != "[2001:db8::11]:6443" {
		t.Errorf("the API servers are %v", got)
	}
}
