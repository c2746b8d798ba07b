package speaker_test

import (
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/fairlead/fairlead/announcer/bgp"
	"github.com/fairlead/fairlead/internal/nstest"
	"github.com/fairlead/fairlead/internal/routertest"
)

// TestRestart: with graceful restart the router keeps the routes while the
// process is away, and they stay when it is back.
func TestRestart(t *testing.T) {
	nodeSpace, routerSpace := wired(t)
	routertest.StartFRR(t, routerSpace, map[string]string{"bgpd": frrConf("bgp graceful-restart")})
	four := peer("four", router4, "198.19.0.1/32")
	four.RestartTime = time.Minute
	p := start(t, nodeSpace)
	p.sync(four)
	there := func() bool { return strings.Contains(routes(t, routerSpace), "198.19.0.1") }
	within(t, "the route is there", there)
	p.stop()
	gone := 0
	for began := time.Now(); time.Since(began) < 2*time.Second; {
		if !there() {
			gone++
		}
	}
	again := start(t, nodeSpace)
	again.sync(four)
	within(t, "established again", func() bool {
		if !there() {
			gone++
		}
		return again.established(1)()
	})
	for began := time.Now(); time.Since(began) < 3*time.Second; {
		if !there() {
			gone++
		}
	}
	if gone > 0 {
		t.Errorf("the route was away in %d looks", gone)
	}
}

// TestRestartWithout: without it the routes go with the process.
func TestRestartWithout(t *testing.T) {
	nodeSpace, routerSpace := wired(t)
	routertest.StartBIRD(t, routerSpace, birdConf(""))
	p := start(t, nodeSpace)
	p.sync(peer("four", router4, "198.19.0.1/32"))
	there := func() bool { return strings.Contains(routes(t, routerSpace), "198.19.0.1") }
	within(t, "the route is there", there)
	p.kill()
	within(t, "the route is gone", func() bool { return !there() })
}

// TestBFD: a router that is frozen, and a node that is, lose the session at once
// though the hold time is long.
func TestBFD(t *testing.T) {
	nodeSpace, routerSpace := wired(t)
	profile := "bfd\n profile node\n  detect-multiplier 3\n  receive-interval 100\n  transmit-interval 100\n exit\nexit\n"
	frr := routertest.StartFRR(t, routerSpace, map[string]string{
		"bgpd": frrConf("neighbor "+node4+" bfd", "neighbor "+node4+" bfd profile node"), "bfdd": profile,
	})
	four := peer("four", router4, "198.19.0.1/32")
	four.BFD = &bgp.BFD{MinTx: 100 * time.Millisecond, MinRx: 100 * time.Millisecond, Multiplier: 3}
	p := start(t, nodeSpace)
	p.sync(four)
	within(t, "both are up", func() bool {
		st := p.status()[0]
		return st.Established && st.BFD != nil && st.BFD.State.String() == "Up"
	})
	_ = frr.Process("bfdd").Signal(syscall.SIGSTOP)
	within(t, "our session is closed", func() bool {
		st := p.status()[0]
		return !st.Established && strings.Contains(st.LastError, "BFD")
	})
	_ = frr.Process("bfdd").Signal(syscall.SIGCONT)
	within(t, "both are up again", func() bool {
		st := p.status()[0]
		return st.Established && st.BFD != nil && st.BFD.State.String() == "Up"
	})
	within(t, "the route is back", func() bool { return strings.Contains(routes(t, routerSpace), "198.19.0.1") })
	_ = p.cmd.Process.Signal(syscall.SIGSTOP) // BFD stops with it, the session's process does not
	defer func() { _ = p.cmd.Process.Signal(syscall.SIGCONT) }()
	took := within(t, "the frozen node's route is gone", func() bool { return !strings.Contains(routes(t, routerSpace), "198.19.0.1") })
	if took > 30*time.Second {
		t.Errorf("that took %s: the hold time is 90s", took)
	}
}

// TestRestartWithBFD: with graceful restart and BFD, an agent that stops says
// Admin Down once its sessions are gone, and the routers keep its routes.
func TestRestartWithBFD(t *testing.T) {
	const fast = "bfd\n profile node\n  detect-multiplier 3\n  receive-interval 100\n  transmit-interval 100\n exit\nexit\n"
	for name, router := range map[string]func(t *testing.T, ns nstest.Space){
		"FRR": func(t *testing.T, ns nstest.Space) {
			routertest.StartFRR(t, ns, map[string]string{
				"bgpd": frrConf("bgp graceful-restart", "neighbor "+node4+" bfd", "neighbor "+node4+" bfd profile node"), "bfdd": fast,
			})
		},
		"BIRD": func(t *testing.T, ns nstest.Space) {
			routertest.StartBIRD(t, ns, birdConf("graceful restart on; bfd graceful;")+"\nprotocol bfd { interface \"*\" { interval 100 ms; multiplier 3; }; }\n")
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			nodeSpace, routerSpace := wired(t)
			router(t, routerSpace)
			four := peer("four", router4, "198.19.0.1/32")
			four.RestartTime = time.Minute
			four.BFD = &bgp.BFD{MinTx: 100 * time.Millisecond, MinRx: 100 * time.Millisecond, Multiplier: 3}
			both := func(p *process) func() bool {
				return func() bool {
					st := p.status()[0]
					return st.Established && st.BFD != nil && st.BFD.State.String() == "Up"
				}
			}
			there := func() bool { return strings.Contains(routes(t, routerSpace), "198.19.0.1") }
			away := func(until func() bool) (gone time.Duration) {
				for last := time.Now(); !until(); {
					now := time.Now()
					if !there() {
						gone += now.Sub(last)
					}
					last = now
				}
				return gone
			}
			p := start(t, nodeSpace)
			p.sync(four)
			within(t, "both are up", both(p))
			within(t, "the route is there", there)
			p.stop()
			began := time.Now()
			stopped := away(func() bool { return time.Since(began) > 2*time.Second })
			again := start(t, nodeSpace)
			again.sync(four)
			back := away(both(again))
			began = time.Now()
			after := away(func() bool { return time.Since(began) > 2*time.Second })
			if stopped+back+after > 0 {
				t.Errorf("the route was away")
			}
			t.Logf("route away: %s while stopped for 2 s, %s until both are up again, %s afterwards", stopped, back, after)
		})
	}
}
