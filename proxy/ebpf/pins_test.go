package ebpf

import (
	"bufio"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	bpf "github.com/cilium/ebpf"

	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/internal/test/nstest"
	"github.com/fairlead/fairlead/proxy"
	"github.com/fairlead/fairlead/proxy/dataplanetest"
	"github.com/fairlead/fairlead/proxy/ebpf/content"
)

// alone is a lab whose Engine has nothing behind it that forwards.
func alone(t *testing.T) (*lab, *Engine) {
	l := newLab(t)
	return l, l.another(t)
}

func (l *lab) another(t *testing.T) *Engine {
	e := New(Options{Behind: dataplanetest.NewFake(), Cgroup: l.cgroup, Pins: l.pins})
	t.Cleanup(e.Close)
	return e
}

// TestPinned: what an Engine left goes on, and another takes over from it without
// a connection lost, also when the maps are another version's.
func TestPinned(t *testing.T) {
	l, e := alone(t)
	table := &proxy.Table{Frontends: []*proxy.Frontend{front("198.18.96.1", snapshot.TCP, 80, podA4), front("198.18.96.2", snapshot.UDP, 80, podA4)}}
	sync(t, e, table)
	c := l.program(t, "client")
	c.want(t, "ok", "dial stays tcp 198.18.96.1:80")
	e.Close()
	c.want(t, "map[podA:5]", "flood tcp 198.18.96.1:80 5")
	load := l.program(t, "client")
	done := make(chan struct{})
	var got string
	go func() {
		defer close(done)
		got = load.do(t, "flood tcp 198.18.96.1:80 2000")
	}()
	for i := 0; ; i++ {
		next := l.another(t)
		if i%2 == 1 { // as if an older version had made this map
			if err := os.Remove(l.pins + "/" + mapPin + "members"); err != nil {
				t.Fatal(err)
			}
			if err := next.opt.pinOther("members"); err != nil {
				t.Fatal(err)
			}
		}
		sync(t, next, table)
		select {
		case <-done:
		default:
			continue
		}
		t.Logf("%d Engines took over", i+1)
		break
	}
	if got != "map[podA:2000]" {
		t.Errorf("while others took over: %s", got)
	}
	c.want(t, "podA", "say stays")
}

// TestKilled: agents are killed in the middle of their work and others started,
// and no connection fails, though nothing forwards but the programs.
func TestKilled(t *testing.T) {
	l := newLab(t)
	first := l.another(t)
	sync(t, first, killedTables()[0])
	first.Close()
	c := l.program(t, "client")
	done := make(chan string)
	go func() { done <- c.do(t, "flood tcp 198.18.96.1:80 4000") }()
	agents, got := 0, ""
	for got == "" {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), asAgent+"="+l.cgroup+" "+l.pins)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "in sync\n" {
			t.Errorf("agent %d: %q %v", agents, line, err)
		}
		agents++
		select {
		case got = <-done:
		case <-time.After(20 * time.Millisecond): // of changes
		}
		cmd.Process.Kill()
		cmd.Wait()
		if t.Failed() {
			got = <-done
		}
	}
	if got != "map[podA:4000]" || agents < 2 {
		t.Errorf("%d agents were killed: %s", agents, got)
	}
	t.Logf("%d agents were killed", agents)
	last := l.another(t)
	sync(t, last, killedTables()[1])
	held, err := last.objects.read()
	if err != nil {
		t.Fatal(err)
	}
	if st := content.Adopt(held, killedTables()[1]); len(st.Orphans)+len(st.OrphanMembers) > 0 {
		t.Errorf("left over: %v %v", st.Orphans, st.OrphanMembers)
	}
}

// TestLease: without an Engine the programs stand back after a while, and are at
// work again with the next one.
func TestLease(t *testing.T) {
	l, e := alone(t)
	table := &proxy.Table{Frontends: []*proxy.Frontend{front("198.18.96.1", snapshot.TCP, 80, podA4)}}
	sync(t, e, table)
	c := l.program(t, "client")
	c.want(t, "map[podA:1]", "flood tcp 198.18.96.1:80 1")
	e.config.Until -= uint64(Lease) // as if so much time had passed
	if err := e.configure(); err != nil {
		t.Fatal(err)
	}
	if got := c.do(t, "flood tcp 198.18.96.1:80 1"); !fails(got) {
		t.Errorf("after the lease: %q", got)
	}
	sync(t, e, table)
	c.want(t, "map[podA:1]", "flood tcp 198.18.96.1:80 1")
}

// TestRepair: what somebody took away comes back with the next Sync.
func TestRepair(t *testing.T) {
	l, e := alone(t)
	table := &proxy.Table{Frontends: []*proxy.Frontend{front("198.18.96.1", snapshot.TCP, 80, podA4)}}
	sync(t, e, table)
	c := l.program(t, "client")
	if err := os.Remove(l.pins + "/" + linkPin + "connect4"); err != nil {
		t.Fatal(err)
	}
	// The kernel detaches a program some time after its last pin has gone.
	dir, err := os.Open(l.cgroup)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	nstest.Eventually(t, "connect4 to be detached", func() bool { return programsAt(t, dir, bpf.AttachCGroupInet4Connect) == 0 })
	if got := c.do(t, "flood tcp 198.18.96.1:80 1"); !fails(got) {
		t.Fatalf("without its link: %q", got)
	}
	sync(t, e, table)
	c.want(t, "map[podA:1]", "flood tcp 198.18.96.1:80 1")
}

// TestOff: an Engine that cannot attach leaves everything to the one behind, says
// why, and takes away what it attached before; so does one that is turned off.
func TestOff(t *testing.T) {
	l := newLab(t)
	table := &proxy.Table{Frontends: []*proxy.Frontend{front("198.18.96.1", snapshot.TCP, 80, podA4)}}
	c := l.program(t, "client")
	for what, opt := range map[string]Options{
		"no cgroup v2":         {Cgroup: "/proc", Pins: l.pins},
		"turned off":           {Off: true, Pins: l.pins},
		"not a bpf filesystem": {Cgroup: l.cgroup, Pins: t.TempDir()},
		"no such file":         {Cgroup: l.cgroup, Pins: "/nowhere/at/all"},
		"several kubelets be":  {Cgroup: twoKubelets(t), Pins: l.pins},
	} {
		t.Run(what, func(t *testing.T) {
			sync(t, l.engine(t), table)
			behind := l.engine(t)
			opt.Behind = behind.opt.Behind
			e := New(opt)
			if _, err := e.Sync(t.Context(), table); err != nil {
				t.Fatal(err)
			}
			if s := e.State(); s.On || !strings.Contains(s.Reason, what) {
				t.Errorf("state %+v", s)
			}
			if opt.Pins == l.pins && attached(l.pins) {
				t.Error("its programs are still attached")
			}
			c.want(t, "map[podA:3]", "flood tcp 198.18.96.1:80 3")
		})
	}
}

func twoKubelets(t *testing.T) string {
	t.Helper()
	dir := newCgroup(t) + "/.."
	other := dir + "/kubelet-kubepods.slice"
	if err := os.Mkdir(other, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Remove(other) })
	return dir
}

// TestCleanup: nothing of it is left, and whatever is left behind is removed by
// one that knows nothing of it.
func TestCleanup(t *testing.T) {
	l, e := alone(t)
	sync(t, e, &proxy.Table{})
	e.Close()
	for _, want := range []int{9, 0} {
		if n, err := l.another(t).Remove(); n != want || err != nil {
			t.Errorf("removed %d programs, want %d: %v", n, want, err)
		}
	}
	if _, err := os.Stat(l.pins); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the folder is there: %v", err)
	}
	dir, err := os.Open(l.cgroup)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	for _, h := range (&connectPrograms{}).hooks() {
		nstest.Eventually(t, h.name+" to be detached", func() bool { return programsAt(t, dir, h.at) == 0 })
	}
}
