package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/fairlead/fairlead/internal/kube"
	"github.com/fairlead/fairlead/internal/reconcile"
	"github.com/fairlead/fairlead/internal/snapshot"
)

// savedVersion is the version of the file's format; a file of another one is
// not read.
const savedVersion = 1

// saved is what an agent keeps on disk: enough to forward and announce when it
// starts while no API server answers.
type saved struct {
	Version  int
	Node     string
	Written  time.Time
	Proxy    Proxy // who forwarded
	Snapshot *snapshot.Snapshot
}

// savedFile is a saved as the file holds it.
type savedFile struct {
	saved
	Snapshot json.RawMessage
	Sum      uint32 // of the rest; 0 in files of v0.1.0, which has none
}

// sum returns the checksum of the file. It finds what a disk damaged: an address with
// another digit is an address too.
func (f *savedFile) sum() uint32 {
	head := fmt.Sprintln(f.Version, f.Node, f.Written.UTC().Format(time.RFC3339Nano), f.Proxy)
	table := crc32.MakeTable(crc32.Castagnoli)
	return max(1, crc32.Update(crc32.Checksum([]byte(head), table), table, f.Snapshot))
}

// proxy returns who forwarded; "" if nothing is known of it.
func (s *saved) proxy() Proxy {
	if s == nil {
		return ""
	}
	return s.Proxy
}

// saveEvery is the time from a change to the write of the file, which takes a
// large cluster 25 ms.
const saveEvery = 10 * time.Second

// patience is how long a starting agent waits for the API server before it
// starts from what was saved: short, for the others take its addresses over after
// announcer.HoldFor of silence, and the kubelet may have taken half of that to start
// it.
const patience = 3 * time.Second

// cluster is what the agent knows of the cluster.
type cluster struct {
	cfg     *Config
	store   store
	keep    *reconcile.Loop // writes what the next agent starts from
	metrics *metrics

	saved     *saved             // what the last agent kept, until the cluster has been listed
	asked     time.Time          // since when the API server owes an answer
	started   time.Time          // of Run
	fromSaved bool               // saved is being acted on
	last      *snapshot.Snapshot // that was decided on
}

// store is *kube.Store.
type store interface {
	Run(ctx context.Context) error
	Latest() (*snapshot.Snapshot, []time.Time)
	Snapshot() *snapshot.Snapshot
	Synced() bool
}

func newCluster(cfg *Config, m *metrics, changed func()) cluster {
	all := kube.NewStore(cfg.Clients, changed)
	all.WithoutNodeStates = true // the agents speak with each other
	c := cluster{cfg: cfg, store: all, keep: reconcile.New("snapshot", cfg.Log), metrics: m}
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
	s, err := load(c.cfg.StateDir, c.cfg.Node)
	if err != nil {
		c.cfg.Log.Warn("could not use the saved snapshot, starting without it", "error", err)
		return
	}
	c.saved = s
}

// snapshot returns what to act on at now: the cluster as it is, or, when no API
// server has answered yet and patience is over, as it was saved; else nil. With
// it come the times of the changes that it is the first to hold.
func (c *cluster) snapshot(now time.Time) (*snapshot.Snapshot, []time.Time) {
	s, triggers := c.store.Latest()
	switch {
	case s != nil:
		c.saved = nil
		c.metrics.saved.Set(0)
		return s, slices.DeleteFunc(triggers, func(t time.Time) bool { return !t.After(c.started) })
	case c.saved == nil || now.Sub(c.asked) < patience:
		return nil, nil
	}
	if !c.fromSaved {
		c.fromSaved = true
		c.metrics.saved.Set(1)
		c.cfg.Log.Warn("no API server answers; forwarding and announcing from the snapshot that was saved", "written", c.saved.Written)
	}
	return c.saved.Snapshot, nil
}

// changes returns what s changed since the last call.
func (c *cluster) changes(s *snapshot.Snapshot) snapshot.Changes {
	changes := snapshot.Diff(c.last, s)
	c.last = s
	return changes
}

// save keeps the current Snapshot, and the MACs of the nodes, for the next start.
func (a *Agent) save(context.Context) error {
	kept := a.neighbours.Keep()
	s := a.cluster.store.Snapshot()
	if s == nil || a.cfg.StateDir == "" {
		return kept
	}
	return errors.Join(kept, save(a.cfg.StateDir, saved{Node: a.cfg.Node, Written: time.Now(), Proxy: a.engine.proxy, Snapshot: s}))
}

func savedPath(dir string) string { return filepath.Join(dir, "snapshot.json") }

// save writes s in dir, whole or not at all.
func save(dir string, s saved) error {
	s.Version = savedVersion
	data, err := marshalSaved(s)
	if err != nil {
		return fmt.Errorf("save snapshot: %w", err)
	}
	f, err := os.CreateTemp(dir, "snapshot-*.new")
	if err != nil {
		return fmt.Errorf("save snapshot: %w", err)
	}
	_, err = f.Write(data)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), savedPath(dir))
	}
	if err != nil {
		return errors.Join(fmt.Errorf("save snapshot: %w", err), os.Remove(f.Name()))
	}
	return nil
}

func marshalSaved(s saved) (data []byte, err error) {
	f := savedFile{saved: s}
	if f.Snapshot, err = json.Marshal(s.Snapshot); err != nil {
		return nil, err
	}
	f.Sum = f.sum()
	return json.Marshal(f)
}

// load reads what the last agent of this node saved in dir; nil if there is
// nothing. It returns an error for a file that this agent cannot start from.
func load(dir, node string) (*saved, error) {
	data, err := os.ReadFile(savedPath(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("load snapshot: %w", err)
	}
	s, err := unmarshalSaved(data, node)
	if err != nil {
		return nil, fmt.Errorf("load snapshot: %w", err)
	}
	return s, nil
}

func unmarshalSaved(data []byte, node string) (*saved, error) {
	var f savedFile
	if err := json.Unmarshal(data, &f); err != nil {
		return nil, err
	}
	if f.Version != savedVersion || f.Node != node {
		return nil, fmt.Errorf("it is of version %d and node %q; want %d and %q", f.Version, f.Node, savedVersion, node)
	}
	if f.Sum != 0 && f.Sum != f.sum() {
		return nil, errors.New("it is damaged: its checksum is another")
	}
	s := f.saved
	if err := json.Unmarshal(f.Snapshot, &s.Snapshot); err != nil {
		return nil, err
	}
	if s.Snapshot == nil || !whole(s.Snapshot) {
		return nil, errors.New("it is damaged: something in it is empty")
	}
	s.Snapshot.Sort()
	return &s, nil
}

// whole reports whether no list has an empty place, which nobody expects.
func whole(s *snapshot.Snapshot) bool {
	return !slices.Contains(s.Services, nil) && !slices.Contains(s.Nodes, nil) && !slices.Contains(s.Pools, nil) &&
		!slices.Contains(s.Addresses, nil) && !slices.Contains(s.NodeStates, nil) && !slices.Contains(s.Namespaces, nil) &&
		!slices.Contains(s.Announcements, nil) && !slices.Contains(s.ServiceCIDRs, nil) && !slices.Contains(s.BGPPeers, nil)
}
