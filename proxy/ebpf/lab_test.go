package ebpf

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	bpf "github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/internal/test/nstest"
	"github.com/fairlead/fairlead/proxy"
	nftables "github.com/fairlead/fairlead/proxy/nftables/netlink"
)

// lab is a node with pods on a bridge: 198.18.1.N and fd98:0:1::N, the node is
// .1. Its pods' cgroup and its pins are its own. Nothing leads out of it,
// but the Services' addresses have a route, as by a default route.
type lab struct {
	node   nstest.Space
	cgroup string
	pins   string
	pods   map[string]nstest.Space
}

// cgroup2 is where cgroup v2 is mounted.
func cgroup2(t testing.TB) string {
	t.Helper()
	for _, dir := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"} {
		if isCgroup2(dir) {
			return dir
		}
	}
	if os.Getenv("REQUIRE_ROOT") == "1" {
		t.Fatal("REQUIRE_ROOT=1, and there is no cgroup v2")
	}
	t.Skip("needs cgroup v2")
	return ""
}

var cgroups atomic.Int64

// newCgroup makes a cgroup like a kubelet's, with one of a pod in it.
func newCgroup(t testing.TB) string {
	t.Helper()
	nstest.NeedRoot(t)
	node := filepath.Join(cgroup2(t), fmt.Sprintf("fairlead-test-%d-%d", os.Getpid(), cgroups.Add(1)))
	dirs := []string{node, node + "/kubepods", node + "/kubepods/pod"}
	for _, d := range dirs {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		nstest.Eventually(t, "the cgroups to be empty", func() bool {
			for _, d := range []string{dirs[2], dirs[1], dirs[0]} {
				if err := unix.Rmdir(d); err != nil && !errors.Is(err, fs.ErrNotExist) {
					return false
				}
			}
			return true
		})
	})
	return dirs[1]
}

func newLab(t testing.TB) *lab {
	t.Helper()
	l := &lab{node: nstest.New(t, "node"), cgroup: newCgroup(t), pins: nstest.BPFFS(t) + "/fairlead", pods: map[string]nstest.Space{}}
	l.node.Pipe(t, `link add pods type bridge
link set pods up
addr add 198.18.1.1/24 dev pods
addr add fd98:0:1::1/64 dev pods nodad
route add 198.18.96.0/24 dev pods
`, "ip", "-batch", "-")
	l.node.Run(t, "sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
	for i, name := range []string{"client", "podA", "podB"} {
		p := nstest.New(t, name)
		l.pods[name] = p
		l.node.Pipe(t, fmt.Sprintf(`link add %s type veth peer name eth0 netns %s
link set %[1]s up master pods
`, name, p.Name), "ip", "-batch", "-")
		p.Pipe(t, fmt.Sprintf(`addr add 198.18.1.%d/24 dev eth0
addr add fd98:0:1::%[1]d/64 dev eth0 nodad
link set eth0 up
route add default via 198.18.1.1
route add default via fd98:0:1::1
`, i+2), "ip", "-batch", "-")
	}
	serve(t, l.pods["podA"], "podA")
	serve(t, l.pods["podB"], "podB")
	return l
}

// serve answers on port 8080, over TCP and UDP, with a name.
func serve(t testing.TB, s nstest.Space, name string) {
	t.Helper()
	var l net.Listener
	var u net.PacketConn
	s.Do(t, func() (err error) {
		if l, err = net.Listen("tcp", ":8080"); err != nil {
			return err
		}
		u, err = net.ListenPacket("udp", ":8080")
		return err
	})
	t.Cleanup(func() { l.Close(); u.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				lines := bufio.NewScanner(c)
				for lines.Scan() {
					io.WriteString(c, name+"\n")
				}
			}()
		}
	}()
	go func() {
		b := make([]byte, 1500)
		for {
			_, peer, err := u.ReadFrom(b)
			if err != nil {
				return
			}
			u.WriteTo([]byte(name+"\n"), peer)
		}
	}()
}

// engine makes an Engine of the lab's node.
func (l *lab) engine(t testing.TB) *Engine {
	behind := nftables.New(nftables.Options{Netns: int(l.node.Handle)})
	e := New(Options{Behind: behind, Cgroup: l.cgroup, Pins: l.pins})
	t.Cleanup(behind.Close)
	t.Cleanup(e.Close)
	return e
}

// program runs the test's client in a pod, below a cgroup.
type program struct {
	in  io.Writer
	out *bufio.Scanner
}

func (l *lab) program(t testing.TB, pod string) *program { return l.programIn(t, pod, l.cgroup+"/pod") }

func (l *lab) programIn(t testing.TB, pod, cgroup string) *program {
	t.Helper()
	dir, err := os.Open(cgroup)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), asClient+"=1")
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(dir.Fd())}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	l.pods[pod].Do(t, cmd.Start)
	t.Cleanup(func() { in.Close(); cmd.Wait() })
	return &program{in, bufio.NewScanner(out)}
}

func (p *program) do(t testing.TB, format string, args ...any) string {
	t.Helper()
	fmt.Fprintf(p.in, format+"\n", args...)
	if !p.out.Scan() {
		t.Fatal("the client has ended")
	}
	return p.out.Text()
}

func (p *program) want(t testing.TB, want, format string, args ...any) {
	t.Helper()
	if got := p.do(t, format, args...); got != want {
		t.Errorf("%s: %q, want %q", fmt.Sprintf(format, args...), got, want)
	}
}

func fails(answer string) bool { return strings.HasPrefix(answer, "error: ") }

func sync(t testing.TB, e *Engine, table *proxy.Table) {
	t.Helper()
	if _, err := e.Sync(t.Context(), table); err != nil {
		t.Fatal(err)
	}
	if s := e.State(); !s.On {
		t.Fatalf("off: %s", s.Reason)
	}
}

// front makes a ClusterIP Frontend with endpoints on port 8080.
func front(addr string, protocol snapshot.Protocol, port uint16, endpoints ...string) *proxy.Frontend {
	a := netip.MustParseAddr(addr)
	f := &proxy.Frontend{Key: proxy.Key{Kind: proxy.ClusterIP, Family: snapshot.FamilyOf(a), Addr: a, Protocol: protocol, Port: port}}
	for _, e := range endpoints {
		f.Cluster = append(f.Cluster, netip.AddrPortFrom(netip.MustParseAddr(e), 8080))
	}
	return f
}

// programsAt counts the programs at a hook of a cgroup.
func programsAt(t testing.TB, cgroup *os.File, at bpf.AttachType) int {
	t.Helper()
	r, err := link.QueryPrograms(link.QueryOptions{Target: int(cgroup.Fd()), Attach: at})
	if err != nil {
		t.Fatal(err)
	}
	return len(r.Programs)
}

// pinOther pins a map that this version does not know where it keeps its own.
func (o Options) pinOther(name string) error {
	m, err := bpf.NewMap(&bpf.MapSpec{Type: bpf.Hash, KeySize: 4, ValueSize: 4, MaxEntries: 1})
	if err != nil {
		return err
	}
	defer m.Close()
	return m.Pin(filepath.Join(o.Pins, mapPin+name))
}
