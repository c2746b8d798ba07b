package nftables

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
	now := table
	with := func(at int, endpoints ...netip.AddrPort) *proxy.Table {
		next := *now
		next.Frontends = slices.Clone(now.Frontends)
		f := *next.Frontends[at]
		f.Cluster = endpoints
		next.Frontends[at] = &f
		return &next
	}
	for i := range benchChanges {
		at := i * 97 % benchServices
		old := now.Frontends[at].Cluster
		now = with(at, old[0], netip.AddrPortFrom(numbered(snapshot.IPv4, 120, i), 8080))
		change = append(change, timed(func() { sync(b, e, now) }))
		noop = append(noop, timed(func() { sync(b, e, now) }))
		now = with(at, now.Frontends[at].Cluster[:1]...)
		count = append(count, timed(func() { sync(b, e, now) }))
		key := (&placed{Frontend: now.Frontends[at]}).key()
		before := element{key: key, data: string(portKey(addrKey(nil, old[1].Addr()), 8080))}
		after := element{key: key, data: string(portKey(addrKey(nil, numbered(snapshot.IPv4, 120, i)), 8080))}
		kchange = append(kchange, timed(func() {
			text.knftables(b, func(_ knftables.Interface, tx *knftables.Transaction) {
				spec := layout{ip4, DefaultMark}.epMap(variant{}, 1)
				tx.Delete(textElement(spec, before))
				tx.Add(textElement(spec, after))
			})
		}))
	}
	return noop, change, count, kchange
}

// knftables runs one transaction inside the namespace.
func (s space) knftables(b *testing.B, fill func(knftables.Interface, *knftables.Transaction)) {
	b.Helper()
	s.Do(b, func() error {
		nft, err := knftables.New(knftables.IPv4Family, tableName)
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
	l := layout{ip4, DefaultMark}
	fronts, _ := frontendsDiff(nil, table.Frontends)
	o := l.objects(l.needs(fronts))
	tx.Add(&knftables.Table{})
	for _, s := range o.sets {
		var flags []knftables.SetFlag
		if s.interval {
			flags = append(flags, knftables.IntervalFlag)
		}
		switch {
		case s.verdict:
			tx.Add(&knftables.Map{Name: s.name, Type: fieldNames(s.key) + " : verdict", Flags: flags})
		case s.data != nil:
			tx.Add(&knftables.Map{Name: s.name, Type: fieldNames(s.key) + " : " + fieldNames(s.data), Flags: flags})
		default:
			tx.Add(&knftables.Set{Name: s.name, Type: fieldNames(s.key), Flags: flags})
		}
	}
	for _, c := range o.chains {
		tx.Add(textChain(c))
	}
	for _, c := range o.chains {
		for _, r := range c.rules {
			tx.Add(&knftables.Rule{Chain: c.name, Rule: r.text})
		}
	}
	spec := specs(o)
	for _, e := range l.render(table, fronts) {
		tx.Add(textElement(spec[e.set], e))
	}
}

func textChain(c chain) *knftables.Chain {
	out := &knftables.Chain{Name: c.name}
	if c.hook == nil {
		return out
	}
	hooks := []knftables.BaseChainHook{knftables.PreroutingHook, knftables.InputHook, knftables.ForwardHook,
		knftables.OutputHook, knftables.PostroutingHook}
	out.Type = knftables.PtrTo(knftables.BaseChainType(c.hook.kind))
	out.Hook = &hooks[c.hook.num]
	out.Priority = knftables.PtrTo(knftables.BaseChainPriority(fmt.Sprint(c.hook.priority)))
	return out
}

func textElement(s setSpec, e element) *knftables.Element {
	key, value, isMap := strings.Cut(e.text(s), " : ")
	if !isMap {
		return &knftables.Element{Set: s.name, Key: []string{key}}
	}
	return &knftables.Element{Map: s.name, Key: []string{key}, Value: []string{value}}
}
