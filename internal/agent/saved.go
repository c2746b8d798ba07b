package agent

import (
	"context"
	"errors"
	"reflect"
	"runtime/debug"
	"slices"
	"time"

	"github.com/fairlead/fairlead/internal/kube"
	"github.com/fairlead/fairlead/internal/proxies"
	"github.com/fairlead/fairlead/internal/reconcile"
	"github.com/fairlead/fairlead/internal/saved"
	"github.com/fairlead/fairlead/internal/snapshot"
)

// saveEvery is the time from a change that matters to the write of the file. A change of
// endpoints alone waits until the last write is saveEndpointsEvery ago, because pods come and
// go all the time. It is added to the file: to write all of a large cluster takes a tenth of
// a second of CPU time. The whole file is written again when what was added is a share of it,
// which is one part in amendedShare.
const (
	saveEvery          = 10 * time.Second
	saveEndpointsEvery = time.Minute
	amendedShare       = 4
)

// patience is how long a starting agent waits for the API server before it
// starts from what was saved: short, for the others take its addresses over after
// announcer.HoldFor of silence, and the kubelet may have taken half of that to start
// it.
const patience = 3 * time.Second

// listsWithin is how long a starting agent waits while an API server sends objects: the
// list of a large cluster takes longer than patience, and to compile what was saved first
// would make it longer still.
const listsWithin = 8 * time.Second

// cluster is what the agent knows of the cluster.
type cluster struct {
	cfg     *Config
	store   store
	keep    *reconcile.Loop // writes what the next agent starts from
	metrics *metrics

	saved     *saved.State       // what the last agent kept, until the cluster has been listed
	asked     time.Time          // since when the API server owes an answer
	started   time.Time          // of Run
	fromSaved bool               // saved is being acted on
	listed    bool               // the store has been listed
	last      *snapshot.Snapshot // that was decided on

	kept    *snapshot.Snapshot // that the file says; nil before it is written, and if it cannot be added to
	keptAt  time.Time
	amended int // how many Services were added to the file since it was written whole
}

// store is *kube.Store.
type store interface {
	Run(ctx context.Context) error
	Latest() (*snapshot.Snapshot, []time.Time)
	Snapshot() *snapshot.Snapshot
	Synced() bool
	Heard() time.Time
}

func newCluster(cfg *Config, m *metrics, changed func()) cluster {
	followed := kube.NewStore(cfg.Clients, changed)
	followed.Lean = true
	followed.Endpoints = kube.EndpointsWithin(debug.SetMemoryLimit(-1))
	followed.WithoutNodeStates = true // the agents speak with each other
	followed.Roster, followed.Log = cfg.Namespace, cfg.Log
	c := cluster{cfg: cfg, store: followed, keep: reconcile.New("snapshot", cfg.Log), metrics: m}
	c.keep.Resync, c.keep.Coalesce = 0, saveEvery
	return c
}

// Run follows the API server until ctx ends.
func (c *cluster) Run(ctx context.Context) error { return c.store.Run(ctx) }

// recall reads what the last agent saved. A file that cannot be used is logged, and
// the agent starts without it.
func (c *cluster) recall() {
	if c.cfg.StateDir == "" {
		return
	}
	// A kill in the middle of a write leaves a file each time.
	if err := saved.Tidy(c.cfg.StateDir); err != nil {
		c.cfg.Log.Warn("cannot remove files that an earlier agent left half written", "error", err)
	}
	s, err := saved.Read(c.cfg.StateDir, c.cfg.Node)
	if err != nil {
		c.cfg.Log.Warn("could not use the saved snapshot, starting without it", "error", err)
		return
	}
	c.saved = s
	if s != nil {
		c.cfg.Clients.Paths.Learn(kube.ServersIn(s.Snapshot))
	}
}

// savedProxy returns who forwarded; "" if nothing is known of it.
func (c *cluster) savedProxy() proxies.Name {
	if c.saved == nil {
		return ""
	}
	return proxies.Name(c.saved.Proxy)
}

// snapshot returns what to act on at now: the cluster as it is, or, when no API
// server has answered yet and patience is over, as it was saved; else nil. With
// it come the times of the changes that it is the first to hold.
func (c *cluster) snapshot(now time.Time) (*snapshot.Snapshot, []time.Time) {
	s, triggers := c.store.Latest()
	switch {
	case s != nil:
		if !c.listed {
			c.cfg.Log.Info("the cluster is listed", "services", len(s.Services), "after", now.Sub(c.started), "read", time.Since(now))
		}
		c.saved, c.listed = nil, true
		c.metrics.saved.Set(0)
		// What changed before this agent started would count as programmed late.
		return s, slices.DeleteFunc(triggers, func(t time.Time) bool { return !t.After(c.started) })
	case c.saved == nil || now.Sub(c.asked) < patience:
		return nil, nil
	// With 50,000 Services the saved cluster was programmed first and the listed one right after it:
	// twice the CPU time and the memory.
	case now.Sub(c.store.Heard()) < patience && now.Sub(c.asked) < listsWithin:
		return nil, nil
	}
	if !c.fromSaved {
		c.fromSaved = true
		c.metrics.saved.Set(1)
		c.cfg.Log.Warn("no API server has listed the cluster; forwarding and announcing from the snapshot that was saved", "written", c.saved.Written)
	}
	return c.saved.Snapshot, nil
}

// changes returns what s changed since the last call.
func (c *cluster) changes(s *snapshot.Snapshot) snapshot.Changes {
	changes := snapshot.Diff(c.last, s)
	c.last = s
	return changes
}

// save keeps the current Snapshot for the next start, if it differs from the one that
// was kept last, and the MACs of the nodes. It learns where the API servers are.
func (a *Agent) save(context.Context) error {
	kept := a.neighbours.Keep()
	s := a.cluster.store.Snapshot()
	if s == nil {
		return kept
	}
	// Also without a folder: the next connection may have to do without the API server's ClusterIP.
	a.cfg.Clients.Paths.Learn(kube.ServersIn(s))
	if a.cfg.StateDir == "" {
		return kept
	}
	return errors.Join(kept, a.saveSnapshot(s))
}

func (a *Agent) saveSnapshot(s *snapshot.Snapshot) error {
	c, now := &a.cluster, time.Now()
	how, changed := differ(c.kept, s)
	switch how {
	case nothing:
		return nil
	case endpointsAlone:
		if due := c.keptAt.Add(saveEndpointsEvery); now.Before(due) {
			c.keep.At(due)
			return nil
		}
		if c.amended += len(changed); c.amended <= len(s.Services)/amendedShare {
			return a.wrote(s, now, saved.Amend(a.cfg.StateDir, now, changed))
		}
	}
	c.amended = 0
	return a.wrote(s, now, saved.Write(a.cfg.StateDir, saved.State{Node: a.cfg.Node, Written: now, Proxy: string(a.engine.proxy), Snapshot: s}))
}

// wrote takes in that s was saved at time now, unless err is not nil.
func (a *Agent) wrote(s *snapshot.Snapshot, now time.Time, err error) error {
	if err != nil {
		s = nil // the next time, which is soon after an error, the whole file is written
	}
	a.cluster.kept, a.cluster.keptAt = s, now
	return err
}

// difference is how much two Snapshots differ.
type difference int

const (
	nothing difference = iota
	endpointsAlone
	more
)

// differ returns how much now differs from old, which may be nil, and if it is by endpoints
// alone, the Services that have them.
func differ(old, now *snapshot.Snapshot) (how difference, changed []*snapshot.Service) {
	if old == nil {
		return more, nil
	}
	changes := snapshot.Diff(old, now)
	services := changes.Services
	if changes.Services, changes.Since = nil, nil; !reflect.DeepEqual(changes, snapshot.Changes{}) {
		return more, nil
	}
	for _, ref := range services {
		was, is := old.Service(ref), now.Service(ref)
		if was == nil || is == nil {
			return more, nil
		}
		bare, other := *was, *is
		bare.Endpoints, other.Endpoints = nil, nil
		if !reflect.DeepEqual(bare, other) {
			return more, nil
		}
		changed = append(changed, is)
	}
	if len(changed) > 0 {
		return endpointsAlone, changed
	}
	return nothing, nil
}
