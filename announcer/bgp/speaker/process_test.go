package speaker_test

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/fairlead/fairlead/announcer/bgp"
	"github.com/fairlead/fairlead/announcer/bgp/gobgp"
	"github.com/fairlead/fairlead/announcer/bgp/speaker"
	"github.com/fairlead/fairlead/internal/link"
	"github.com/fairlead/fairlead/internal/test/nstest"
	"github.com/fairlead/fairlead/internal/test/routertest"
)

// speaking makes the test binary a process that runs one Speaker, for a test to
// start in a namespace and to kill.
const speaking = "SPEAKER_PROCESS"

// session makes it, as its first argument, the process of one session.
const session = "session"

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == session {
		pipes, err := gobgp.Inherited()
		if err == nil {
			err = gobgp.Serve(context.Background(), pipes, slog.New(slog.NewTextHandler(os.Stderr, nil)))
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "session:", err)
			os.Exit(1)
		}
		return
	}
	if os.Getenv(speaking) != "" {
		speak()
		return
	}
	_ = flag.Set("test.parallel", "4") // the tests wait for routers more than they work
	os.Exit(m.Run())
}

// order is a line that a speaking process reads; it answers with a report.
type order struct {
	Do   string // "sync", "status", "weigh", "advertise" or "close"
	Plan bgp.Plan
}

type report struct {
	Took   time.Duration
	Status []speaker.Status
	Heap   uint64
}

func speak() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	s := speaker.New(slog.New(slog.NewTextHandler(os.Stderr, nil)), func() {}, func() *exec.Cmd { return exec.Command("/proc/self/exe", session) })
	done := make(chan struct{})
	go func() { _ = s.Run(ctx); close(done) }()
	go func() {
		in := json.NewDecoder(os.Stdin)
		for {
			var o order
			if in.Decode(&o) != nil {
				os.Exit(1)
			}
			_ = json.NewEncoder(os.Stdout).Encode(obey(s, o))
		}
	}()
	<-done // as an agent ends: the sessions are left to the kernel
}

func obey(s *speaker.Speaker, o order) report {
	began := time.Now()
	switch o.Do {
	case "sync":
		s.Sync(o.Plan)
	case "close":
		s.Close()
	case "advertise": // in this process, whose names of links are those of its namespace
		a, err := link.NewAdvertiser("eth0")
		if err != nil {
			panic(err)
		}
		go func() { _ = a.Run(context.Background()) }()
	}
	took := time.Since(began)
	var m runtime.MemStats
	if o.Do == "weigh" {
		runtime.GC()
		runtime.ReadMemStats(&m)
	}
	return report{Status: s.Status(), Heap: m.HeapAlloc, Took: took}
}

// process is a Speaker in a process and a namespace of its own.
type process struct {
	t   testing.TB
	cmd *exec.Cmd
	in  io.WriteCloser
	out *json.Decoder
}

func start(t testing.TB, ns nstest.Space) *process {
	t.Helper()
	cmd := exec.Command("ip", "netns", "exec", ns.Name, os.Args[0])
	cmd.Env = append(os.Environ(), speaking+"=1")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	said, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		for lines := bufio.NewScanner(said); lines.Scan(); {
			fmt.Fprintln(os.Stderr, "   speaker:", lines.Text())
		}
	}()
	p := &process{t: t, cmd: cmd, in: in, out: json.NewDecoder(bufio.NewReader(out))}
	t.Cleanup(p.kill)
	return p
}

func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
}

// stop ends the process as an agent's restart does.
func (p *process) stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	_ = p.cmd.Wait()
}

func (p *process) do(o order) report {
	p.t.Helper()
	if err := json.NewEncoder(p.in).Encode(o); err != nil {
		p.t.Fatal(err)
	}
	var r report
	if err := p.out.Decode(&r); err != nil {
		p.t.Fatalf("the speaker did not answer: %v", err)
	}
	return r
}

func (p *process) sync(peers ...bgp.Peer) report {
	p.t.Helper()
	return p.do(order{Do: "sync", Plan: plan(peers...)})
}

func (p *process) status() []speaker.Status { p.t.Helper(); return p.do(order{Do: "status"}).Status }

func (p *process) established(n int) func() bool {
	return func() bool {
		up := 0
		for _, st := range p.status() {
			if st.Established {
				up++
			}
		}
		return up == n
	}
}

func plan(peers ...bgp.Peer) bgp.Plan {
	return bgp.Plan{RouterID: netip.MustParseAddr("198.18.7.1"), Peers: peers}
}

// The addresses of the node and of the router behind the wire.
const (
	node4, router4 = "198.18.7.1", "198.18.7.2"
	node6, router6 = "fd98:7::1", "fd98:7::2"
	nodeASN        = 64500
	routerASN      = 64501
)

// wired is a node and a router on one wire, both families.
func wired(t testing.TB) (node, router nstest.Space) {
	t.Helper()
	node, router = nstest.New(t, "node"), nstest.New(t, "router")
	nstest.Wire(t, node, router, node4+"/24", router4+"/24")
	node.Run(t, "ip", "addr", "add", node6+"/64", "dev", "eth0", "nodad")
	router.Run(t, "ip", "addr", "add", router6+"/64", "dev", "eth0", "nodad")
	return node, router
}

func peer(name, addr string, prefixes ...string) bgp.Peer {
	p := bgp.Peer{
		Name: name, Addr: netip.MustParseAddr(addr), Port: 179, PeerASN: routerASN, LocalASN: nodeASN,
		Hold: 90 * time.Second, Keepalive: 30 * time.Second, Connect: time.Second,
	}
	for _, text := range prefixes {
		p.Paths = append(p.Paths, path(p, text))
	}
	return p
}

// path is what a plan has for a prefix of the node on the wire.
func path(p bgp.Peer, prefix string) bgp.Path {
	out := bgp.Path{Prefix: netip.MustParsePrefix(prefix)}
	if out.Prefix.Addr().Is4() != p.Addr.Is4() {
		out.NextHop = netip.MustParseAddr(map[bool]string{true: node4, false: node6}[out.Prefix.Addr().Is4()])
	}
	return out
}

// routes are the prefixes that a router's kernel has by BGP.
func routes(t testing.TB, ns nstest.Space) string {
	t.Helper()
	return ns.Run(t, "ip", "route", "show", "proto", "bgp") + ns.Run(t, "ip", "route", "show", "proto", "bird") +
		ns.Run(t, "ip", "-6", "route", "show", "proto", "bgp") + ns.Run(t, "ip", "-6", "route", "show", "proto", "bird")
}

var within = routertest.Within
