package apitest

import (
	"log/slog"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/allocator"
	"github.com/fairlead/fairlead/internal/kube"
	"github.com/fairlead/fairlead/internal/record"
	"github.com/fairlead/fairlead/internal/test/storytest"
)

// TestDifferences: who does nothing is told apart from who acts, in every part
// that Tell compares.
func TestDifferences(t *testing.T) {
	a := New()
	a.Store = kube.NewStore(a.Clients, func() {})
	a.Start(t)
	w := storytest.NewWorld()
	if err := w.Do("pool lan 192.0.2.0/31\nservice a/one\nservice a/two\n"); err != nil {
		t.Fatal(err)
	}
	snap, err := w.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	a.Sync(snap)
	plan := allocator.Decide(snap, w.Options())
	got, want := a.held(snap, w.Options()), planned(plan)
	for _, part := range []string{"service a/one [192.0.2.0] Assigned\n", "record 192.0.2.1 pool=lan key= [a/two]\n", "pool lan {2 2 0} {0 0 0}\n"} {
		if !strings.Contains(want, part) || strings.Contains(got, part) {
			t.Errorf("%q is not in what is wanted alone:\n%s\n%s", part, want, got)
		}
	}
	writer := &record.Writer{Clients: a.Clients, Store: a.Store, Log: slog.New(slog.DiscardHandler)}
	for _, write := range record.Writes(plan, a.Store.Snapshot()) {
		if err := writer.Record(t.Context(), write); err != nil {
			t.Fatal(err)
		}
		if err := writer.Record(t.Context(), write); err == nil {
			t.Errorf("%s is recorded twice", write.Addr())
		}
	}
	if n := len(record.Writes(plan, a.Store.Snapshot())); n != 0 {
		t.Errorf("%d records are still to be written", n)
	}
}
