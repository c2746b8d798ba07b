package agent

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fairlead/fairlead/internal/kube"
	"github.com/fairlead/fairlead/internal/reconcile"
	"github.com/fairlead/fairlead/internal/saved"
	"github.com/fairlead/fairlead/internal/snapshot"
)

// A file that cannot be used is one line in the log, and the agent starts without it.
func TestUnusableFileIsLogged(t *testing.T) {
	var log bytes.Buffer
	c := cluster{cfg: &Config{StateDir: t.TempDir(), Node: "n1", Log: slog.New(slog.NewTextHandler(&log, nil))}}
	if err := os.WriteFile(saved.Paths(c.cfg.StateDir)[0], []byte(`{"Version":1,"Node":"n1","Snap`), 0o600); err != nil {
		t.Fatal(err)
	}
	c.recall()
	if c.saved != nil || strings.Count(log.String(), "\n") != 1 || !strings.Contains(log.String(), "could not use the saved snapshot") {
		t.Errorf("saved %v, log %q", c.saved, log.String())
	}
}

// What an agent left that was killed while it wrote is removed, and nothing else.
func TestHalfWrittenFilesAreRemoved(t *testing.T) {
	dir := t.TempDir()
	c := cluster{cfg: &Config{StateDir: dir, Node: "n1", Log: slog.New(slog.DiscardHandler)}}
	for _, name := range []string{"snapshot-1.new", "members-22.new", "members.keys", "other"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c.recall()
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 2 || left[0].Name() != "members.keys" || left[1].Name() != "other" {
		t.Errorf("%v, %v", left, err)
	}
}

// followed is a store whose Snapshot the test sets.
type followed struct {
	store
	now *snapshot.Snapshot
}

func (f *followed) Snapshot() *snapshot.Snapshot { return f.now }

// The file is written soon after a change that matters at a restart, within a minute
// after one of endpoints alone, and not without a change.
func TestWhenTheClusterIsSaved(t *testing.T) {
	web := func(port uint16, endpoint string) *snapshot.Service {
		return &snapshot.Service{
			Ref: snapshot.Ref{Namespace: "a", Name: "web"}, Ports: []snapshot.Port{{Port: port}},
			Endpoints: []snapshot.Endpoint{{Addr: netip.MustParseAddrPort(endpoint)}},
		}
	}
	of := func(s *snapshot.Service) *snapshot.Snapshot {
		return &snapshot.Snapshot{Services: []*snapshot.Service{s}}
	}
	first := web(80, "10.0.0.1:80")
	for name, tc := range map[string]struct {
		now   *snapshot.Snapshot
		after time.Duration // 0: never
	}{
		"nothing":              {of(first), 0},
		"an endpoint":          {of(web(80, "10.0.0.2:80")), saveEndpointsEvery},
		"a port":               {of(web(81, "10.0.0.1:80")), saveEvery + time.Second},
		"a Service that ended": {&snapshot.Snapshot{}, saveEvery + time.Second},
		"a pool":               {&snapshot.Snapshot{Services: of(first).Services, Pools: []*snapshot.Pool{{Name: "lan"}}}, saveEvery + time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, f := newSaving(t, of(first))
				cfg := a.cfg
				writes := 0
				var last time.Time
				look := func() {
					synctest.Wait()
					s, err := saved.Read(cfg.StateDir, "n1")
					if err != nil || s == nil {
						t.Fatalf("%v, %v", s, err)
					}
					if !s.Written.Equal(last) {
						writes, last = writes+1, s.Written
					}
				}
				go a.cluster.keep.Run(t.Context(), a.save)
				look()
				began := time.Now()
				time.Sleep(time.Second)
				f.now = tc.now
				a.cluster.keep.Wake()
				for time.Since(began) < 10*time.Minute {
					time.Sleep(time.Second)
					look()
				}
				if want := tc.after > 0; writes != 1+btoi(want) || want && last.Sub(began) != tc.after {
					t.Errorf("written %d times, last after %s, want %s", writes, last.Sub(began), tc.after)
				}
			})
		})
	}
}

// newSaving is an Agent that does nothing but save what the store has, first now.
func newSaving(t *testing.T, now *snapshot.Snapshot) (*Agent, *followed) {
	cfg := &Config{StateDir: t.TempDir(), Node: "n1", Clients: &kube.Clients{}, Log: slog.New(slog.DiscardHandler)}
	f := &followed{now: now}
	a := &Agent{cfg: cfg, engine: &engine{proxy: Fairlead}, cluster: cluster{cfg: cfg, store: f, keep: reconcile.New("snapshot", cfg.Log)}}
	a.cluster.keep.Resync, a.cluster.keep.Coalesce = 0, saveEvery
	return a, f
}

// Endpoints that change are added to the file, which is written whole only now and then, and
// again after somebody removed it.
func TestEndpointsAreAddedToTheFile(t *testing.T) {
	const services = 10 * amendedShare
	now := &snapshot.Snapshot{}
	for i := range services {
		now.Services = append(now.Services, &snapshot.Service{Ref: snapshot.Ref{Namespace: "a", Name: fmt.Sprintf("web%02d", i)}})
	}
	a, f := newSaving(t, now)
	path := saved.Paths(a.cfg.StateDir)[0]
	save := func(round int) os.FileInfo {
		t.Helper()
		next := *f.now
		next.Services = slices.Clone(next.Services)
		changed := *next.Services[round%services]
		changed.Endpoints = []snapshot.Endpoint{{Addr: netip.AddrPortFrom(netip.MustParseAddr("10.0.0.1"), uint16(round))}}
		next.Services[round%services], f.now = &changed, &next
		if err := a.saveSnapshot(f.now); err != nil {
			t.Fatal(err)
		}
		got, err := saved.Read(a.cfg.StateDir, "n1")
		if err != nil || !reflect.DeepEqual(got.Snapshot.Services, f.now.Services) || !got.Written.Equal(a.cluster.keptAt) {
			t.Fatalf("round %d: the file has %+v, %v", round, got, err)
		}
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		return info
	}
	synctest.Test(t, func(t *testing.T) {
		last, whole := save(0), 0
		for round := range 5 * services {
			time.Sleep(saveEndpointsEvery)
			info := save(1 + round)
			if !os.SameFile(info, last) {
				whole++
			}
			last = info
		}
		if most := 5*services/10 + 1; whole == 0 || whole > most {
			t.Errorf("the file was written whole %d times, want %d at most", whole, most)
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		time.Sleep(saveEndpointsEvery)
		f.now = &snapshot.Snapshot{Services: slices.Clone(f.now.Services)}
		changed := *f.now.Services[0]
		changed.Endpoints = nil
		f.now.Services[0] = &changed
		if err := a.saveSnapshot(f.now); err == nil {
			t.Error("a file that is gone was added to")
		}
		save(1)
	})
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// unlisted is a store that has not been listed.
type unlisted struct {
	store
	heard time.Time
}

func (u *unlisted) Latest() (*snapshot.Snapshot, []time.Time) { return nil, nil }
func (u *unlisted) Heard() time.Time                          { return u.heard }

// An agent starts from what was saved if no API server answers, but not while one sends
// the list of a large cluster, unless that takes too long.
func TestWhenWhatWasSavedCounts(t *testing.T) {
	start := time.Unix(1000, 0)
	for name, tc := range map[string]struct {
		after, heard time.Duration // since the question; 0: nothing was heard
		want         bool
	}{
		"at once":               {time.Second, 0, false},
		"nobody answers":        {patience, 0, true},
		"a list comes in":       {7 * time.Second, 6 * time.Second, false},
		"a list got stuck":      {7 * time.Second, 3 * time.Second, true},
		"a list takes too long": {listsWithin, listsWithin - time.Second, true},
	} {
		t.Run(name, func(t *testing.T) {
			u := &unlisted{}
			if tc.heard > 0 {
				u.heard = start.Add(tc.heard)
			}
			c := cluster{
				cfg: &Config{Log: slog.New(slog.DiscardHandler)}, store: u, metrics: newMetrics(prometheus.NewPedanticRegistry()),
				asked: start, saved: &saved.State{Snapshot: &snapshot.Snapshot{}},
			}
			if got, _ := c.snapshot(start.Add(tc.after)); (got != nil) != tc.want {
				t.Errorf("acts on what was saved: %v, want %v", got != nil, tc.want)
			}
		})
	}
}
