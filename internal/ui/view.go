package ui

import (
	"context"
	"sync"
	"time"

	"github.com/fairlead/fairlead/internal/cli/cluster"
	"github.com/fairlead/fairlead/internal/cli/survey"
)

// Source is where a cluster's objects come from: survey.Live, or a demo.
type Source interface {
	// Objects are those known now. Nobody changes them.
	Objects() *survey.Objects
	// Changed is closed when something changes after the call.
	Changed() <-chan struct{}
	// Refresh reads what is not watched.
	Refresh(ctx context.Context)
}

// How often a page is drawn again: shortly after a change, not more often than now and
// then while many follow each other, and when the ages that it shows have grown.
const (
	settle = 150 * time.Millisecond
	rest   = 500 * time.Millisecond
	aging  = 20 * time.Second
	// patience is how long a page waits for an API server that does not answer.
	patience = 2 * time.Second
)

// view is the cluster of a Source as pages show it. All pages share one value as long as
// nothing changes: making it takes time in a large cluster.
type view struct {
	source Source

	mu      sync.Mutex
	state   *cluster.State
	made    time.Time
	changed <-chan struct{}
	fresh   time.Time // when the source was refreshed
}

// now returns the cluster, and a channel that is closed when it is an old one.
func (v *view) now(ctx context.Context) (*cluster.State, <-chan struct{}) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.state != nil && time.Since(v.made) < aging {
		select {
		case <-v.changed:
		default:
			return v.state, v.changed
		}
	}
	if time.Since(v.fresh) >= aging {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
		v.source.Refresh(ctx)
		cancel()
		v.fresh = time.Now()
	}
	v.changed = v.source.Changed() // before the objects: a change between the two is not lost
	v.state, v.made = v.source.Objects().State(), time.Now()
	return v.state, v.changed
}

// next waits until the cluster is to be drawn again; false once ctx has ended.
func next(ctx context.Context, changed <-chan struct{}) bool {
	age := time.NewTimer(aging)
	defer age.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-age.C:
		return true
	case <-changed:
	}
	select {
	case <-ctx.Done():
		return false
	case <-time.After(settle):
		return true
	}
}
