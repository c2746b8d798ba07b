package netlink

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/knftables"

	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/proxy"
	"github.com/fairlead/fairlead/proxy/nftables"
)

const (
	benchServices = 10000
	benchLoads    = 5
	benchChanges  = 51
)

// BenchmarkAgainstKnftables loads 10,000 Services with 2 endpoints each, and
// changes single endpoints, with this engine and with the same objects and
// elements as text through knftables, which pipes them to nft. Each load is in a
// network namespace of its own. It prints the medians in one line; run it with
// -benchtime 1x.
func BenchmarkAgainstKnftables(b *testing.B) {
	table := services(snapshot.IPv4, benchServices, 2)
	loads, adopts := make([]time.Duration, 0, benchLoads), make([]time.Duration, 0, benchLoads)
	var kloads []time.Duration
	var last, klast space
	for range benchLoads {
		last = newSpace(b, "ours")
		loads = append(loads, timed(func() { sync(b, last.engine(b), table) }))
		adopts = append(adopts, timed(func() { sync(b, last.engine(b), table) }))
		klast = newSpace(b, "text")
		kloads = append(kloads, timed(func() {
			klast.knftables(b, func(nft knftables.Interface, tx *knftables.Transaction) { textLoad(tx, table) })
		}))
	}
	e := last.engine(b)
	sync(b, e, table)
	noop, change, count, kchange := benchChange(b, e, klast, table)
	ms := func(d []time.Duration) float64 { return float64(median(d).Microseconds()) / 1000 }
	fmt.Printf("bench-codec: services=%d endpoints=%d load_10k_ms=%.1f knftables_load_10k_ms=%.1f load_ratio=%.1f "+
		"change_ms=%.3f knftables_change_ms=%.1f change_ratio=%.0f count_change_ms=%.3f adopt_10k_ms=%.1f noop_ms=%.3f\n",
		benchServices, 2*benchServices, ms(loads), ms(kloads), ms(kloads)/ms(loads),
		ms(change), ms(kchange), ms(kchange)/ms(change), ms(count), ms(adopts), ms(noop))
	b.ReportMetric(ms(loads), "load-ms")
	b.ReportMetric(ms(change), "change-ms")
}

func timed(f func()) time.Duration {
	start := time.Now()
	f()
	return time.Since(start)
}

func median(d []time.Duration) time.Duration {
	d = slices.Sorted(slices.Values(d))
	return d[len(d)/2]
}

// benchChange times Syncs with 10,000 Services in the kernel: nothing new; one
// endpoint replaced; one endpoint more or less; and one replaced by knftables.
func benchChange(b *testing.B, e *Engine, text space, table *proxy.Table) (noop, change, count, kchange []time.Duration) {
	with := func(t *proxy.Table, at int, endpoints ...netip.AddrPort) *proxy.Table {
		next := *t
		next.Frontends = slices.Clone(t.Frontends)
		f := *next.Frontends[at]
		f.Cluster = endpoints
		next.Frontends[at] = &f
		return &next
	}
	now := table
	held, _ := nftables.Adopt(nothing(), table, nftables.DefaultMark, false) // by text
	for i := range benchChanges {
		at := i * 97 % benchServices
		old, other := now.Frontends[at].Cluster[0], netip.AddrPortFrom(numbered(snapshot.IPv4, 120, i), 8080)
		now = with(now, at, old, other)
		change = append(change, timed(func() { sync(b, e, now) }))
		noop = append(noop, timed(func() { sync(b, e, now) }))
		now = with(now, at, old)
		count = append(count, timed(func() { sync(b, e, now) }))
		var patches []*nftables.Patch
		held, patches = held.Next(with(held.Table, at, old, other))
		kchange = append(kchange, timed(func() {
			text.knftables(b, func(_ knftables.Interface, tx *knftables.Transaction) { textChange(tx, patches[0]) })
		}))
	}
	return noop, change, count, kchange
}

// knftables runs one transaction inside the namespace.
func (s space) knftables(b *testing.B, fill func(knftables.Interface, *knftables.Transaction)) {
	b.Helper()
	s.Do(b, func() error {
		nft, err := knftables.New(knftables.IPv4Family, nftables.TableName)
		if err != nil {
			return err
		}
		tx := nft.NewTransaction()
		fill(nft, tx)
		return nft.Run(context.Background(), tx)
	})
}

// textLoad is the table of ip4 as knftables writes it.
func textLoad(tx *knftables.Transaction, table *proxy.Table) {
	_, patches := nftables.Adopt(nothing(), table, nftables.DefaultMark, false)
	p := patches[0]
	tx.Add(&knftables.Table{})
	for _, s := range p.Main().AddSets {
		var flags []knftables.SetFlag
		if s.Interval {
			flags = append(flags, knftables.IntervalFlag)
		}
		switch {
		case s.Verdict:
			tx.Add(&knftables.Map{Name: s.Name, Type: nftables.FieldNames(s.Key) + " : verdict", Flags: flags})
		case s.Data != nil:
			tx.Add(&knftables.Map{Name: s.Name, Type: nftables.FieldNames(s.Key) + " : " + nftables.FieldNames(s.Data), Flags: flags})
		default:
			tx.Add(&knftables.Set{Name: s.Name, Type: nftables.FieldNames(s.Key), Flags: flags})
		}
	}
	for _, c := range p.Main().AddChains {
		tx.Add(textChain(c))
	}
	for _, c := range p.Main().AddRules {
		for _, r := range c.Rules {
			tx.Add(&knftables.Rule{Chain: c.Name, Rule: r.Text})
		}
	}
	textChange(tx, p)
}

// textChange is a Patch's elements as knftables writes them.
func textChange(tx *knftables.Transaction, p *nftables.Patch) {
	for _, e := range p.Main().Del {
		tx.Delete(textElement(p, e))
	}
	for _, e := range p.Main().Add {
		tx.Add(textElement(p, e))
	}
}

// nothing is a kernel without our tables.
func nothing() []*nftables.Kernel {
	return []*nftables.Kernel{{Family: nftables.IP4}, {Family: nftables.IP6}}
}

func textChain(c nftables.Chain) *knftables.Chain {
	out := &knftables.Chain{Name: c.Name}
	if c.Hook == nil {
		return out
	}
	hooks := []knftables.BaseChainHook{knftables.PreroutingHook, knftables.InputHook, knftables.ForwardHook,
		knftables.OutputHook, knftables.PostroutingHook}
	out.Type = knftables.PtrTo(knftables.BaseChainType(c.Hook.Kind))
	out.Hook = &hooks[c.Hook.Point]
	out.Priority = knftables.PtrTo(knftables.BaseChainPriority(fmt.Sprint(c.Hook.Priority)))
	return out
}

func textElement(p *nftables.Patch, e nftables.Element) *knftables.Element {
	s, _ := p.Layout.Set(e.Set)
	key, value, isMap := strings.Cut(e.Text(s), " : ")
	if !isMap {
		return &knftables.Element{Set: s.Name, Key: []string{key}}
	}
	return &knftables.Element{Map: s.Name, Key: []string{key}, Value: []string{value}}
}
