// Package health answers the probes that load balancers and kubelets send to a
// Service proxy: /healthz, /livez and every Service's healthCheckNodePort, with
// the bodies, headers and codes of kube-proxy. What the answers are is decided
// in package nodeport; none of it asks the API server.
package health

import (
	"sync"
	"time"

	"github.com/fairlead/fairlead/internal/snapshot"
)

// Timeout is how long a change may wait for the engine until the node counts as
// unhealthy: twice kube-proxy's default sync period.
const Timeout = 60 * time.Second

// Proxy is the health of this node's engine. A family for which no sync has
// succeeded yet is starting, not unhealthy. The zero Proxy is ready for use and
// says that the node is not eligible.
type Proxy struct {
	mu       sync.Mutex
	families map[snapshot.Family]*progress
	eligible bool
}

// progress is how far the engine is with one family.
type progress struct {
	oldest, newest time.Time // changes that the kernel does not hold yet; zero: none
	synced         time.Time // the last success; zero: none yet
}

// families that every engine serves.
var families = []snapshot.Family{snapshot.IPv4, snapshot.IPv6}

// Queued says that a change of all families came in at the time at.
func (p *Proxy) Queued(at time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, f := range families {
		fam := p.family(f)
		if fam.oldest.IsZero() {
			fam.oldest = at
		}
		fam.newest = at
	}
}

// Synced says that at the time now the kernel holds everything of one family
// that had come in by began.
func (p *Proxy) Synced(family snapshot.Family, began, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	fam := p.family(family)
	fam.synced = now
	switch {
	// The change that came in meanwhile is not in the kernel yet: it must not count as done.
	case fam.newest.After(began):
		fam.oldest = began // when exactly the rest came is not kept
	default:
		fam.oldest = time.Time{}
	}
}

// SetEligible says whether load balancers may send to this node.
func (p *Proxy) SetEligible(eligible bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.eligible = eligible
}

// Started reports whether every family was in sync at least once.
func (p *Proxy) Started() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, f := range families {
		if p.family(f).synced.IsZero() {
			return false
		}
	}
	return true
}

// Healthy reports whether no change has waited too long.
func (p *Proxy) Healthy(now time.Time) bool { return p.report(now).Healthy }

// family returns one family's progress; p.mu is held.
func (p *Proxy) family(f snapshot.Family) *progress {
	if p.families == nil {
		p.families = map[snapshot.Family]*progress{}
	}
	if p.families[f] == nil {
		p.families[f] = &progress{}
	}
	return p.families[f]
}

func (f progress) healthy(now time.Time) bool {
	return f.oldest.IsZero() || now.Sub(f.oldest) < Timeout
}

// report is the body of an answer, with the fields in kube-proxy's order.
type report struct {
	LastUpdated  time.Time               `json:"lastUpdated"`
	CurrentTime  time.Time               `json:"currentTime"`
	NodeEligible *bool                   `json:"nodeEligible,omitempty"` // of /healthz alone
	Healthy      bool                    `json:"healthy"`
	Status       map[string]familyReport `json:"status,omitempty"`
}

type familyReport struct {
	LastUpdated time.Time `json:"lastUpdated"`
	Healthy     bool      `json:"healthy"`
}

// report says how the engine is, without the node.
func (p *Proxy) report(now time.Time) report {
	p.mu.Lock()
	defer p.mu.Unlock()
	r := report{CurrentTime: now, Healthy: true, Status: map[string]familyReport{}}
	for name, f := range p.families {
		if f.synced.IsZero() {
			continue
		}
		status := familyReport{LastUpdated: f.synced, Healthy: f.healthy(now)}
		r.Status[name.String()] = status
		r.Healthy = r.Healthy && status.Healthy
		if f.synced.After(r.LastUpdated) {
			r.LastUpdated = f.synced
		}
	}
	return r
}
