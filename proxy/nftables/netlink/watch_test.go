package netlink

import (
	"regexp"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/internal/test/nstest"
	"github.com/fairlead/fairlead/proxy"
)

// Changes of other programs to other tables cost no full read. A change to ours among
// them is found.
func TestForeignChangesAreCheap(t *testing.T) {
	s := newSpace(t, "watch")
	e := s.engine(t)
	table := everything()
	sync(t, e, table)
	reads := e.reads
	changed := everything()
	changed.Frontends[0].Cluster = eps("198.18.1.9:6443")
	for i := range 5 {
		s.Pipe(t, "add table ip other; add set ip other s { type ipv4_addr; }; add element ip other s { 192.0.2.1 }; delete table ip other", "nft", "-f", "-")
		if c := sync(t, e, table); !c.Empty() || c.Repaired {
			t.Fatalf("%d: %+v", i, c)
		}
		s.Pipe(t, "add table inet fairlead; delete table inet fairlead", "nft", "-f", "-") // not our family
		if c := sync(t, e, changed); c.Empty() || c.Repaired {
			t.Fatalf("%d: %+v", i, c)
		}
		sync(t, e, table)
	}
	if e.reads != reads {
		t.Errorf("%d full reads", e.reads-reads)
	}
	s.Pipe(t, "add table ip other; delete element ip fairlead cluster-ips { 10.96.0.1 }", "nft", "-f", "-")
	s.Pipe(t, "delete table ip other", "nft", "-f", "-")
	if c := sync(t, e, changed); !c.Repaired || c.Rebuilt || c.Added != 2 {
		t.Errorf("%+v", c)
	}
	// Affinity and expiring elements are not anybody's changes.
	if c := sync(t, e, changed); !c.Empty() || c.Repaired {
		t.Errorf("%+v", c)
	}
}

// keep keeps table in the kernel as an agent does, which Syncs when it is told to. It
// returns what the Syncs did.
func keep(t testing.TB, e *Engine, table *proxy.Table) <-chan proxy.Change {
	t.Helper()
	wake, did, ended := make(chan struct{}, 1), make(chan proxy.Change, 1000), make(chan struct{})
	e.Notify(func() {
		select {
		case wake <- struct{}{}:
		default:
		}
	})
	sync(t, e, table)
	stop := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case <-stop:
				return
			case <-wake:
			}
			c, err := e.Sync(t.Context(), table)
			if err != nil {
				t.Error(err)
			}
			did <- c
		}
	}()
	t.Cleanup(func() {
		close(stop)
		<-ended
	})
	return did
}

// repaired waits for a Sync that repaired something.
func repaired(t testing.TB, did <-chan proxy.Change) {
	t.Helper()
	limit := time.After(30 * time.Second)
	for {
		select {
		case c := <-did:
			if c.Repaired {
				return
			}
		case <-limit:
			t.Fatal("not repaired")
		}
	}
}

// breakages are what others may do to our tables, as text for nft.
var breakages = []struct {
	what string
	text func(t testing.TB, s space) string
}{
	{"ruleset flushed", says("flush ruleset")},
	{"table deleted", says("delete table ip fairlead")},
	{"rule removed", func(t testing.TB, s space) string {
		listing := s.Run(t, "nft", "-a", "list", "chain", "ip", "fairlead", "services")
		return "delete rule ip fairlead services handle " + regexp.MustCompile(`(?m)^\t\t[^t].*# handle (\d+)$`).FindStringSubmatch(listing)[1]
	}},
	{"element removed", says("delete element ip fairlead cluster-ips { 10.96.0.1 }")},
	{"element added", says("add element ip fairlead vips { 192.0.2.77 }")},
}

func says(text string) func(testing.TB, space) string {
	return func(testing.TB, space) string { return text }
}

// spec 102: what others do to our tables is found without a Sync, and repaired.
func TestOthersChangesAreRepaired(t *testing.T) {
	s := newSpace(t, "repair")
	table := services(snapshot.IPv4, nstest.Few(1000), 5)
	did := keep(t, s.engine(t), table)
	for _, b := range breakages {
		t.Run(b.what, func(t *testing.T) {
			text := b.text(t, s)
			began := time.Now()
			s.Pipe(t, text, "nft", "-f", "-")
			ran := time.Since(began)
			repaired(t, did)
			t.Logf("repaired %v after nft began, which took %v", time.Since(began), ran)
			if c := sync(t, s.engine(t), table); !c.Empty() {
				t.Errorf("a fresh engine still had to write %+v", c)
			}
		})
	}
}

// If events are lost, our tables are read once, not again and again.
func TestLostEvents(t *testing.T) {
	s := newSpace(t, "lost")
	o := s.newStranger(t, 0)
	e, told := s.engine(t), make(chan struct{}, 100)
	e.Notify(func() { told <- struct{}{} })
	table := everything()
	sync(t, e, table)
	if err := e.watch.conn.nl.SetReadBuffer(1); err != nil { // the kernel makes that its least
		t.Fatal(err)
	}
	lose := func(more string) {
		t.Helper()
		e.watch.mu.Lock() // nobody reads
		o.toggle(t, 5000, 0)
		s.Pipe(t, more, "nft", "-f", "-")
		e.watch.mu.Unlock()
		select {
		case <-told:
		case <-time.After(30 * time.Second):
			t.Fatal("not told")
		}
	}
	reads := e.reads
	lose("")
	for range 3 {
		if c := sync(t, e, table); !c.Empty() || c.Repaired {
			t.Errorf("%+v", c)
		}
	}
	if e.reads != reads+1 {
		t.Errorf("%d full reads", e.reads-reads)
	}
	lose("delete element ip fairlead cluster-ips { 10.96.0.1 }")
	if c := sync(t, e, table); !c.Repaired || c.Added != 1 {
		t.Errorf("%+v", c)
	}
	if len(told) > 0 {
		t.Errorf("told %d times too often", len(told))
	}
}

// While the watch does not hear a large write of ours, it does not miss what others
// write to our tables.
func TestUnheard(t *testing.T) {
	s := newSpace(t, "unheard")
	e := s.engine(t)
	small, large := services(snapshot.IPv4, 100, 2), services(snapshot.IPv4, 3000, 2)
	sync(t, e, large)
	reads := e.reads
	sync(t, e, small)
	sync(t, e, large)
	sync(t, e, large)
	if e.reads != reads {
		t.Errorf("%d full reads although nobody else wrote", e.reads-reads)
	}
	if err := e.unheard(t.Context(), func() (int, error) {
		s.Pipe(t, "delete element ip fairlead cluster-ips { 10.96.0.1 }", "nft", "-f", "-")
		return 0, nil
	}); err != nil {
		t.Fatal(err)
	}
	if c := sync(t, e, large); !c.Repaired || c.Added != 1 {
		t.Errorf("%+v", c)
	}
	if c := sync(t, e, large); !c.Empty() || c.Repaired || e.reads != reads+1 {
		t.Errorf("again: %+v, %d full reads", c, e.reads-reads)
	}
	s.Pipe(t, "delete element ip fairlead cluster-ips { 10.96.0.1 }", "nft", "-f", "-")
	if c := sync(t, e, large); !c.Repaired {
		t.Errorf("heard again: %+v", c)
	}
}

// deaf is a socket whose next answer is lost.
type deaf struct {
	syscall.RawConn
	left int
}

func (d *deaf) Read(f func(fd uintptr) bool) error {
	if d.left--; d.left == 0 {
		return unix.ENOBUFS
	}
	return d.RawConn.Read(f)
}

// A transaction of ours whose answer is lost is not taken for somebody else's.
func TestLostAnswer(t *testing.T) {
	s := newSpace(t, "deaf")
	e := s.engine(t)
	sync(t, e, services(snapshot.IPv4, 10, 2))
	e.conn.raw = &deaf{e.conn.raw, 1}
	if c := sync(t, e, services(snapshot.IPv4, 11, 2)); c.Repaired || !c.Empty() {
		t.Errorf("%+v", c)
	}
	if c := sync(t, s.engine(t), services(snapshot.IPv4, 11, 2)); !c.Empty() {
		t.Errorf("a fresh engine still had to write %+v", c)
	}
}

// A reply that was read in time leaves no deadline for what the kernel answers later.
func TestNoDeadlineStays(t *testing.T) {
	s := newSpace(t, "patience")
	e := s.engine(t)
	sync(t, e, services(snapshot.IPv4, 10, 2))
	e.conn.patience = time.Second
	if _, err := e.Read(t.Context()); err != nil {
		t.Fatal(err)
	}
	reads := e.reads
	time.Sleep(e.conn.patience + 100*time.Millisecond) // nothing happens: there is nothing to wait for
	if c := sync(t, e, services(snapshot.IPv4, 11, 2)); c.Added == 0 || e.reads != reads {
		t.Errorf("%+v, %d full reads", c, e.reads-reads)
	}
}

// spec 101: what others write to their tables does not reach the agent.
func TestOthersTransactionsWakeNobody(t *testing.T) {
	s := newSpace(t, "hear")
	e := s.engine(t)
	sync(t, e, everything())
	heard := func() int {
		if _, err := e.watch.take(); err != nil {
			t.Fatal(err)
		}
		e.watch.mu.Lock()
		defer e.watch.mu.Unlock()
		return e.watch.heard
	}
	before := heard()
	other := s.newStranger(t, 3)
	for range 10 {
		other.toggle(t, 2, 1)
	}
	if n := heard() - before; n != 0 {
		t.Errorf("%d datagrams of others were read", n)
	}
	s.Pipe(t, "add element ip fairlead vips { 192.0.2.77 }", "nft", "-f", "-")
	if heard() == before {
		t.Error("a change to our table was not heard")
	}
}
