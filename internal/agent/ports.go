package agent

import (
	"context"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/fairlead/fairlead/internal/reconcile"
	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/nodeport"
	"github.com/fairlead/fairlead/nodeport/health"
	"github.com/fairlead/fairlead/nodeport/relay"
)

// occupiedEvery is how often an agent looks for processes that listen on node
// ports.
const occupiedEvery = 10 * time.Second

// ports keeps health check ports open and looks for processes that listen on
// node ports. Its loop is apart from that of the engine, so that neither waits
// for the other.
type ports struct {
	cidrs   []netip.Prefix
	sockets func() ([]nodeport.Socket, error)
	changed func() // is called when Problems would return something else
	log     *slog.Logger
	loop    *reconcile.Loop
	servers *health.Servers
	relays  *relay.Relays // nil: node ports do not answer at loopback addresses

	index      *nodeport.Index    // the loop's alone
	occupiedAt time.Time          // when occupied was read; the loop's alone
	occupied   []snapshot.Problem // the loop's alone

	mu       sync.Mutex
	snap     *snapshot.Snapshot
	addrs    []netip.Addr
	own      []netip.Addr
	exceeded []snapshot.Problem
	leaving  []snapshot.Problem
	problems []snapshot.Problem
}

// Follow makes s, in which node ports answer on addrs, what the ports act on. The
// node keeps the VIPs own, which are addresses of its own.
func (p *ports) Follow(s *snapshot.Snapshot, addrs, own []netip.Addr) {
	p.mu.Lock()
	p.snap, p.addrs, p.own = s, addrs, own
	p.mu.Unlock()
	p.loop.Wake()
}

// Exceeded makes found, about Services that are larger than their share, what the next
// steps report as well.
func (p *ports) Exceeded(found []snapshot.Problem) {
	p.mu.Lock()
	p.exceeded = found
	p.mu.Unlock()
}

// Leaving makes found, about Services whose pods leave with their addresses, what the next
// steps report as well.
func (p *ports) Leaving(found []snapshot.Problem) {
	p.mu.Lock()
	same := slices.Equal(p.leaving, found)
	p.leaving = found
	p.mu.Unlock()
	if !same {
		p.loop.Wake()
	}
}

// Problems returns what the last step found, sorted.
func (p *ports) Problems() []snapshot.Problem {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.problems
}

// Run works until ctx ends, and then closes every port.
func (p *ports) Run(ctx context.Context) {
	defer p.servers.Close()
	if p.relays != nil {
		defer p.relays.Close()
	}
	p.loop.Run(ctx, p.step)
}

func (p *ports) step(ctx context.Context) error {
	p.mu.Lock()
	s, addrs, own, exceeded, leaving := p.snap, p.addrs, p.own, p.exceeded, p.leaving
	p.mu.Unlock()
	if s == nil {
		return nil
	}
	p.index.Follow(s)
	found := p.servers.Sync(ctx, nodeport.Listeners(p.index.Checks(), addrs, p.cidrs))
	if p.relays != nil {
		found = append(found, p.relays.Sync(ctx, p.index.Relays(addrs))...)
	}
	err := p.findOccupied(addrs)
	found = nodeport.SortProblems(slices.Concat(found, p.occupied, nodeport.Owned(s, own), exceeded, leaving))
	p.mu.Lock()
	same := slices.Equal(found, p.problems)
	p.problems = found
	p.mu.Unlock()
	if !same {
		for _, f := range found {
			p.log.Warn("a problem with a Service on this node", "service", f.Service, "reason", f.Reason, "message", f.Message)
		}
		p.changed()
	}
	return err
}

// findOccupied brings p.occupied up to date, now and then. Without an answer of the kernel
// they stay what they were.
func (p *ports) findOccupied(addrs []netip.Addr) error {
	if time.Since(p.occupiedAt) < occupiedEvery {
		return nil
	}
	sockets, err := p.sockets()
	if err != nil {
		return err
	}
	p.occupiedAt, p.occupied = time.Now(), p.index.Occupied(addrs, sockets)
	return nil
}
