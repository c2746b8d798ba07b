package kube

import (
	"time"

	"github.com/fairlead/fairlead/internal/snapshot"
)

// The pace at which a Service may change, by its size: its endpoints, ports and source
// ranges. Ordinary Services never wait. One of 30,000 endpoints that flap is taken in
// every eight seconds, so that fewer than one in a hundred changes of others is behind it.
const (
	paceFree  = 2048    // a Service of this size has no pace
	paceRate  = 4096    // a second
	paceBurst = 1 << 16 // at once
)

// pacer holds large Services back that change all the time. nil holds none back.
type pacer struct {
	now    func() time.Time
	spent  map[snapshot.Ref]spending
	resume time.Time // when the first that is held back may change; zero: none is
}

// spending is what a Service has left of its pace.
type spending struct {
	left float64
	at   time.Time
}

func newPacer(now func() time.Time) *pacer {
	return &pacer{now: now, spent: map[snapshot.Ref]spending{}}
}

// size is what a change of svc costs, in units of the pace.
func size(svc *snapshot.Service) int {
	return len(svc.Endpoints) + len(svc.Ports) + len(svc.SourceRanges)
}

// holds reports whether a Service has to wait, and remembers until when.
func (p *pacer) holds(ref snapshot.Ref) bool {
	if p == nil {
		return false
	}
	s, ok := p.spent[ref]
	if !ok {
		return false
	}
	now := p.now()
	s.left, s.at = min(paceBurst, s.left+now.Sub(s.at).Seconds()*paceRate), now
	p.spent[ref] = s
	if s.left >= 0 {
		return false
	}
	due := now.Add(time.Duration(-s.left/paceRate*float64(time.Second)) + time.Millisecond)
	if p.resume.IsZero() || due.Before(p.resume) {
		p.resume = due
	}
	return true
}

// took notes that a Service was taken in; nil if it is gone.
func (p *pacer) took(ref snapshot.Ref, svc *snapshot.Service) {
	if p == nil {
		return
	}
	if svc == nil || size(svc) <= paceFree {
		delete(p.spent, ref)
		return
	}
	s, ok := p.spent[ref]
	if !ok {
		s = spending{left: paceBurst, at: p.now()}
	}
	s.left -= float64(size(svc))
	p.spent[ref] = s
}
