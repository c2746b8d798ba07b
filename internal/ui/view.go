package ui

import (
	"context"
	"net/http"
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
	memory  cluster.Memory
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
	v.state.Remember(&v.memory)
	return v.state, v.changed
}

// visit is what somebody sees, and who they are; "" if that is not known.
type visit struct {
	*view
	user string
}

// next waits until the cluster is to be drawn again, or v is not what the sender of r sees any
// longer. It reports whether the sender is still there.
func (s *Server) next(r *http.Request, v visit, changed <-chan struct{}) bool {
	age := time.NewTimer(aging)
	defer age.Stop()
	var again <-chan time.Time
	if s.recheck > 0 {
		tick := time.NewTicker(s.recheck)
		defer tick.Stop()
		again = tick.C
	}
	for {
		select {
		case <-r.Context().Done():
			return false
		case <-age.C:
			return true
		case <-again:
			if now, err := s.look(r); err != nil || now != v {
				return true
			}
		case <-changed:
			select {
			case <-r.Context().Done():
				return false
			case <-time.After(settle):
				return true
			}
		}
	}
}

// places counts the open pages: of all, and of one person.
type places struct {
	all, each int

	mu   sync.Mutex
	n    int
	open map[string]int
}

func newPlaces(all, each int) *places { return &places{all: all, each: each, open: map[string]int{}} }

// take takes a place for who, if there is one left. leave gives it back.
func (p *places) take(who string) (leave func(), ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.n >= p.all || p.open[who] >= p.each {
		return func() {}, false
	}
	p.n++
	p.open[who]++
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.n--
		if p.open[who]--; p.open[who] == 0 {
			delete(p.open, who)
		}
	}, true
}
