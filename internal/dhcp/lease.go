// Package dhcp decides, without acting, how a node leases addresses for Services from the
// DHCP servers of a network: which leases this node keeps, what to send for each of them
// and when, and which answers to refuse. Package client sends and receives.
//
// A lease is renewed as a client asks for the address that it had before a restart (RFC
// 2131 section 3.2; for DHCPv6 Rebind, RFC 8415 section 18.2.5): question and answer go to
// all hosts of the link, so that any node can ask, also one that does not announce the
// address.
package dhcp

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/fairlead/fairlead/internal/snapshot"
)

// Kind is what a Message is for.
type Kind string

// The kinds of messages: first those to servers, then those from servers.
const (
	Discover Kind = "discover" // which server has an address? DHCPv6: Solicit
	Request  Kind = "request"  // what one server offered
	Renew    Kind = "renew"    // an address that the client has: see the package comment
	Release  Kind = "release"
	Decline  Kind = "decline" // another host has the address

	Offer Kind = "offer" // DHCPv6: Advertise
	Ack   Kind = "ack"   // DHCPv6: Reply with an address
	Nak   Kind = "nak"   // the server has no such address for this client
	None  Kind = "none"  // DHCPv6: Advertise without an address
)

// Message is a message of DHCP, as far as it matters here.
type Message struct {
	Kind     Kind
	Addr     netip.Addr
	Server   netip.Addr    // who offered, or offers
	ServerID string        // as DHCPv6 names it, bytes
	Lifetime time.Duration // from a server: for how long Addr is leased
	T1       time.Duration // from a server: after how long to renew; 0: it does not say
	Routers  []netip.Addr  // from a server
}

// How long a lease lasts, and what is done when.
const (
	// shortest is the lifetime below which a lease is refused: it would be renewed all the
	// time.
	shortest = time.Minute
	longest  = 30 * 24 * time.Hour
	// silentAfter is how many questions are asked before a server counts as silent: that is
	// after 7 s.
	silentAfter = 3
	// requests is how often an offer is asked for before others are asked for again.
	requests = 4
	// declinePause is how long a client waits at least after it declined (RFC 2131 section
	// 3.1, number 5).
	declinePause = 10 * time.Second
	longestPause = 64 * time.Second
)

// state is how far a lease is.
type state string

const (
	asking     state = "asking"     // for offers
	requesting state = "requesting" // an offer
	held       state = "held"
	renewing   state = "renewing" // Addr is leased until then
)

// Lease is one lease as the node that keeps it sees it: a machine without clock and
// sockets. The zero value has never asked.
type Lease struct {
	Link string // for messages to people
	// Addr is what is leased, zero if nothing is; by Server, until ends. The clock of the
	// machine may be set meanwhile, so nothing is decided by the time of day.
	Addr   netip.Addr
	Server netip.Addr
	ends   time.Time

	state    state
	serverID string
	rebind   time.Time // from then on other servers may renew it
	offer    Message
	tries    int // questions without an answer
	heard    bool
	declines int
	due      time.Time
	message  string
	at       time.Time // zero: there is nothing to say yet
}

// NewLease returns the lease with which a node begins at now, after another node, or an
// earlier process, left it as start.
func NewLease(link string, start snapshot.PoolLease, now time.Time) *Lease {
	l := &Lease{Link: link, state: asking, due: now}
	if start.Addr.IsValid() && start.Until.After(now) {
		left := start.Until.Sub(now)
		l.state, l.Addr, l.Server = renewing, start.Addr, start.Server
		l.ends, l.rebind = now.Add(left), now.Add(left/2)
	}
	return l
}

// Due returns when Tick has to be called next.
func (l *Lease) Due() time.Time {
	if l.Addr.IsValid() && l.ends.Before(l.due) {
		return l.ends
	}
	return l.due
}

// Tick does what is due at now, and returns what to send.
func (l *Lease) Tick(now time.Time) []Message {
	if l.Addr.IsValid() && !now.Before(l.ends) {
		l.lose(now, fmt.Sprintf("the lease of %s ended, and no DHCP server on %s renewed it", l.Addr, l.Link))
		l.ask(now)
	}
	if now.Before(l.due) {
		return nil
	}
	l.tries++
	l.due = now.Add(pause(l.tries))
	switch l.state {
	case requesting:
		if l.tries <= requests {
			return []Message{{Kind: Request, Addr: l.offer.Addr, Server: l.offer.Server, ServerID: l.offer.ServerID}}
		}
		l.say(now, fmt.Sprintf("the DHCP server %s offered %s and does not answer any more", l.offer.Server, l.offer.Addr))
		l.ask(now)
		return l.Tick(now)
	case held:
		l.state, l.tries, l.due = renewing, 1, now.Add(pause(1))
	case renewing:
		if l.tries > silentAfter {
			l.say(now, fmt.Sprintf("no DHCP server on %s renews %s", l.Link, l.Addr))
		}
	case asking:
		if l.tries > silentAfter && !l.heard {
			l.say(now, "no DHCP server answers on "+l.Link)
		}
		return []Message{{Kind: Discover}}
	}
	return []Message{{Kind: Renew, Addr: l.Addr}}
}

// Receive takes in what a server says at now, and returns what to send. fault says why an
// address that a server offers or leases cannot be used, "" if it can.
func (l *Lease) Receive(now time.Time, m Message, fault func(Message) string) []Message {
	switch m.Kind {
	case Offer:
		return l.offered(now, m, fault)
	case Ack:
		l.acked(now, m, fault)
	case Nak, None:
		l.denied(now, m)
	}
	return nil
}

func (l *Lease) offered(now time.Time, m Message, fault func(Message) string) []Message {
	if l.state != asking {
		return nil
	}
	l.heard = true
	if why := refuse(m, fault); why != "" {
		// Another server may still offer a good one: this question stays open.
		l.say(now, fmt.Sprintf("the DHCP server %s offers %s, which is refused: %s", m.Server, m.Addr, why))
		return nil
	}
	l.state, l.offer, l.tries, l.due = requesting, m, 0, now
	return l.Tick(now)
}

func (l *Lease) acked(now time.Time, m Message, fault func(Message) string) {
	switch l.state {
	case requesting:
		if m.Addr != l.offer.Addr || m.Server != l.offer.Server {
			return
		}
	case renewing:
		// Before that time only the server that leased it may renew it: what another host
		// says is not what that server will do (RFC 2131 section 4.4.5).
		stranger := l.Server.IsValid() && m.Server != l.Server && now.Before(l.rebind)
		if m.Addr != l.Addr || stranger {
			return
		}
	default:
		return
	}
	if why := refuse(m, fault); why != "" {
		l.say(now, fmt.Sprintf("the DHCP server %s leases %s, which is refused: %s", m.Server, m.Addr, why))
		if l.state == requesting {
			l.ask(now)
			l.heard, l.due = true, now.Add(declinePause)
		}
		return
	}
	life := min(m.Lifetime, longest)
	// T1 and T2 are a half and seven eighths where no server says otherwise (RFC 2131 section 4.4.5).
	renew := life / 2
	if m.T1 > 0 && m.T1 < renew {
		renew = max(m.T1, life/8)
	}
	l.state, l.tries, l.message, l.at = held, 0, "", now
	l.Addr, l.Server, l.serverID, l.ends = m.Addr, m.Server, m.ServerID, now.Add(life)
	l.due, l.rebind = now.Add(renew), now.Add(life/8*7)
}

func (l *Lease) denied(now time.Time, m Message) {
	switch {
	case l.state == asking && m.Kind == None: // a late Nak is for an earlier question
		l.heard = true
		l.say(now, fmt.Sprintf("the DHCP server %s has no address to lease", m.Server))
	case m.Kind == None:
	case l.state == requesting && m.Server == l.offer.Server:
		l.say(now, fmt.Sprintf("the DHCP server %s offered %s and refuses it now", m.Server, m.Addr))
		l.ask(now)
		l.heard, l.due = true, now.Add(declinePause)
	case l.state == renewing && (!l.Server.IsValid() || m.Server == l.Server):
		// Another host cannot take away what this server leased.
		l.lose(now, fmt.Sprintf("the DHCP server %s took %s back", m.Server, l.Addr))
		l.ask(now)
	}
}

// Taken takes in at now that the host with this MAC address has the leased address, and
// returns what to send. Another address is asked for.
func (l *Lease) Taken(now time.Time, mac string) []Message {
	if !l.Addr.IsValid() {
		return nil
	}
	out := []Message{{Kind: Decline, Addr: l.Addr, Server: l.Server, ServerID: l.serverID}}
	l.lose(now, fmt.Sprintf("the host %s has %s, which the DHCP server %s leased", mac, l.Addr, l.Server))
	l.ask(now)
	l.heard, l.due = true, now.Add(declinePause<<min(l.declines, 5))
	l.declines++
	return out
}

// Release returns what to send when nobody needs the lease any more.
func (l *Lease) Release() []Message {
	if !l.Addr.IsValid() {
		return nil
	}
	return []Message{{Kind: Release, Addr: l.Addr, Server: l.Server, ServerID: l.serverID}}
}

// Say returns what to tell of the lease called key; false while nothing has happened.
func (l *Lease) Say(key Key) (snapshot.NodeLease, bool) {
	out := snapshot.NodeLease{Pool: key.Pool, ID: key.ID, Family: key.Family, Addr: l.Addr, At: l.at.Truncate(time.Second), Message: l.message}
	if l.Addr.IsValid() {
		out.Server, out.Until = l.Server, l.ends.Truncate(time.Second)
	}
	return out, !l.at.IsZero()
}

func (l *Lease) ask(now time.Time) {
	l.state, l.tries, l.due, l.offer, l.heard = asking, 0, now, Message{}, false
}

func (l *Lease) lose(now time.Time, why string) {
	l.Addr, l.Server, l.serverID, l.ends = netip.Addr{}, netip.Addr{}, "", time.Time{}
	l.say(now, why)
}

// say notes what is wrong. The same thing again is not new: a report that changes is
// written to the API server.
func (l *Lease) say(now time.Time, why string) {
	if why != l.message || l.at.IsZero() {
		l.message, l.at = why, now
	}
}

// String prints everything that the next step depends on, but for times.
func (l *Lease) String() string {
	out := string(l.state)
	if l.Addr.IsValid() {
		out += " " + l.Addr.String()
	}
	if l.message != "" {
		out += ": " + l.message
	}
	return out
}

// pause is the time after the question with this number, from 1 on.
func pause(n int) time.Duration {
	return min(longestPause, time.Second<<min(n-1, 6))
}

func refuse(m Message, fault func(Message) string) string {
	if m.Lifetime < shortest {
		return fmt.Sprintf("it is leased for %s only, and %s is the least", m.Lifetime, shortest)
	}
	return fault(m)
}
