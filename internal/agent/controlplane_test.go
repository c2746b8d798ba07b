package agent

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/fairlead/fairlead/internal/controlplane"
	"github.com/fairlead/fairlead/internal/controlplane/livez"
	"github.com/fairlead/fairlead/internal/controlplane/redirect"
	"github.com/fairlead/fairlead/internal/keyring"
	"github.com/fairlead/fairlead/internal/reconcile"
	"github.com/fairlead/fairlead/internal/test/asktest"
	"github.com/fairlead/fairlead/internal/test/nstest"
	"github.com/fairlead/fairlead/internal/test/routertest"
)

// runControlPlane makes this test's binary the ControlPlane of a node: it holds the folder
// with its key, and overBGP after a space if there is a router.
const runControlPlane = "FAIRLEAD_CONTROL_PLANE"

// The API server's addresses, and the three nodes of plugPeers.
var (
	apiVIPs  = []netip.Addr{netip.MustParseAddr("198.18.0.90"), netip.MustParseAddr("fd98:18::90")}
	apiNodes = []netip.Addr{netip.MustParseAddr("198.18.0.1"), netip.MustParseAddr("198.18.0.2"), netip.MustParseAddr("198.18.0.3")}
)

// overBGP has the addresses announced to apiRouter.
const overBGP = "bgp"

var apiRouter = netip.MustParseAddr("198.18.0.100")

func controlPlaneMain(spec string) error {
	dir, mode, _ := strings.Cut(spec, " ")
	cfg := controlplane.Config{Addresses: apiVIPs, Port: 6443, Members: apiNodes}
	if mode == overBGP {
		cfg.BGP = controlplane.BGP{ASN: 64512, Peers: []controlplane.Peer{{Addr: apiRouter, ASN: 64513}}, Password: "secret"}
	}
	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer cancel()
	c, err := NewControlPlane(ControlPlaneConfig{
		Config:      cfg,
		MembersPort: controlplane.MembersPort, KeyFile: dir + "/members.key", Log: slog.New(slog.NewTextHandler(os.Stderr, nil)),
		Ask: func(own netip.Addr) func(context.Context) (controlplane.Answer, error) {
			return patient(livez.New(netip.AddrPortFrom(own, 6443), "").Ask)
		},
	})
	if err != nil {
		return err
	}
	return c.Run(ctx)
}

// patient asks again where an answer came too late: the stand-ins never hang, and the machine
// that runs this test may be busy.
func patient(ask func(context.Context) (controlplane.Answer, error)) func(context.Context) (controlplane.Answer, error) {
	return func(ctx context.Context) (controlplane.Answer, error) {
		for {
			answer, err := ask(ctx)
			var late net.Error
			if !errors.As(err, &late) || !late.Timeout() || ctx.Err() != nil {
				return answer, err
			}
		}
	}
}

// standIn is a node's kube-apiserver, as far as /livez goes. It says which node's it is.
type standIn struct {
	node   string
	space  nstest.Space
	sick   atomic.Bool // it says that it does not live
	server *httptest.Server
	extra  net.Listener // for IPv6
}

func (s *standIn) start(t *testing.T, number int) {
	t.Helper()
	h := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if s.sick.Load() {
			w.WriteHeader(http.StatusInternalServerError)
		}
		_, _ = io.WriteString(w, s.node)
	})
	s.server = httptest.NewUnstartedServer(h)
	s.server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	_ = s.server.Listener.Close()
	s.space.Do(t, func() (err error) {
		s.server.Listener, err = net.Listen("tcp", fmt.Sprintf("198.18.0.%d:6443", number))
		if err == nil {
			s.extra, err = net.Listen("tcp", fmt.Sprintf("[fd98:18::%d]:6443", number))
		}
		return err
	})
	s.server.StartTLS()
	config := s.server.TLS
	go func() { _ = s.server.Config.Serve(tls.NewListener(s.extra, config)) }()
}

func (s *standIn) stop() {
	_ = s.extra.Close()
	s.server.Close()
}

// controlPlanes are three control-plane nodes and a client on one switch.
type controlPlanes struct {
	*peers
	servers map[string]*standIn
	dir     string // with the key
	mode    string // overBGP, or empty
}

// newControlPlanes starts all of them.
func newControlPlanes(t *testing.T, mode string) *controlPlanes {
	c := plugControlPlanes(t, mode)
	for _, name := range c.names {
		c.run(t, name, c.dir)
	}
	return c
}

// plugControlPlanes makes nodes with a kube-apiserver each.
func plugControlPlanes(t *testing.T, mode string) *controlPlanes {
	c := &controlPlanes{peers: plugPeers(t, peerSetup{}), servers: map[string]*standIn{}, dir: t.TempDir(), mode: mode}
	c.addrs = apiVIPs
	if err := os.WriteFile(c.dir+"/members.key", keyring.Keys{[]byte(peerKey)}.Format(), 0o600); err != nil {
		t.Fatal(err)
	}
	for i, name := range c.names {
		c.servers[name] = &standIn{node: name, space: c.spaces[name]}
		c.servers[name].start(t, i+1)
		t.Cleanup(c.servers[name].stop)
	}
	return c
}

// run starts the ControlPlane of a node, with the key in dir.
func (c *controlPlanes) run(t *testing.T, name, dir string) {
	t.Helper()
	log, err := os.OpenFile(c.logs+"/"+name, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("ip", "netns", "exec", c.spaces[name].Name, os.Args[0])
	cmd.Env, cmd.Stderr = append(os.Environ(), runControlPlane+"="+dir+" "+c.mode), log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c.cmds[name] = cmd
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		_ = log.Close()
	})
}

// owner waits until one node answers for all addresses, and returns it.
func (c *controlPlanes) owner(t *testing.T) (name string) {
	t.Helper()
	// Each address is elected by itself. One node may have both.
	return c.settled(t)[apiVIPs[0]]
}

// answers is what a client got that asks an address all the time.
type answers struct {
	gap   time.Duration // the longest time without a good answer
	nodes []string      // that answered, each after another one did
	last  error
}

// load asks the first address every 20 ms, each time by a new connection, until stop and a
// good answer after it.
func (c *controlPlanes) load(t *testing.T) (stop func() answers) {
	t.Helper()
	end := make(chan struct{})
	var got answers
	var wg sync.WaitGroup
	wg.Go(func() {
		good, answered := time.Now(), false // answered: the last question was
		for {
			select {
			case <-end:
				got.gap = max(got.gap, time.Since(good))
				if answered || time.Since(good) > asktest.Wide.Silence {
					return
				}
			case <-time.After(20 * time.Millisecond):
			}
			node, err := askLivez(c.client, apiVIPs[0])
			if answered = err == nil; !answered {
				got.last = err
				continue
			}
			got.gap, good = max(got.gap, time.Since(good)), time.Now()
			if n := len(got.nodes); n == 0 || got.nodes[n-1] != node {
				got.nodes = append(got.nodes, node)
			}
		}
	})
	return func() answers {
		close(end)
		wg.Wait()
		return got
	}
}

// askLivez asks once, and returns which node's server said that it lives.
func askLivez(s nstest.Space, vip netip.Addr) (node string, err error) {
	err = s.In(func() error {
		conn, err := net.DialTimeout("tcp", netip.AddrPortFrom(vip, 6443).String(), 250*time.Millisecond)
		if err != nil {
			return err
		}
		defer func() { _ = conn.Close() }()
		_ = conn.SetDeadline(time.Now().Add(2 * time.Second))
		c := tls.Client(conn, &tls.Config{InsecureSkipVerify: true}) //nolint:gosec // a stand-in's
		if _, err := io.WriteString(c, "GET /livez HTTP/1.0\r\n\r\n"); err != nil {
			return err
		}
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			return err
		}
		defer func() { _ = resp.Body.Close() }()
		body, err := io.ReadAll(resp.Body)
		node = string(body)
		if resp.StatusCode != http.StatusOK {
			err = errors.Join(err, errors.New(resp.Status))
		}
		return err
	})
	return node, err
}

// expect checks what the client got while something happened.
func expect(t *testing.T, what string, got answers, moved bool) {
	t.Helper()
	t.Logf("%s: %v without an answer, by %v (%v)", what, got.gap.Round(time.Millisecond), got.nodes, got.last)
	if got.gap > asktest.Wide.Silence {
		t.Errorf("%s: no answer for %v: %v", what, got.gap, got.last)
	}
	if !moved && len(got.nodes) != 1 {
		t.Errorf("%s: the address moved: %v", what, got.nodes)
	}
}

// allSick makes all kube-apiservers say that they do not live, or that they do, and waits until
// their nodes are not fit, or are.
func (c *controlPlanes) allSick(t *testing.T, sick bool) {
	t.Helper()
	for _, s := range c.servers {
		s.sick.Store(sick)
	}
	for _, name := range c.names {
		if sick {
			c.logged(t, name, "500 Internal Server Error")
			continue
		}
		nstest.Eventually(t, name+" is fit", func() bool {
			node, err := askLivez(c.spaces[name], apiVIPs[0])
			return err == nil && node == name
		})
	}
}

// TestControlPlane: three control-plane nodes, and a client that asks the API server's
// address all the time. The address is at a node whose kube-apiserver lives, and at one
// node alone.
func TestControlPlane(t *testing.T) {
	t.Parallel()
	c := newControlPlanes(t, "")
	first := c.owner(t)
	heard := c.ask(t)

	stop := c.load(t)
	c.servers[first].stop()
	second := ""
	nstest.Eventually(t, "another node serves after a kube-apiserver stopped", func() bool {
		node, err := askLivez(c.client, apiVIPs[0])
		second = node
		return err == nil && node != first
	})
	expect(t, "the owner's kube-apiserver stops", stop(), true)
	nstest.Eventually(t, "programs of its own node reach the other one", func() bool {
		node, err := askLivez(c.spaces[first], apiVIPs[0])
		return err == nil && node == second
	})

	stop = c.load(t)
	c.servers[first].start(t, c.number(first))
	nstest.Eventually(t, "its own node's programs reach it again", func() bool {
		node, err := askLivez(c.spaces[first], apiVIPs[0])
		return err == nil && node == first
	})
	expect(t, "it is back", stop(), false)

	stop = c.load(t)
	c.end(t, second, syscall.SIGTERM)
	c.run(t, second, c.dir)
	c.logged(t, second, "adopted a held address")
	expect(t, "the owner's program restarts", stop(), false)

	c.allSick(t, true)
	c.settled(t) // somebody answers while no kube-apiserver lives
	stop = c.load(t)
	c.allSick(t, false)
	third := c.owner(t)
	expect(t, "all live again", stop(), true)

	stop = c.load(t)
	c.cut(t, "iifname to-"+third, "oifname to-"+third)
	c.end(t, third, syscall.SIGKILL)
	nstest.Eventually(t, "another node serves after a loss of power", func() bool {
		node, err := askLivez(c.client, apiVIPs[0])
		return err == nil && node != third
	})
	expect(t, "the owner loses power", stop(), true)
	for addr, h := range heard() {
		if two := h.Doubled(100 * time.Millisecond); two > asktest.Wide.Doubled {
			t.Errorf("%s: two answered for %v", addr, two)
		}
	}
}

// TestControlPlaneThatNobodyKnows: a node that no other hears, as with another key or before
// the others know that it joins, finds the address in use and leaves it alone.
func TestControlPlaneThatNobodyKnows(t *testing.T) {
	t.Parallel()
	c := plugControlPlanes(t, "")
	c.run(t, "a", c.dir)
	c.run(t, "b", c.dir)
	owner := c.owner(t)
	heard := c.ask(t)
	other := t.TempDir()
	if err := os.WriteFile(other+"/members.key", keyring.Keys{[]byte("fedcba9876543210fedcba9876543210")}.Format(), 0o600); err != nil {
		t.Fatal(err)
	}
	c.run(t, "c", other)
	c.logged(t, "c", "electable=true")
	c.logged(t, "c", "another device has the address")
	for addr, h := range heard() {
		if macs := h.Moves(); len(macs) != 1 {
			t.Errorf("%s, which was at %s, is answered by %v", addr, owner, macs)
		}
	}
}

// TestControlPlaneOverBGP: a router has a way to the address by each node whose
// kube-apiserver lives, and by all nodes while none lives.
func TestControlPlaneOverBGP(t *testing.T) {
	t.Parallel()
	c := newControlPlanes(t, overBGP)
	conf := routertest.Config{ASN: 64513, ID: apiRouter.String()}
	for _, node := range apiNodes {
		conf.Neighbors = append(conf.Neighbors, routertest.Neighbor{Addr: node.String(), Local: apiRouter.String(), ASN: 64512, Password: "secret"})
	}
	router := routertest.Routers["BIRD"](t, c.client, conf).(*routertest.BIRD)
	by := func(what, nodes string) {
		t.Helper()
		routertest.Within(t, what, func() bool {
			text, ways := router.Show(t, "show route all"), ""
			for _, name := range c.names {
				if strings.Contains(text, fmt.Sprintf("via 198.18.0.%d ", c.number(name))) {
					ways += name
				}
			}
			return ways == nodes
		})
	}
	by("all live", "abc")
	c.servers["a"].sick.Store(true)
	by("one does not", "bc")
	c.servers["b"].sick.Store(true)
	c.servers["c"].sick.Store(true)
	by("none does", "abc")
	c.servers["b"].sick.Store(false)
	by("one does again", "b")
}

func (c *controlPlanes) number(name string) int { return strings.Index("abc", name) + 1 }

// logged waits until a node's ControlPlane said something.
func (c *controlPlanes) logged(t *testing.T, name, what string) {
	t.Helper()
	nstest.Eventually(t, name+" says "+what, func() bool {
		text, err := os.ReadFile(c.logs + "/" + name)
		return err == nil && strings.Contains(string(text), what)
	})
}

// A key that others may read is refused, and so is one that is none.
func TestReadKeys(t *testing.T) {
	file := t.TempDir() + "/key"
	for _, c := range []struct {
		text string
		mode os.FileMode
		want string
	}{
		{string(keyring.Keys{[]byte(peerKey)}.Format()), 0o600, ""},
		{string(keyring.Keys{[]byte(peerKey)}.Format()), 0o640, "chmod 600"},
		{"secret", 0o600, "not base64"},
		{"", 0o600, "there is no key"},
	} {
		if err := errors.Join(os.WriteFile(file, []byte(c.text), c.mode), os.Chmod(file, c.mode)); err != nil {
			t.Fatal(err)
		}
		_, err := readKeys(file)
		if said := fmt.Sprint(err); (err == nil) != (c.want == "") || !strings.Contains(said, c.want) || strings.Contains(said, "secret") {
			t.Errorf("%q with mode %o: %v, want %q", c.text, c.mode, err, c.want)
		}
	}
}

// The redirects that an earlier process left stay until it is known what is wanted, and Held
// follows what the kernel took.
func TestRedirectsWait(t *testing.T) {
	kernel := &redirectLog{}
	moved := 0
	r := newRedirects(kernel, slog.New(slog.DiscardHandler), func() { moved++ })
	step := func() { _ = r.step(t.Context()) }
	step()
	if kernel.calls != 0 {
		t.Error("the kernel was told before it was known what")
	}
	want := []redirect.Redirect{{VIP: netip.AddrPortFrom(apiVIPs[0], 6443), Node: apiNodes[0]}}
	r.Give(want)
	kernel.fails = errors.New("no")
	if step(); r.Held()[apiVIPs[0]] || moved != 0 {
		t.Error("held without the kernel")
	}
	kernel.fails = nil
	if step(); !r.Held()[apiVIPs[0]] || moved != 1 {
		t.Error("not held")
	}
	r.Give(nil)
	if step(); len(r.Held()) != 0 || moved != 2 {
		t.Error("still held")
	}
}

type redirectLog struct {
	calls int
	fails error
}

func (l *redirectLog) Sync([]redirect.Redirect) error {
	l.calls++
	return l.fails
}

// The members that the cluster shows are kept for a start without an API server. A cluster
// that shows none is not believed.
func TestMembersAreKept(t *testing.T) {
	c := &ControlPlane{cfg: ControlPlaneConfig{StateDir: t.TempDir(), Log: slog.New(slog.DiscardHandler)}}
	c.decision.loop = reconcile.New("test", c.cfg.Log)
	c.setMembers(apiNodes)
	c.setMembers(nil)
	kept, err := load(c.cfg.StateDir, membersFile, controlplane.ParseMembers)
	if err != nil || !slices.Equal(kept, apiNodes) || !slices.Equal(c.world().Members, apiNodes) {
		t.Errorf("kept are %v, %v, and known are %v", kept, err, c.world().Members)
	}
}
