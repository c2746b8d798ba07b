package agent

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/fairlead/fairlead/internal/link"
	"github.com/fairlead/fairlead/internal/reconcile"
	"github.com/fairlead/fairlead/internal/snapshot"
)

// routersEvery is how often the kernel is asked which routers it knows, while a BGPPeer
// depends on that.
const routersEvery = 5 * time.Second

// routers is what the kernel knows of routers. While no BGPPeer needs them it asks for
// nothing and sends nothing.
type routers struct {
	log     *slog.Logger
	changed func() // called when known returns something else
	loop    *reconcile.Loop

	mu     sync.Mutex
	needed bool
	links  []string // whose routers have to know this node; sorted
	last   []snapshot.Router

	telling map[string]telling // by link; the loop's alone
}

// telling is one link whose routers are told of this node.
type telling struct {
	stop context.CancelFunc
	done <-chan struct{} // closed when it has ended
}

func newRouters(log *slog.Logger, changed func()) *routers {
	r := &routers{log: log, changed: changed, loop: reconcile.New("routers", log), telling: map[string]telling{}}
	r.loop.Resync = routersEvery
	return r
}

// known returns the routers as they were last read.
func (r *routers) known() []snapshot.Router {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.last
}

// want has the routers read that the peers of node in s depend on.
func (r *routers) want(s *snapshot.Snapshot, node string) {
	var labels map[string]string
	if n := s.Node(node); n != nil {
		labels = n.Labels
	}
	needed, links := false, []string(nil)
	for _, p := range s.BGPPeers {
		if (p.Interface == "" && !p.Gateway) || !p.NodeSelector.Matches(labels) {
			continue
		}
		needed = true
		if p.Interface != "" {
			links = append(links, p.Interface)
		}
	}
	slices.Sort(links)
	links = slices.Compact(links)
	r.mu.Lock()
	same := r.needed == needed && slices.Equal(r.links, links)
	r.needed, r.links = needed, links
	r.mu.Unlock()
	if !same {
		r.loop.Wake()
	}
}

// Run reads the routers, and has this node announced to them, until ctx ends.
func (r *routers) Run(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	r.loop.Run(ctx, func(context.Context) error {
		r.mu.Lock()
		needed, links, was := r.needed, r.links, r.last
		r.mu.Unlock()
		r.tell(ctx, &wg, links)
		var now []snapshot.Router
		if needed {
			var err error
			if now, err = link.Routers(); err != nil {
				return err
			}
		}
		if !slices.Equal(was, now) {
			r.mu.Lock()
			r.last = now
			r.mu.Unlock()
			r.changed()
		}
		return nil
	})
}

// tell has the routers on links told of this node, and no others. A link that goes away
// is tried again every time.
func (r *routers) tell(ctx context.Context, wg *sync.WaitGroup, links []string) {
	maps.DeleteFunc(r.telling, func(name string, t telling) bool {
		select {
		case <-t.done:
			return true
		default:
		}
		if !slices.Contains(links, name) {
			t.stop()
			return true
		}
		return false
	})
	for _, name := range links {
		if _, runs := r.telling[name]; runs {
			continue
		}
		a, err := link.NewAdvertiser(name)
		if err != nil {
			r.log.Warn("BGP", "error", err)
			continue
		}
		on, stop := context.WithCancel(ctx)
		done := make(chan struct{})
		r.telling[name] = telling{stop, done}
		wg.Go(func() {
			defer close(done)
			defer stop()
			if err := a.Run(on); err != nil {
				r.log.Warn("BGP", "error", err)
			}
		})
	}
}
