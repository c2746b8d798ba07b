package agent

import (
	"errors"
	"log/slog"
	"net/netip"
	"testing"

	"github.com/fairlead/fairlead/announcer"
	"github.com/fairlead/fairlead/internal/egress"
	"github.com/fairlead/fairlead/internal/egress/kernel"
	"github.com/fairlead/fairlead/internal/node"
	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/internal/test/storytest"
	"github.com/fairlead/fairlead/proxy"
)

// fakeEgress keeps what it was given.
type fakeEgress struct {
	states []egress.State
	err    error
}

func (f *fakeEgress) Sync(s egress.State) error {
	f.states = append(f.states, s)
	return f.err
}
func (f *fakeEgress) Counts() (kernel.Counts, error) { return kernel.Counts{}, nil }
func (f *fakeEgress) Cleanup() error                 { return nil }

// The kernel is asked once by an agent that starts, then only while a Service asks for
// egress and once after. Nothing is done before it is known who is alive.
func TestLeavingActsWhereItIsAskedFor(t *testing.T) {
	f := &fakeEgress{}
	l := newLeaving(&Config{Egress: f, Log: slog.New(slog.DiscardHandler)})
	var told []snapshot.Problem
	l.told = func(p []snapshot.Problem) { told = p }
	world := storytest.NewWorld()
	follow := func(text string, sure bool) {
		t.Helper()
		if err := world.Do(text); err != nil {
			t.Fatal(err)
		}
		s, err := world.Snapshot()
		if err != nil {
			t.Fatal(err)
		}
		vip := netip.MustParseAddr("203.0.113.80")
		plan := node.Plan{Program: node.Program{Sure: sure, Elected: announcer.Plan{Announce: []announcer.VIP{{Addr: vip}}}}}
		l.Follow(node.Inputs{Node: "n1", Snapshot: s, Engine: node.Engine{Known: true}}, plan, proxy.Known{}, nil)
	}
	step := func(calls, pods int) {
		t.Helper()
		if err := l.step(t.Context()); !errors.Is(err, f.err) {
			t.Fatal(err)
		}
		if len(f.states) != calls || len(f.states) > 0 && len(f.states[calls-1].Pods) != pods {
			t.Fatalf("the kernel was given %v, want %d times, %d pods", f.states, calls, pods)
		}
	}
	step(0, 0)
	follow(`node n1 ips=198.18.0.1 pods=10.1.1.0/24
pool lan 203.0.113.0/24
address 203.0.113.80 holder=default/web
service default/web type=LoadBalancer ip=10.96.0.1 ports=tcp/80 status=203.0.113.80
endpoint default/web 10.1.1.1:8080 node=n1`, false)
	step(0, 0)
	follow("", true)
	step(1, 0) // what an earlier agent may have left
	step(1, 0)
	follow("service default/web egress=true", true)
	step(2, 1)
	step(2, 1)
	l.synced = l.synced.Add(-l.loop.Resync)
	step(3, 1) // somebody may have changed it
	f.err = errors.New("no")
	follow("service default/web egress=false", true)
	step(4, 0)
	f.err = nil
	step(5, 0) // what failed is tried again
	step(5, 0)
	if len(told) > 0 {
		t.Errorf("told %v", told)
	}
}
