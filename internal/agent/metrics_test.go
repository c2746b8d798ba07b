package agent

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/fairlead/fairlead/announcer"
	"github.com/fairlead/fairlead/internal/node"
	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/proxy"
)

// spec 92: Services without an endpoint here are counted by policy, if they have
// one elsewhere.
func TestNoLocalEndpoints(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	m := newMetrics(reg)
	front := func(kind proxy.Kind, name string, empty proxy.Verdict) *proxy.Frontend {
		return &proxy.Frontend{Key: proxy.Key{Kind: kind, Addr: netip.MustParseAddr("192.0.2.1")}, Service: snapshot.Ref{Name: name}, Empty: empty}
	}
	m.programmed(proxy.Summarize(&proxy.Table{Frontends: []*proxy.Frontend{
		front(proxy.ClusterIP, "a", proxy.Drop), front(proxy.ClusterIP, "b", proxy.Reject), front(proxy.VIP, "c", proxy.Drop),
		front(proxy.NodePort, "c", proxy.Drop), front(proxy.VIP, "d", proxy.Drop), front(proxy.VIP, "e", proxy.Forward),
	}}), nil, time.Now())
	want := `
# HELP fairlead_engine_no_local_endpoints Services with a traffic policy Local that have endpoints, but none on this node, by policy (internal, external).
# TYPE fairlead_engine_no_local_endpoints gauge
fairlead_engine_no_local_endpoints{traffic_policy="external"} 2
fairlead_engine_no_local_endpoints{traffic_policy="internal"} 1
`
	if err := testutil.GatherAndCompare(reg, strings.NewReader(want), "fairlead_engine_no_local_endpoints"); err != nil {
		t.Error(err)
	}
}

// changing is a store that holds an empty cluster, after changes at these times.
type changing []time.Time

func (changing) Run(context.Context) error                   { return nil }
func (c changing) Latest() (*snapshot.Snapshot, []time.Time) { return c.Snapshot(), c }
func (changing) Snapshot() *snapshot.Snapshot                { return &snapshot.Snapshot{} }
func (changing) Synced() bool                                { return true }
func (changing) Heard() time.Time                            { return time.Time{} }

// A change is measured once, when the kernel holds it; changes from before the
// agent's start are not.
func TestLatency(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	m := newMetrics(reg)
	start := time.Unix(1000, 0)
	c := cluster{cfg: &Config{Log: slog.New(slog.DiscardHandler)}, store: changing{start.Add(-time.Second), start.Add(time.Second), start.Add(2 * time.Second)}, metrics: m, started: start}
	_, triggers := c.snapshot(start)
	m.programmed(proxy.Summary{}, triggers, start.Add(3*time.Second))
	all, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range all {
		if f.GetName() != "fairlead_network_programming_duration_seconds" {
			continue
		}
		if h := f.Metric[0].Histogram; h.GetSampleCount() != 2 || h.GetSampleSum() != 3 {
			t.Errorf("%d samples, sum %v; want 2 and 3", h.GetSampleCount(), h.GetSampleSum())
		}
	}
}

// An address that another node had is taken over; one that nobody had is not.
func TestTakeovers(t *testing.T) {
	m := newMetrics(nil)
	plan := func(text string) (p node.State) {
		for _, word := range strings.Fields(text) {
			reason, addr, refused := strings.Cut(word, "=")
			if !refused {
				p.Elected = append(p.Elected, announcer.VIP{Addr: netip.MustParseAddr(word)})
				continue
			}
			p.Refused = append(p.Refused, announcer.Refused{Addr: netip.MustParseAddr(addr), Refusal: snapshot.Refusal{Reason: snapshot.Reason(reason)}})
		}
		return p
	}
	m.moved(plan(""), plan("192.0.2.1 NotOwner=192.0.2.2 NoEndpoint=192.0.2.3"))
	if n := testutil.ToFloat64(m.takeovers); n != 0 {
		t.Errorf("%v addresses were taken over at the start", n)
	}
	m.moved(plan("192.0.2.1 NotOwner=192.0.2.2 NoEndpoint=192.0.2.3"), plan("192.0.2.1 192.0.2.2 192.0.2.3"))
	if n := testutil.ToFloat64(m.takeovers); n != 1 {
		t.Errorf("%v addresses were taken over, want 192.0.2.2 alone", n)
	}
}

// Whatever Snapshots follow each other, the endpoints on nodes that are gone are counted
// as by a walk through the last one.
func TestQuarantinedEndpoints(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	m, last := newMetrics(nil), &snapshot.Snapshot{}
	for range 200 {
		next := &snapshot.Snapshot{Services: slices.Clone(last.Services)}
		for range r.IntN(3) {
			svc := &snapshot.Service{Ref: snapshot.Ref{Name: string(rune('a' + r.IntN(5)))}}
			for range r.IntN(4) {
				svc.Endpoints = append(svc.Endpoints, snapshot.Endpoint{Node: string(rune('k' + r.IntN(3)))})
			}
			at, held := slices.BinarySearchFunc(next.Services, svc.Ref, func(s *snapshot.Service, ref snapshot.Ref) int { return s.Ref.Compare(ref) })
			if held {
				next.Services = slices.Delete(next.Services, at, at+1)
			}
			if r.IntN(4) > 0 {
				next.Services = slices.Insert(next.Services, at, svc)
			}
		}
		in := node.Inputs{Snapshot: next, Changes: snapshot.Diff(last, next)}
		want := 0
		for _, name := range []string{"k", "l"} {
			if r.IntN(2) == 0 {
				continue
			}
			in.View.Members = append(in.View.Members, announcer.Member{Node: name, Quarantine: true})
			for _, svc := range next.Services {
				for _, ep := range svc.Endpoints {
					if ep.Node == name {
						want++
					}
				}
			}
		}
		m.decided(in, node.State{}, node.State{})
		if got := testutil.ToFloat64(m.quarantinedEndpoints); got != float64(want) {
			t.Fatalf("got %v, want %d", got, want)
		}
		last = next
	}
}
