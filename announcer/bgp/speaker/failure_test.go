package speaker_test

import (
	"bytes"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/fairlead/fairlead/announcer/bgp"
)

// two are a session by each family with a path of its own.
func two(change func(*bgp.Peer)) []bgp.Peer {
	peers := []bgp.Peer{peer("four", router4, "198.19.0.1/32"), peer("six", router6, "fd98:19::2/128")}
	for i := range peers {
		change(&peers[i])
	}
	return peers
}

// Both are the routes of two.
func (w world) both(t *testing.T) func() bool { return w.has(t, "198.19.0.1", "fd98:19::2") }

// watched is two with BFD at these milliseconds times 3.
func watched(ms int, change func(*bgp.Peer)) []bgp.Peer {
	interval := time.Duration(ms) * time.Millisecond
	return two(func(p *bgp.Peer) {
		p.BFD = &bgp.BFD{MinTx: interval, MinRx: interval, Multiplier: 3}
		change(p)
	})
}

// up reports whether both sessions are established and watched.
func (p *process) up() bool {
	for _, st := range p.status() {
		if !st.Established || st.BFD == nil || st.BFD.State.String() != "Up" {
			return false
		}
	}
	return true
}

// steady reports whether all sessions are established for so long.
func (p *process) steady(d time.Duration) bool {
	for _, st := range p.status() {
		if !st.Established || time.Since(st.Since) < d {
			return false
		}
	}
	return true
}

// away is for how long routes were missing until done.
func away(there, done func() bool) (gone time.Duration) {
	for last := time.Now(); !done(); {
		now := time.Now()
		if !there() {
			gone += now.Sub(last)
		}
		last = now
	}
	return gone
}

func after(d time.Duration) func() bool {
	end := time.Now().Add(d)
	return func() bool { return time.Now().After(end) }
}

// restart stops the speaker of peers for 2 s, and returns for how long routes were
// missing then, until all is up again, and in the 2 s afterwards.
func (w world) restart(t *testing.T, p *process, peers []bgp.Peer, up func(*process) func() bool) (stopped, back, later time.Duration) {
	t.Helper()
	there := w.both(t)
	for _, addr := range []string{"198.19.0.1/32", "fd98:19::2/128"} {
		w.node.Run(t, "ip", "addr", "add", addr, "dev", "lo", "nodad")
	}
	for _, addr := range []string{"198.19.0.1", "fd98:19::2"} { // at an error, ping ends
		within(t, addr+" answers", func() bool {
			return exec.Command("ip", "netns", "exec", w.router.Name, "ping", "-q", "-n", "-c", "1", "-W", "1", addr).Run() == nil
		})
	}
	lost := w.packets(t, "198.19.0.1", "fd98:19::2")
	defer func() {
		for addr, text := range lost() {
			t.Logf("packets to %s: %s", addr, text)
			if !strings.Contains(text, " 0% packet loss") {
				t.Errorf("packets to %s were lost: %s", addr, text)
			}
		}
	}()
	p.stop()
	stopped = away(there, after(2*time.Second))
	again := start(t, w.node)
	again.sync(peers...)
	back = away(there, up(again))
	return stopped, back, away(there, after(2*time.Second))
}

// packets sends one every 10 ms from the router to each address, until it is called:
// then it returns what came back.
func (w world) packets(t *testing.T, addrs ...string) func() map[string]string {
	t.Helper()
	pings, said := map[string]*exec.Cmd{}, map[string]*bytes.Buffer{}
	for _, addr := range addrs {
		cmd := exec.Command("ip", "netns", "exec", w.router.Name, "ping", "-q", "-n", "-i", "0.01", "-w", "120", addr)
		said[addr] = &bytes.Buffer{}
		cmd.Stdout, cmd.Stderr = said[addr], said[addr]
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
		pings[addr] = cmd
	}
	return func() map[string]string {
		out := map[string]string{}
		for addr, cmd := range pings {
			_ = cmd.Process.Signal(os.Interrupt)
			_ = cmd.Wait()
			out[addr] = strings.TrimSpace(said[addr].String())
		}
		return out
	}
}

// TestRestart: with graceful restart the router keeps the routes while the process is
// away, and they stay when it is back. With BFD too, since BFD asks the router to wait.
func TestRestart(t *testing.T) {
	graceful := func(p *bgp.Peer) { p.RestartTime = time.Minute }
	for name, with := range map[string]struct {
		bfd   int
		peers []bgp.Peer
		up    func(*process) func() bool
	}{
		"alone": {0, two(graceful), func(p *process) func() bool { return p.established(2) }},
		"BFD":   {300, watched(300, graceful), func(p *process) func() bool { return p.up }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := plain()
			c.Graceful, c.BFD = true, with.bfd
			everyRouter(t, c, func(t *testing.T, w world) {
				p := start(t, w.node)
				p.sync(with.peers...)
				within(t, "all is up", with.up(p))
				if with.bfd > 0 { // FRR 8.4 closes the first session with BFD once more
					within(t, "all has been up for a while", func() bool { return p.up() && p.steady(3*time.Second) })
				}
				within(t, "the routes are there", w.both(t))
				stopped, back, later := w.restart(t, p, with.peers, with.up)
				t.Logf("routes away: %s while stopped for 2 s, %s until all is up again, %s afterwards", stopped, back, later)
				if stopped+back+later > 0 {
					t.Error("the routes were away")
				}
			})
		})
	}
}

// TestDeath: with graceful restart and BFD together, the routes to a node that says
// nothing more are gone within the time of BFD, and not that of graceful restart.
func TestDeath(t *testing.T) {
	c := plain()
	c.Graceful, c.BFD = true, 100
	everyRouter(t, c, func(t *testing.T, w world) {
		p := start(t, w.node)
		p.sync(watched(100, func(p *bgp.Peer) { p.RestartTime = time.Minute })...)
		within(t, "all has been up for a while", func() bool { return p.up() && p.steady(3*time.Second) })
		within(t, "the routes are there", w.both(t))
		w.node.Run(t, "nft", "add table inet dead; add chain inet dead out { type filter hook output priority 0; policy drop; }")
		took := within(t, "the routes are gone", func() bool { return routes(t, w.router) == "" })
		if took > 5*time.Second { // 300 ms, on a busy machine
			t.Errorf("that took %s", took)
		}
	})
}

// TestRestartWithout: without it the routes go with the process.
func TestRestartWithout(t *testing.T) {
	everyRouter(t, plain(), func(t *testing.T, w world) {
		p := start(t, w.node)
		p.sync(two(func(*bgp.Peer) {})...)
		within(t, "the routes are there", w.both(t))
		p.kill()
		within(t, "the routes are gone", func() bool { return routes(t, w.router) == "" })
	})
}

// TestBFD: a router that is no longer heard of, and a node that is frozen, lose the
// sessions at once though the hold time is long.
func TestBFD(t *testing.T) {
	c := plain()
	c.BFD = 100
	everyRouter(t, c, func(t *testing.T, w world) {
		p := start(t, w.node)
		p.sync(watched(100, func(*bgp.Peer) {})...)
		within(t, "all is up", p.up)
		w.router.Run(t, "nft", "add table inet dead; add chain inet dead out { type filter hook output priority 0; }; add rule inet dead out udp dport 3784 drop")
		before := p.status() // that they were lost is counted: they open again although BFD is down
		took := within(t, "our sessions were closed", func() bool {
			now := p.status()
			return now[0].Flaps > before[0].Flaps && now[1].Flaps > before[1].Flaps
		})
		if took > 30*time.Second {
			t.Errorf("that took %s: the hold time is 90s", took)
		}
		w.router.Run(t, "nft", "delete table inet dead")
		within(t, "all is up again", p.up)
		within(t, "the routes are back", w.both(t))
		_ = p.cmd.Process.Signal(syscall.SIGSTOP) // BFD stops with it, the sessions' processes do not
		defer func() { _ = p.cmd.Process.Signal(syscall.SIGCONT) }()
		took = within(t, "the frozen node's routes are gone", func() bool { return routes(t, w.router) == "" })
		if took > 30*time.Second {
			t.Errorf("that took %s: the hold time is 90s", took)
		}
	})
}
