package netlink

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/internal/test/nstest"
	"github.com/fairlead/fairlead/proxy"
	"github.com/fairlead/fairlead/proxy/nftables"
)

// stranger is another program that writes to nftables: to a table of its own that is
// older than ours, with a set and many chains.
type stranger struct {
	conn  *conn
	set   nftables.Set
	elems []nftables.Element
}

const strangersTable = "other"

// newStranger makes a stranger in the namespace, and its table.
func (s space) newStranger(t testing.TB, chains int) *stranger {
	t.Helper()
	c, err := dial(int(s.Handle), socketBuffer)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.close)
	o := &stranger{conn: c, set: nftables.Set{Name: "s", Key: []nftables.Field{{Name: "ipv4_addr", Type: 7, Len: 4}}}}
	o.write(t, func(b *batch) {
		b.addTable(nftables.IP4, "")
		b.addSet(nftables.IP4, o.set)
		for i := range chains {
			b.addChain(nftables.IP4, nftables.Chain{Name: fmt.Sprintf("chain-with-a-long-name-%d", i)})
		}
	})
	return o
}

// write writes a transaction.
func (o *stranger) write(t testing.TB, fill func(*batch)) {
	t.Helper()
	b := newBatch(o.conn.seq)
	b.table = strangersTable
	fill(b)
	if err := o.conn.commit(b); err != nil {
		t.Error(err)
	}
}

// toggle adds elements and chains, or deletes them.
func (o *stranger) toggle(t testing.TB, elems, chains int) {
	t.Helper()
	if len(o.elems) > 0 {
		o.write(t, func(b *batch) {
			b.elements(nftables.IP4, unix.NFT_MSG_DELSETELEM, o.set, o.elems)
			for i := range chains {
				b.deleteChains(nftables.IP4, []string{fmt.Sprint("more", i)})
			}
		})
		o.elems = nil
		return
	}
	for i := range elems {
		o.elems = append(o.elems, nftables.Element{Set: o.set.Name, Key: string(numbered(snapshot.IPv4, 1, i).AsSlice())})
	}
	o.write(t, func(b *batch) {
		b.elements(nftables.IP4, unix.NFT_MSG_NEWSETELEM, o.set, o.elems)
		for i := range chains {
			b.addChain(nftables.IP4, nftables.Chain{Name: fmt.Sprint("more", i)})
		}
	})
}

// writes has o write all the time until the returned function is called, which returns
// how often it did.
func (o *stranger) writes(t testing.TB, every time.Duration, elems, chains int) (stop func() int) {
	done, count := make(chan struct{}), make(chan int)
	go func() {
		tick := time.NewTicker(every)
		defer tick.Stop()
		for n := 0; ; n++ {
			o.toggle(t, elems, chains)
			select {
			case <-tick.C:
			case <-done:
				count <- n
				return
			}
		}
	}()
	return func() int {
		close(done)
		return <-count
	}
}

// withEndpoint is t with ep as the first endpoint of n Frontends from the first on.
func withEndpoint(t *proxy.Table, first, n int, ep netip.AddrPort) *proxy.Table {
	next := *t
	next.Frontends = slices.Clone(t.Frontends)
	for i := first; i < first+n; i++ {
		f := *next.Frontends[i]
		f.Cluster = append([]netip.AddrPort{ep}, f.Cluster[1:]...)
		next.Frontends[i] = &f
	}
	return &next
}

// spec 101: what others write to their tables, all the time, concerns neither a change
// nor a restart.
func TestOthersWriteAllTheTime(t *testing.T) {
	n := nstest.Few(5000)
	s := newSpace(t, "foreign")
	o := s.newStranger(t, nstest.Few(2000))
	table, e := services(snapshot.IPv4, n, 5), s.engine(t)
	sync(t, e, table)
	reads := e.reads
	began, stop := time.Now(), o.writes(t, 5*time.Millisecond, 10, 1)
	failed := 0
	count := func(c proxy.Change, err error, changes bool) {
		t.Helper()
		if err != nil || c.Repaired || c.Rebuilt || c.Empty() == changes {
			failed++
			t.Logf("%+v, %v", c, err)
		}
	}
	for i := range 30 {
		table = withEndpoint(table, nstest.Few(100)*i, 1+i%2*nstest.Few(500), netip.AddrPortFrom(numbered(snapshot.IPv4, 120, i), 8080))
		c, err := e.Sync(t.Context(), table)
		count(c, err, true)
	}
	for range 5 {
		c, err := s.engine(t).Sync(t.Context(), table)
		count(c, err, false)
	}
	t.Logf("%d transactions of others in %v, %d full reads", stop(), time.Since(began), e.reads-reads)
	if failed > 0 || e.reads != reads {
		t.Errorf("%d of 35 failed, %d full reads of 30 Syncs", failed, e.reads-reads)
	}
}

// Our chains are listed behind those of others, which come and go meanwhile.
func TestListsChainsWhileOthersChange(t *testing.T) {
	s := newSpace(t, "chains")
	o := s.newStranger(t, 0)
	e := s.engine(t)
	sync(t, e, everything())
	want, err := e.conn.read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	stop := o.writes(t, 5*time.Millisecond, 1, 1000)
	missed, lists := 0, 0
	for end := time.Now().Add(2 * time.Second); time.Now().Before(end); lists++ {
		got := &nftables.Kernel{Family: nftables.IP4, Chains: map[string]nftables.ChainType{}}
		if err := e.conn.readChains(t.Context(), got); err != nil {
			t.Fatal(err)
		}
		if len(got.Chains) != len(want[0].Chains) {
			missed++
		}
	}
	t.Logf("%d lists, %d transactions of others", lists, stop())
	if missed > 0 {
		t.Errorf("%d lists lack chains", missed)
	}
}
