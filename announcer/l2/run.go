package l2

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/fairlead/fairlead/announcer"
)

const (
	// burstTimes: at once, and three more times over two seconds. On a link that has not
	// carried anything yet it is said slowTimes more, over 30 seconds: the port of a switch
	// may not forward for as long after it has a carrier.
	burstTimes, slowTimes = 4, 4
	// idleEvery is how often Run looks at the links when nothing is due, and shortestRest is
	// how long it rests at least: what is due may have to wait for a link.
	idleEvery, shortestRest = 250 * time.Millisecond, 10 * time.Millisecond
	// leaveLook is how often Run looks whether the next owner of an address announces it.
	leaveLook = 20 * time.Millisecond
	// againAfter is how long an owner waits for another node that announces its address to
	// give it up. If this node is not the owner, it hears of that meanwhile.
	againAfter = announcer.LeaveAfter + 200*time.Millisecond
	// frozenAfter is how long Run has to stand still to notice.
	frozenAfter = time.Second
	// mostAddresses is how many addresses are probed or announced at a look.
	mostAddresses = 500
)

// burstPauses are the times between two announcements. The second follows soon: one
// frame may be lost, and the hosts that have to hear of it send to a dead node.
var burstPauses = [burstTimes - 1]time.Duration{100 * time.Millisecond, 600 * time.Millisecond, 1300 * time.Millisecond}

// burst is the announcements of one claim that are still to be sent. With a Set.Refresh it
// never ends.
type burst struct {
	sent  int
	due   time.Time
	stale bool // since this process stood still, Sync has not confirmed the claim
}

func (ls *Leases) startBurst(c announcer.Claim) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	ls.bursts[c] = &burst{due: time.Now()}
}

// confirmBurst notes that c is still to be held.
func (ls *Leases) confirmBurst(c announcer.Claim) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	every := ls.detector.known.Refresh[c.Addr]
	b, next := ls.bursts[c], time.Now().Add(every)
	if b == nil && every > 0 { // it was adopted, or is refreshed from now on
		b = &burst{sent: burstTimes + slowTimes, due: next}
		ls.bursts[c] = b
	}
	if b == nil {
		return
	}
	b.stale = false
	if every > 0 && b.due.After(next) { // it is refreshed more often from now on
		b.due = next
	}
}

func (ls *Leases) cancelBurst(c announcer.Claim) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	delete(ls.bursts, c)
}

func (ls *Leases) wake() {
	select {
	case ls.wakeRun <- struct{}{}:
	default:
	}
}

// Run speaks and listens on the links until ctx ends: it announces what Sync takes over,
// probes new addresses, and defends the held ones. It has to be called in the network
// namespace of the links.
func (ls *Leases) Run(ctx context.Context) {
	ls.mu.Lock()
	ls.detector.heardAt = ls.HeardAt
	ls.mu.Unlock()
	r := &runner{Leases: ls, stations: map[string]*station{}, failed: map[string]string{}, last: time.Now()}
	defer r.close()
	var watch sync.WaitGroup
	defer watch.Wait()
	watch.Go(func() { ls.follow(ctx) })
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ls.wakeRun:
		case <-timer.C:
		}
		timer.Reset(r.step(time.Now()))
	}
}

// runner is what Run keeps.
type runner struct {
	*Leases
	stations map[string]*station
	failed   map[string]string // what was last logged, by link
	last     time.Time
	counted  struct{ conflicts, defences int }
}

// step does what is due on the links, and returns when to look again.
func (r *runner) step(now time.Time) time.Duration {
	frozen := now.Sub(r.last) >= frozenAfter
	r.last = now
	r.mu.Lock()
	defer r.mu.Unlock()
	if frozen {
		r.log.Warn("this process was suspended: dropping what it received meanwhile")
		r.detector.restartProbes(now)
		for _, b := range r.bursts {
			// Others may have taken the address over meanwhile: Sync has to confirm it first.
			b.stale = true
		}
	}
	acts := append(r.listen(frozen, now), r.detector.tick(now, mostAddresses)...)
	r.tune()
	r.sendActions(acts, now)
	r.sendBursts(now)
	r.count()
	changed := !r.retryAt.IsZero() && !now.Before(r.retryAt)
	if changed {
		r.retryAt = time.Time{}
	}
	if r.detector.changed {
		r.detector.changed, changed = false, true
		r.dispute()
	}
	if changed && r.Changed != nil {
		r.Changed()
	}
	return r.rest(now)
}

// rest returns for how long nothing is due, at most idleEvery.
func (r *runner) rest(now time.Time) time.Duration {
	next := r.detector.next(now.Add(idleEvery))
	for c, b := range r.bursts {
		if !b.stale && r.stations[c.Link] != nil && b.due.Before(next) {
			next = b.due
		}
	}
	if soon := now.Add(leaveLook); len(r.detector.known.Leaving) > 0 && soon.Before(next) {
		next = soon
	}
	if !r.retryAt.IsZero() && r.retryAt.Before(next) {
		next = r.retryAt
	}
	return max(next.Sub(now), shortestRest)
}

// tune has a station on each link on which there is something to hear.
func (r *runner) tune() {
	if r.detector.tuned {
		return
	}
	r.detector.tuned = true
	watched := r.detector.watched()
	for name, s := range r.stations {
		if len(watched[name]) == 0 || r.ports[name] == nil {
			s.close()
			delete(r.stations, name)
		}
	}
	for name, addrs := range watched {
		link := r.ports[name]
		if link == nil {
			continue // the next Sync says so
		}
		if r.stations[name] == nil {
			r.stations[name] = &station{}
		}
		slices.SortFunc(addrs, netip.Addr.Compare)
		err := r.stations[name].tune(link, addrs)
		r.logLinkError(name, err)
		r.detector.tuned = r.detector.tuned && err == nil
	}
}

// logLinkError logs an error of a link, once as long as it stays the same.
func (r *runner) logLinkError(link string, err error) {
	if err == nil {
		delete(r.failed, link)
		return
	}
	if r.failed[link] != err.Error() {
		r.failed[link] = err.Error()
		r.log.Warn("cannot speak or listen on a link", "link", link, "error", err)
	}
}

// listen takes in what came, or drops all of it.
func (r *runner) listen(drop bool, now time.Time) (acts []action) {
	for name, s := range r.stations {
		most := mostFrames
		if drop {
			most = 1 << 20 // all that the sockets hold
		}
		_, err := s.listen(most, func(frame []byte) {
			a, ok := parse(frame)
			switch {
			case drop:
				r.Metrics.frames.WithLabelValues("late").Inc()
			case !ok || r.detector.contests[a.addr] == nil || a.mac == s.mac.String(): // some bonds hand back what was sent
				r.Metrics.frames.WithLabelValues("other").Inc()
			default:
				r.Metrics.frames.WithLabelValues("claim").Inc()
				acts = append(acts, r.detector.heard(name, a, now)...)
			}
		})
		if err != nil { // the link went down, or away
			s.close()
			delete(r.stations, name)
			r.detector.tuned = false
		}
	}
	return acts
}

func (r *runner) sendActions(acts []action, now time.Time) {
	for _, a := range acts {
		s := r.stations[a.Link]
		if s == nil {
			continue
		}
		if a.again {
			if b, soon := r.bursts[a.Claim], now.Add(againAfter); b == nil || b.due.After(soon) {
				r.bursts[a.Claim] = &burst{due: soon}
			}
			continue
		}
		if a.defend {
			r.log.Warn("a foreign host claims an announced address: announcing again", "vip", a.Addr, "link", a.Link)
			r.send(s, a.Claim, "announcement", gratuitousFrames)
		} else {
			r.send(s, a.Claim, "probe", probeFrames)
		}
	}
}

// sendBursts sends the announcements that are due.
func (r *runner) sendBursts(now time.Time) {
	most := mostAddresses
	for c, b := range r.bursts {
		s := r.stations[c.Link]
		// An announcement now would come after that of the next owner, and win.
		if r.detector.silent(c.Addr) {
			delete(r.bursts, c)
			continue
		}
		if b.stale || s == nil || now.Before(b.due) || most == 0 {
			continue
		}
		most--
		r.send(s, c, "announcement", gratuitousFrames)
		b.sent++
		pause, more := r.pauseAfter(b.sent, c)
		if !more {
			delete(r.bursts, c)
			continue
		}
		b.due = now.Add(pause)
	}
}

// pauseAfter returns when to announce c again, which was announced so many times, and
// whether to.
func (r *runner) pauseAfter(sent int, c announcer.Claim) (time.Duration, bool) {
	slow := sent - burstTimes
	switch {
	case slow < 0:
		return burstPauses[sent-1], true
	case slow >= slowTimes || r.Carries == nil || r.Carries(c.Link):
		every := r.detector.known.Refresh[c.Addr]
		return every, every > 0
	}
	return 2 * time.Second << slow, true
}

func (r *runner) count() {
	d := r.detector
	r.Metrics.conflicts.Add(float64(d.conflicts - r.counted.conflicts))
	r.Metrics.defences.Add(float64(d.defences - r.counted.defences))
	r.counted.conflicts, r.counted.defences = d.conflicts, d.defences
	for _, s := range r.stations {
		r.Metrics.dropped.Add(float64(s.dropped()))
	}
}

// dispute counts the addresses in conflict.
func (r *runner) dispute() {
	disputed := 0
	for _, c := range r.detector.contests {
		if c.conflict != "" || c.claimant != "" {
			disputed++
		}
	}
	r.Metrics.disputed.Set(float64(disputed))
}

func (r *runner) close() {
	for _, s := range r.stations {
		s.close()
	}
}

// send sends the frames that make builds for a claim.
func (r *runner) send(s *station, c announcer.Claim, kind string, build func(net.HardwareAddr, netip.Addr) ([][]byte, error)) {
	frames, err := build(s.mac, c.Addr)
	if err == nil {
		err = s.send(c.Addr, frames)
	}
	r.logLinkError(c.Link, err)
	if err == nil {
		r.Metrics.sent.WithLabelValues(protocol(c.Addr), kind).Add(float64(len(frames)))
	}
}

func protocol(a netip.Addr) string {
	if a.Is4() {
		return "arp"
	}
	return "ndp"
}
