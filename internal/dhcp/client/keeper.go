// Package client keeps the DHCP leases that package dhcp gives to this node: it speaks
// with the servers on the node's links.
package client

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"log/slog"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/fairlead/fairlead/internal/dhcp"
	"github.com/fairlead/fairlead/internal/snapshot"
)

// idle is how often a Keeper looks when nothing is due.
const idle = time.Minute

// waiting is how many answers wait to be read. A host that sends more loses the rest.
const waiting = 256

// address is whom an answer is for.
type address struct {
	xid    uint32
	client string // MAC address, or DUID in hex
}

// Keeper keeps leases. Its methods are safe for concurrent use.
type Keeper struct {
	// Changed is called after Leases changed.
	Changed func()

	log  *slog.Logger
	wake chan struct{}

	mu   sync.Mutex
	in   dhcp.Inputs
	plan *dhcp.Plan // nil: not known yet
	said []snapshot.NodeLease
}

// New makes a Keeper, which starts nothing.
func New(log *slog.Logger) *Keeper {
	return &Keeper{Changed: func() {}, log: log, wake: make(chan struct{}, 1)}
}

// Follow takes in what decides which leases this node keeps, and keeps those.
func (k *Keeper) Follow(in dhcp.Inputs) {
	plan := dhcp.Decide(in)
	k.mu.Lock()
	same := k.plan != nil && len(k.plan.Mine)+len(plan.Mine)+len(k.said) == 0
	k.in, k.plan = in, &plan
	k.mu.Unlock()
	if same {
		return // most clusters lease nothing, and change all the time
	}
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

// Leases returns what to say of the leases that this node keeps, by pool and Service.
func (k *Keeper) Leases() []snapshot.NodeLease {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.said
}

// Run keeps leases until ctx ends, and then leaves them: a stop is a restart, and the next
// agent renews them. It has to be called in the network namespace of the links.
func (k *Keeper) Run(ctx context.Context) {
	r := &runner{Keeper: k, kept: map[dhcp.Key]*kept{}, stations: map[place]*station{}, failed: map[place]string{}, in: make(chan heard, waiting)}
	defer r.close()
	timer := time.NewTimer(idle)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-k.wake:
		case <-timer.C:
		case h := <-r.in:
			r.receive(h, time.Now())
		}
		timer.Reset(time.Until(r.step(time.Now())))
	}
}

// kept is a lease that this node keeps.
type kept struct {
	*dhcp.Lease
	want dhcp.Want
	id   dhcp.Identity
	xid  uint32
}

func (l *kept) place() place { return place{l.Link, l.want.Family} }

// runner is what Run has.
type runner struct {
	*Keeper
	kept     map[dhcp.Key]*kept
	stations map[place]*station
	failed   map[place]string // what was last logged
	in       chan heard
	readers  sync.WaitGroup
}

// step does what is due, and returns when to be called again.
func (r *runner) step(now time.Time) (next time.Time) {
	r.mu.Lock()
	plan := r.plan
	r.mu.Unlock()
	if plan == nil {
		return now.Add(idle)
	}
	r.follow(*plan, now)
	next = now.Add(idle)
	for _, l := range r.kept {
		r.send(l, l.Tick(now))
		if due := l.Due(); due.Before(next) {
			next = due
		}
	}
	r.tidy()
	r.say()
	return next
}

// follow takes up what this node is to keep, and gives up what it is not.
func (r *runner) follow(plan dhcp.Plan, now time.Time) {
	mine := map[dhcp.Key]bool{}
	for _, w := range plan.Mine {
		link := w.Pool.FromDHCP.Interface
		l := r.kept[w.Key]
		if l != nil && l.Link != link {
			r.send(l, l.Release())
			l = nil
		}
		if l == nil {
			l = &kept{Lease: dhcp.NewLease(link, w.Start, now), id: dhcp.IdentityOf(w.Key, w.Start.Namespace, w.Start.Name), xid: random(w.Family)}
			r.kept[w.Key] = l
			r.log.Info("keeping a DHCP lease", "pool", w.Key.Pool, "service", w.Start.Ref, "family", w.Family, "link", link, "address", w.Start.Addr)
		}
		l.want, mine[w.Key] = w, true
		if w.Taken != "" && w.Start.Addr == l.Addr {
			r.send(l, l.Taken(now, w.Taken))
		}
	}
	for key, l := range r.kept {
		// While nodes may still answer for the address, the server must not lease it to another client.
		if mine[key] || !plan.Wanted[key] && plan.Recorded[l.Addr] {
			continue
		}
		what := "left a DHCP lease to another node"
		if !plan.Wanted[key] {
			what = "released a DHCP lease"
			r.send(l, l.Release())
		}
		r.log.Info(what, "pool", key.Pool, "service", l.want.Start.Ref, "family", key.Family, "address", l.Addr)
		delete(r.kept, key)
	}
}

// random returns the number of the transactions of a lease. DHCPv6 has 24 bits for it.
func random(f snapshot.Family) uint32 {
	var b [4]byte
	_, _ = rand.Read(b[:]) // never fails
	n := binary.BigEndian.Uint32(b[:])
	if f == snapshot.IPv6 {
		n >>= 8
	}
	return n
}

// send sends messages of l. What cannot be sent is due again.
func (r *runner) send(l *kept, messages []dhcp.Message) {
	at := l.place()
	for _, m := range messages {
		err := r.sendOne(at, l, m)
		if err == nil {
			delete(r.failed, at)
			continue
		}
		if r.failed[at] != err.Error() {
			r.failed[at] = err.Error()
			r.log.Error("cannot speak with DHCP servers", "link", at.link, "family", at.family, "error", err)
		}
		r.shut(at)
	}
}

func (r *runner) sendOne(at place, l *kept, m dhcp.Message) error {
	s := r.stations[at]
	if s == nil {
		var err error
		if s, err = open(at); err != nil {
			return err
		}
		r.stations[at] = s
		r.readers.Go(func() { s.listen(at, r.in) })
	}
	if at.family == snapshot.IPv4 {
		return s.send(encode4(l.id, l.xid, m))
	}
	return s.send(encode6(l.id, l.xid, s.from, m))
}

// receive takes in a packet. One that is for nobody here is dropped.
func (r *runner) receive(h heard, now time.Time) {
	decode := decode4
	if h.family == snapshot.IPv6 {
		decode = decode6
	}
	m, to, err := decode(h.packet)
	if err != nil {
		return
	}
	for _, l := range r.kept {
		if l.place() != h.place || l.xid != to.xid || l.client() != to.client {
			continue
		}
		r.mu.Lock()
		in := r.Keeper.in
		r.mu.Unlock()
		before := l.String()
		r.send(l, l.Receive(now, m, func(m dhcp.Message) string { return in.Fault(l.want, m) }))
		if l.String() != before {
			r.log.Info("DHCP", "pool", l.want.Key.Pool, "service", l.want.Start.Ref, "family", l.want.Family, "state", l.String())
		}
	}
}

// client is how l is addressed in answers.
func (l *kept) client() string {
	if l.want.Family == snapshot.IPv4 {
		return net.HardwareAddr(l.id.MAC[:]).String()
	}
	return hex.EncodeToString(duidBytes(l.id))
}

// say takes down what is to be said of the leases.
func (r *runner) say() {
	var said []snapshot.NodeLease
	for key, l := range r.kept {
		if s, ok := l.Say(key); ok {
			said = append(said, s)
		}
	}
	slices.SortFunc(said, snapshot.NodeLease.Compare)
	r.mu.Lock()
	same := slices.Equal(said, r.said)
	r.said = said
	r.mu.Unlock()
	if !same {
		r.Changed()
	}
}

// tidy closes the stations that no lease needs.
func (r *runner) tidy() {
	used := map[place]bool{}
	for _, l := range r.kept {
		used[l.place()] = true
	}
	for at := range r.stations {
		if !used[at] {
			r.shut(at)
		}
	}
}

func (r *runner) shut(at place) {
	if s := r.stations[at]; s != nil {
		_ = s.conn.Close()
		delete(r.stations, at)
	}
}

func (r *runner) close() {
	for at := range r.stations {
		r.shut(at)
	}
	r.readers.Wait()
}
