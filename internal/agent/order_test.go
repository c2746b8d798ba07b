package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fairlead/fairlead/announcer"
	"github.com/fairlead/fairlead/announcer/bgp"
	"github.com/fairlead/fairlead/internal/keyring"
	"github.com/fairlead/fairlead/internal/kube"
	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/internal/test/storytest"
	"github.com/fairlead/fairlead/proxy"
	"github.com/fairlead/fairlead/proxy/dataplanetest"
)

// diary is what was done to kernel and network, in order. It stands in for the
// engine, the links, the routers and the other agents.
type diary struct {
	*dataplanetest.Fake
	mu    sync.Mutex
	lines []string
	held  []announcer.Claim
	paths map[string]bool
	vips  map[netip.Addr]bool      // that the engine holds
	table *proxy.Table             // the same
	fails map[string]error         // what cannot be done: hold, withdraw, program, adopt
	slow  map[string]time.Duration // how long each of these takes

	world *storytest.World
}

func (d *diary) write(format string, args ...any) {
	d.lines = append(d.lines, fmt.Sprintf(format, args...))
}

// Sync is the engine's.
func (d *diary) Sync(_ context.Context, t *proxy.Table) (proxy.Change, error) {
	time.Sleep(d.slow["program"])
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.fails["program"]; err != nil {
		return proxy.Change{}, err
	}
	vips := map[netip.Addr]bool{}
	for _, f := range t.Frontends {
		if f.Kind == proxy.VIP {
			vips[f.Addr] = true
		}
	}
	for addr := range vips {
		if !d.vips[addr] {
			d.write("program %s", addr)
		}
	}
	for addr := range d.vips {
		if !vips[addr] {
			d.write("unprogram %s", addr)
		}
	}
	d.vips, d.table = vips, t
	return proxy.Change{}, nil
}

// nodeLinks holds addresses, for layer 2.
type nodeLinks struct{ *diary }

func (l nodeLinks) Adopt() ([]announcer.Claim, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.held), l.fails["adopt"]
}

func (l nodeLinks) Withdraw(claims []announcer.Claim) error {
	time.Sleep(l.slow["withdraw"])
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.fails["withdraw"]; err != nil && len(claims) > 0 {
		return err
	}
	for _, c := range claims {
		if at, found := slices.BinarySearchFunc(l.held, c, announcer.Claim.Compare); found {
			l.held = slices.Delete(l.held, at, at+1)
			l.write("withdraw %s", c.Addr)
		}
	}
	return nil
}

func (l nodeLinks) Sync(set announcer.Set) ([]announcer.Claim, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.fails["hold"]; err != nil {
		return slices.Clone(l.held), err
	}
	for _, c := range set.Claims {
		if !slices.Contains(l.held, c) {
			l.write("announce %s", c.Addr)
		}
	}
	l.held = slices.Clone(set.Claims)
	return slices.Clone(l.held), nil
}

// router is the peer of the only session.
type router struct{ *diary }

func (r router) Sync(plan bgp.Plan) {
	time.Sleep(r.slow["route"])
	r.mu.Lock()
	defer r.mu.Unlock()
	now := map[string]bool{}
	for _, p := range plan.Peers {
		for _, path := range p.Paths {
			now[path.Prefix.String()] = true
		}
	}
	for prefix := range r.paths {
		if !now[prefix] {
			r.write("withdraw %s", prefix)
		}
	}
	for prefix := range now {
		if !r.paths[prefix] {
			r.write("announce %s", prefix)
		}
	}
	r.paths = now
}

// Latest and so on are the API server's.
func (d *diary) Latest() (*snapshot.Snapshot, []time.Time) { return d.Snapshot(), nil }
func (d *diary) Synced() bool                              { return true }
func (d *diary) Heard() time.Time                          { return time.Time{} }
func (d *diary) Run(context.Context) error                 { return nil }
func (d *diary) Snapshot() *snapshot.Snapshot {
	d.mu.Lock()
	defer d.mu.Unlock()
	s, err := d.world.Snapshot()
	if err != nil {
		panic(err)
	}
	return s
}

// alone is the gossip of a node without others.
type alone struct{ view announcer.View }

func (alone) Run(context.Context)            {}
func (alone) SetKeys(keyring.Keys)           {}
func (alone) Follow(*snapshot.Snapshot)      {}
func (alone) SetLost(map[string]bool, bool)  {}
func (alone) Fresh() bool                    { return true }
func (alone) Say(announcer.Report)           {}
func (a alone) View() (announcer.View, bool) { return a.view, true }

// lived runs an agent of node a that does everything into a diary, until the test
// ends. It has to be called in a bubble of synctest.
func lived(t *testing.T) (*Agent, *diary) {
	t.Helper()
	d := &diary{Fake: dataplanetest.NewFake(), paths: map[string]bool{}, vips: map[netip.Addr]bool{}, fails: map[string]error{}, world: storytest.NewWorld()}
	a := assemble(&Config{Node: "a", Log: slog.New(slog.DiscardHandler), Dataplane: d, Clients: &kube.Clients{}}, nodeLinks{d})
	a.engine.proxy, a.cluster.store, a.routes.syncer = Fairlead, d, router{d}
	a.routes.unheld.withoutKernel()
	a.engine.follow = func(_ *snapshot.Snapshot, _, _ []netip.Addr) {}
	st := snapshot.Link{Name: "eth0", Prefixes: []netip.Prefix{netip.MustParsePrefix("198.51.100.1/24")}}
	a.links.state.Links = []snapshot.Link{st}
	a.gossip = alone{view: announcer.View{Node: "a", Members: []announcer.Member{{Node: "a", Candidate: true, Report: &announcer.Report{Electable: snapshot.Electable{Node: "a", InSync: true}}}}}}
	d.do(t, a, "node a ips=198.51.100.1\nbgppeer tor 198.51.100.254 as=64501/64500\npool routed 192.0.2.0/24 labels=by=bgp\nannouncement routed pool=by=bgp bgp")
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for _, run := range []func(context.Context){
		func(ctx context.Context) { a.decision.loop.Run(ctx, a.step) }, a.layer2.Run, a.engine.Run, func(ctx context.Context) { a.routes.loop.Run(ctx, a.routes.step) },
	} {
		wg.Go(func() { run(ctx) })
	}
	t.Cleanup(func() {
		cancel()
		wg.Wait()
	})
	return a, d
}

// do changes the cluster.
func (d *diary) do(t *testing.T, a *Agent, text string) {
	t.Helper()
	d.mu.Lock()
	err := d.world.Do(text)
	d.mu.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	a.decision.loop.Wake()
}

// read returns what was done since the last read, after a while.
func (d *diary) read(after time.Duration) string {
	time.Sleep(after)
	synctest.Wait()
	d.mu.Lock()
	defer d.mu.Unlock()
	out := strings.Join(d.lines, ", ")
	d.lines = nil
	return out
}

// fail has what not be done until it is called again with nil.
func (d *diary) fail(what string, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fails[what] = err
}

// twoVIPs is a Service with a VIP for layer 2 and one for BGP that end in n.
func twoVIPs(name string, n int) string {
	return fmt.Sprintf(`service default/%[1]s type=LoadBalancer ports=tcp/80 status=198.51.100.%[2]d,192.0.2.%[2]d ip=10.96.0.%[2]d
endpoint default/%[1]s 10.1.1.%[2]d:80 node=a
address 198.51.100.%[2]d holder=default/%[1]s
address 192.0.2.%[2]d holder=default/%[1]s pool=routed`, name, n)
}

func without(name string, n int) string {
	return fmt.Sprintf("delete endpoint default/%[1]s\ndelete service default/%[1]s\ndelete address 198.51.100.%[2]d\ndelete address 192.0.2.%[2]d", name, n)
}

// TestOrder: program first, announce second; withdraw first, unprogram last. For
// layer 2 and for BGP, and any of those who carry it out may be slow.
func TestOrder(t *testing.T) {
	for _, slow := range []string{"nothing", "program", "withdraw", "route"} {
		t.Run(slow+" is slow", func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, d := lived(t)
				synctest.Wait() // the first steps read how slow they are
				d.mu.Lock()
				d.slow = map[string]time.Duration{slow: 300 * time.Millisecond}
				d.mu.Unlock()
				d.do(t, a, twoVIPs("web", 10))
				up := d.read(10 * time.Second)
				d.do(t, a, without("web", 10))
				down := d.read(10 * time.Second)
				for announced, vip := range map[string]string{"198.51.100.10": "198.51.100.10", "192.0.2.10/32": "192.0.2.10"} {
					before(t, up, "program "+vip, "announce "+announced)
					before(t, down, "withdraw "+announced, "unprogram "+vip)
				}
			})
		})
	}
}

// before fails unless first and then are both in text, in this order.
func before(t *testing.T, text, first, then string) {
	t.Helper()
	if i, j := strings.Index(text, first), strings.Index(text, then); i < 0 || j < i {
		t.Errorf("want %q before %q in: %s", first, then, text)
	}
}

// TestNobodyWaitsForAnother: what one of engine and layer 2 cannot do delays
// nothing of the other, and no loop is deaf while it waits to try again.
func TestNobodyWaitsForAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, d := lived(t)
		d.do(t, a, twoVIPs("web", 10))
		d.read(10 * time.Second)

		d.fail("hold", errors.New("no"))
		d.do(t, a, "node a labels=x=y") // fails many times in a row
		d.read(time.Minute)
		d.do(t, a, twoVIPs("two", 20))
		if got := d.read(time.Second); !strings.Contains(got, "program 192.0.2.20") || !strings.Contains(got, "announce 192.0.2.20/32") {
			t.Errorf("while layer 2 fails: %s", got)
		}
		d.fail("hold", nil)
		d.do(t, a, "node a labels=x=z")
		if got := d.read(time.Second); got != "announce 198.51.100.20" {
			t.Errorf("once layer 2 no longer fails, the next change is: %s", got)
		}

		d.fail("withdraw", errors.New("no"))
		d.do(t, a, without("two", 20))
		if got := d.read(time.Second); !strings.Contains(got, "unprogram 198.51.100.20") {
			t.Errorf("a withdrawal that fails holds the engine up: %s", got)
		}

		d.fail("program", errors.New("no"))
		d.do(t, a, "endpoint default/web 10.1.1.6:80 node=a")
		d.read(time.Minute)
		d.fail("program", nil)
		d.do(t, a, twoVIPs("three", 30))
		if got := d.read(time.Second); !strings.Contains(got, "program 198.51.100.30") {
			t.Errorf("once the engine no longer fails, the next change is: %s", got)
		}
	})
}

// TestEngineWaitsOnce: while nothing can be withdrawn, changes that come all the
// time are still programmed.
func TestEngineWaitsOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, d := lived(t)
		d.do(t, a, twoVIPs("web", 10))
		d.read(10 * time.Second)
		d.fail("adopt", errors.New("no"))
		programmed := 0
		for i := range 50 {
			d.do(t, a, twoVIPs("web", 11+i))
			programmed += strings.Count(d.read(100*time.Millisecond), "program 198")
		}
		if programmed < 30 {
			t.Errorf("in five seconds %d of 50 changes were programmed", programmed)
		}
	})
}
