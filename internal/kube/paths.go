package kube

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/fairlead/fairlead/internal/snapshot"
)

const (
	// headStart is how long the candidates so far have before one more is tried. A
	// ClusterIP that nobody serves drops packets, and only time shows that.
	headStart = 300 * time.Millisecond
	// dialLimit is how long all candidates together have.
	dialLimit = 5 * time.Second
)

// local are the addresses where distributions have an API server, or a proxy to all
// of them, on every node: Talos' KubePrism, k0s, kubeadm's control planes and
// Kubespray's and RKE2's proxies, k3s, MicroK8s.
var local = []string{"127.0.0.1:7445", "127.0.0.1:7443", "127.0.0.1:6443", "127.0.0.1:6444", "127.0.0.1:16443"}

// keepAlive ends a connection to an API server that lost power after 11 s. Without it
// only HTTP/2's own ping notices that, after 45 s.
var keepAlive = net.KeepAliveConfig{Enable: true, Idle: 5 * time.Second, Interval: 2 * time.Second, Count: 3}

// Paths are the ways to the API server. Each connection goes to the first candidate
// that proves to be an API server of this cluster: its certificate is of the cluster's
// authority and bears the name that the credentials expect. So a stranger on a
// candidate's address gets no token. It is safe for concurrent use.
type Paths struct {
	given []string // HOST:PORT
	local []string
	tls   func() (*tls.Config, error) // nil: nothing to prove
	// connected returns where other programs of the node are connected; nil: not known.
	connected func() []netip.AddrPort

	mu      sync.Mutex
	learned []string
	last    string // that was taken last
}

// reach makes cfg's connections by Paths: to servers, https URLs, and to the address
// that cfg names. With onNode the node's own addresses are candidates too.
func reach(cfg *rest.Config, servers []string, onNode bool) (*Paths, error) {
	p := &Paths{}
	if onNode {
		p.local = local
	}
	for _, s := range servers {
		u, err := url.Parse(s)
		if err != nil || u.Scheme != "https" || u.Hostname() == "" {
			return nil, fmt.Errorf("API server %q: want https://HOST:PORT", s)
		}
		port := u.Port()
		if port == "" {
			port = "443"
		}
		p.given = append(p.given, net.JoinHostPort(u.Hostname(), port))
	}
	plain := rest.CopyConfig(cfg)
	p.tls = func() (*tls.Config, error) { return proof(plain) }
	cfg.Dial = p.dial
	// A proxy of the environment would be dialled in the place of the API server.
	cfg.Proxy = func(*http.Request) (*url.URL, error) { return nil, nil }
	return p, nil
}

// Reach makes the connections of cfg, whose clients are made later, by Paths.
func Reach(cfg *rest.Config, servers []string) (*Paths, error) { return reach(cfg, servers, false) }

// proof returns what cfg asks of an API server's certificate.
func proof(cfg *rest.Config) (*tls.Config, error) {
	t, err := rest.TLSConfigFor(cfg)
	if err != nil || t == nil || t.ServerName != "" {
		return t, err
	}
	u, _, err := rest.DefaultServerUrlFor(cfg)
	if err == nil {
		t.ServerName = u.Hostname()
	}
	return t, err
}

// Learn takes the addresses of the API servers, as the cluster says them, in the place
// of those that were learned before. An empty list changes nothing: a cluster that is
// being restored shows none.
func (p *Paths) Learn(servers []netip.AddrPort) {
	if p == nil || len(servers) == 0 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.learned = texts(servers)
}

func texts(servers []netip.AddrPort) []string {
	out := make([]string, len(servers))
	for i, s := range servers {
		out[i] = s.String()
	}
	return out
}

// candidates returns where to try to connect, in order: what worked last, what was
// given, asked (the address that the credentials name), what was learned, the node's own
// addresses, and, as long as nothing has worked, where the node's kubelet may be connected.
func (p *Paths) candidates(asked string, shuffle func([]string)) (out []string) {
	p.mu.Lock()
	groups := [][]string{{p.last}, slices.Clone(p.given), {asked}, slices.Clone(p.learned), p.local}
	p.mu.Unlock()
	if p.connected != nil && groups[0][0] == "" {
		// A new node without kube-proxy knows no API server, and its kubelet has one.
		groups = append(groups, texts(p.connected()))
	}
	// All nodes would otherwise be at the first of several API servers.
	shuffle(groups[1])
	shuffle(groups[3])
	for _, c := range slices.Concat(groups...) {
		if c != "" && !slices.Contains(out, c) {
			out = append(out, c)
		}
	}
	return out
}

func shuffled(list []string) {
	rand.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
}

// tried is how an attempt at one candidate ended.
type tried struct {
	address string
	conn    net.Conn
	err     error
}

// dial connects to the first candidate that answers as an API server. Its error is of
// the operation "dial" and names each candidate.
func (p *Paths) dial(ctx context.Context, network, asked string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialLimit)
	defer cancel() // the attempts that are still under way end with it
	waiting := p.candidates(asked, shuffled)
	config, err := p.tls()
	if err != nil {
		return nil, fmt.Errorf("API server's certificate: %w", err)
	}
	results := make(chan tried)
	next := time.NewTimer(0)
	defer next.Stop()
	var failed []error
	for under := 0; under > 0 || len(waiting) > 0; {
		select {
		case <-next.C:
			if len(waiting) > 0 {
				go attempt(ctx, network, waiting[0], config, results)
				waiting, under = waiting[1:], under+1
				next.Reset(headStart)
			}
		case r := <-results:
			if r.err == nil {
				p.took(r.address)
				return r.conn, nil
			}
			under--
			failed = append(failed, fmt.Errorf("%s: %w", r.address, r.err))
			next.Reset(0)
		case <-ctx.Done():
			failed = append(failed, fmt.Errorf("%d more: %w", under+len(waiting), ctx.Err()))
			under, waiting = 0, nil
		}
	}
	if p.lost() {
		failed = append(failed, errUnknown)
	}
	return nil, &net.OpError{Op: "dial", Net: network, Err: errors.Join(failed...)}
}

// errUnknown says what to do where no API server can be found.
var errUnknown = errors.New("no address of an API server is known: give --api-servers (api.host of the chart)")

// lost reports whether no API server was given, nor ever found.
func (p *Paths) lost() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.given) == 0 && len(p.learned) == 0 && p.last == ""
}

func (p *Paths) took(address string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last = address
}

// attempt tries one address. The one who waits may have left by then: then ctx has ended.
func attempt(ctx context.Context, network, address string, config *tls.Config, results chan<- tried) {
	r := tried{address: address}
	if r.err = prove(ctx, network, address, config); r.err == nil {
		r.conn, r.err = (&net.Dialer{KeepAliveConfig: keepAlive}).DialContext(ctx, network, address)
	}
	select {
	case results <- r:
	case <-ctx.Done():
		if r.conn != nil {
			_ = r.conn.Close()
		}
	}
}

// prove connects to address and lets it prove that it is an API server of this cluster.
// The connection is one of its own: the caller of the dialer makes its TLS itself, and
// does not come back for another address when that fails.
func prove(ctx context.Context, network, address string, config *tls.Config) error {
	if config == nil {
		return nil
	}
	conn, err := (&tls.Dialer{Config: config}).DialContext(ctx, network, address)
	if err != nil {
		return err
	}
	return conn.Close()
}

// apiServer is the Service whose endpoints are the API servers.
var apiServer = snapshot.Ref{Namespace: "default", Name: "kubernetes"}

// LearnEvery is how often LearnServers is to be called.
const LearnEvery = 5 * time.Minute

// LearnServers asks the API server for the addresses of all API servers, and lets Paths
// learn them. It is for a process that does not follow EndpointSlices.
func (c *Clients) LearnServers(ctx context.Context) error {
	if c.Paths == nil {
		return nil
	}
	sl, err := c.Kube.DiscoveryV1().EndpointSlices(apiServer.Namespace).Get(ctx, apiServer.Name, metav1.GetOptions{ResourceVersion: "0"})
	if apierrors.IsNotFound(err) {
		return nil // a cluster may keep its API servers to itself
	}
	if err != nil {
		return fmt.Errorf("addresses of the API servers: %w", err)
	}
	c.Paths.Learn(ready(toEndpoints(sl)))
	return nil
}

// ServersIn returns the addresses of the API servers that s shows.
func ServersIn(s *snapshot.Snapshot) []netip.AddrPort {
	i, found := slices.BinarySearchFunc(s.Services, apiServer, func(svc *snapshot.Service, ref snapshot.Ref) int { return svc.Ref.Compare(ref) })
	if !found {
		return nil
	}
	return ready(s.Services[i].Endpoints)
}

func ready(endpoints []snapshot.Endpoint) (servers []netip.AddrPort) {
	for _, e := range endpoints {
		if e.Ready {
			servers = append(servers, e.Addr)
		}
	}
	return servers
}
