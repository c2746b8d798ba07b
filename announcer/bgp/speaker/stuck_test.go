package speaker_test

import (
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/fairlead/fairlead/announcer/bgp"
	"github.com/fairlead/fairlead/internal/test/routertest"
)

// children are the processes of p's sessions.
func (p *process) children() (pids []int) {
	// The speaker is what ip netns exec has become.
	out, _ := exec.Command("pgrep", "-P", strconv.Itoa(p.cmd.Process.Pid)).Output()
	for _, text := range strings.Fields(string(out)) {
		if pid, err := strconv.Atoi(text); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// TestStuckProcess: a session's process that lives and does not answer holds up
// neither the caller nor the other session, and is replaced.
func TestStuckProcess(t *testing.T) {
	t.Parallel()
	nodeSpace, routerSpace := wired(t)
	routertest.Routers["BIRD"](t, routerSpace, plain())
	p := start(t, nodeSpace)
	p.sync(peer("four", router4, "198.19.0.1/32"))
	within(t, "established", p.established(1))
	stuck := p.children()
	if len(stuck) != 1 {
		t.Fatalf("children: %v", stuck)
	}
	_ = syscall.Kill(stuck[0], syscall.SIGSTOP)
	defer func() { _ = syscall.Kill(stuck[0], syscall.SIGCONT) }()
	took := p.sync(peer("four", router4, "198.19.0.3/32"), peer("six", router6, "fd98:19::2/128")).Took
	t.Logf("Sync with a process that is stuck: %s", took)
	if took > 2*time.Second { // ten times its bound
		t.Errorf("Sync took %s", took)
	}
	within(t, "the other session is established", func() bool { return p.status()[1].Established })
	within(t, "the stuck one is replaced and up to date", func() bool {
		st := p.status()[0]
		return st.Established && st.Crashes == 1 && strings.Contains(routes(t, routerSpace), "198.19.0.3")
	})
}

// TestNeverReads: a peer that lives and takes nothing from its socket is given up
// after the hold time; nothing else waits for it.
func TestNeverReads(t *testing.T) {
	t.Parallel()
	nodeSpace, routerSpace := wired(t)
	hostile(t, routerSpace, router4+":179", func(conn net.Conn) {
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for range tick.C {
			if _, err := conn.Write(message(4, nil)); err != nil {
				return
			}
		}
	})
	routertest.StartBIRD(t, routerSpace, birdSix)
	p := start(t, nodeSpace)
	six := peer("six", router6, "fd98:19::2/128")
	deaf := peer("deaf", router4)
	deaf.Hold, deaf.Keepalive = 3*time.Second, time.Second
	for i := range 4000 { // more than the socket's buffers take
		prefix := peer("", router4, "198.19."+strconv.Itoa(i/250)+"."+strconv.Itoa(i%250)+"/32").Paths[0]
		prefix.Communities = make([]uint32, 200)
		for j := range prefix.Communities {
			prefix.Communities[j] = uint32(i<<8 | j)
		}
		deaf.Paths = append(deaf.Paths, prefix)
	}
	longest := time.Duration(0)
	sync := func(peers ...bgp.Peer) { longest = max(longest, p.sync(peers...).Took) }
	sync(deaf, six)
	within(t, "the other session is established", func() bool { return p.status()[1].Established })
	within(t, "given up", func() bool { return p.status()[0].Flaps > 0 })
	sync(six)
	t.Logf("the longest Sync: %s", longest)
	if longest > 2*time.Second {
		t.Errorf("Sync took %s", longest)
	}
	if st := p.status(); len(st) != 1 || !st[0].Established || st[0].Flaps != 0 {
		t.Errorf("the other session noticed: %+v", st)
	}
}

// TestSilentPeer: a peer that is heard no more, without a word of goodbye or a reset,
// is down when the hold time is over (allocation 39f).
func TestSilentPeer(t *testing.T) {
	t.Parallel()
	nodeSpace, routerSpace := wired(t)
	hostile(t, routerSpace, router4+":179", func(conn net.Conn) {
		if _, err := conn.Write(message(4, nil)); err == nil {
			_, _ = io.Copy(io.Discard, conn)
		}
	})
	p := start(t, nodeSpace)
	silent := peer("silent", router4)
	silent.Hold, silent.Keepalive = 3*time.Second, time.Second
	p.sync(silent)
	within(t, "established", func() bool { return p.status()[0].Established })
	began := time.Now()
	within(t, "down", func() bool { return p.status()[0].Flaps > 0 })
	if took := time.Since(began); took < time.Second {
		t.Errorf("down after %s: that was not the hold time", took)
	}
	if st := p.status()[0]; !strings.Contains(strings.ToLower(st.LastError), "hold") {
		t.Errorf("the status says %q", st.LastError)
	}
}

// resident is the memory that a process has, in bytes; 0 if it has ended.
func resident(t *testing.T, pid int) int64 {
	t.Helper()
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		return 0 // it has ended
	}
	for line := range strings.Lines(string(data)) {
		if text, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kib, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(text), "kB")), 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return kib << 10
		}
	}
	return 0
}
