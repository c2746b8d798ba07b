package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

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

// recall reads what the last agent saved. What cannot be read is said and left.
func (a *Agent) recall() {
	if a.StateDir == "" {
		return
	}
	s, err := load(a.StateDir, a.Node)
	if err != nil {
		a.Log.Warn("the saved snapshot is of no use", "error", err)
		return
	}
	a.saved = s
}

// snapshot returns what to act on at now: the cluster as it is, or, when no API
// server has answered yet and patience is over, as it was saved; else nil.
func (a *Agent) snapshot(now time.Time) *snapshot.Snapshot {
	s, triggers := a.store.Latest()
	switch {
	case s != nil:
		a.saved = nil
		a.metrics.saved.Set(0)
		a.metrics.triggered(triggers, a.started)
		return s
	case a.saved == nil || now.Sub(a.asked) < patience:
		return nil
	}
	if !a.fromSaved {
		a.fromSaved = true
		a.metrics.saved.Set(1)
		a.Log.Warn("no API server answers; forwarding and announcing from the snapshot that was saved", "written", a.saved.Written)
	}
	return a.saved.Snapshot
}

// save keeps the current Snapshot for the next start.
func (a *Agent) save(context.Context) error {
	s := a.store.Snapshot()
	if s == nil || a.StateDir == "" {
		return nil
	}
	return save(a.StateDir, saved{Node: a.Node, Written: time.Now(), Proxy: a.proxy, Snapshot: s})
}

func savedPath(dir string) string { return filepath.Join(dir, "snapshot.json") }

// save writes s in dir, whole or not at all.
func save(dir string, s saved) error {
	s.Version = savedVersion
	data, err := json.Marshal(s)
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

// load reads what the last agent of this node saved in dir; nil if there is
// nothing of use.
func load(dir, node string) (*saved, error) {
	data, err := os.ReadFile(savedPath(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("load snapshot: %w", err)
	}
	var s saved
	if err := json.Unmarshal(data, &s); err != nil {
		return nil, fmt.Errorf("load snapshot: %w", err)
	}
	if s.Version != savedVersion || s.Node != node || s.Snapshot == nil {
		return nil, fmt.Errorf("load snapshot: it is of version %d and node %q; want %d and %q", s.Version, s.Node, savedVersion, node)
	}
	s.Snapshot.Sort()
	return &s, nil
}
