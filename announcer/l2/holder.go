package l2

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/announcer"
)

// Links is the part of the kernel that a Holder needs: *netlink.Handle.
type Links interface {
	LinkByName(name string) (netlink.Link, error)
	LinkByIndex(index int) (netlink.Link, error)
	AddrList(link netlink.Link, family int) ([]netlink.Addr, error)
	AddrReplace(link netlink.Link, addr *netlink.Addr) error
	AddrDel(link netlink.Link, addr *netlink.Addr) error
}

// Holder holds claims on the node's links. Its methods are called by one
// goroutine, but for Findings; Run speaks and listens on the links.
type Holder struct {
	// Changed, if given before Run, is called when there are other Findings, or
	// when Sync is to be called again: a claim may be held that had to wait. It must
	// not call the Holder.
	Changed func()
	// Sure, if given, is asked right before the kernel is told to answer for an
	// address: false when this process stood still since that was decided.
	Sure    func() bool
	Metrics *Metrics // New makes some that nobody sees

	links   Links
	log     *slog.Logger
	lease   time.Duration
	held    map[announcer.Claim]lease
	failed  map[announcer.Claim]failure
	returns uint64 // Set.Returns of the last Sync
	adopted bool
	poke    chan struct{} // wakes Run

	mu       sync.Mutex
	detector *detector
	bursts   map[announcer.Claim]*burst
	ports    map[string]netlink.Link // by name, as the last Sync saw them
	retryAt  time.Time               // when a claim that failed is to be tried again; zero: none
}

// lease is what the kernel was told of one claim.
type lease struct {
	link    int // index
	mac     string
	renewed time.Time
}

// New makes a Holder. It starts nothing.
func New(links Links, log *slog.Logger) *Holder {
	return &Holder{
		links: links, log: log, Metrics: NewMetrics(nil), lease: announcer.Lease, held: map[announcer.Claim]lease{}, failed: map[announcer.Claim]failure{}, poke: make(chan struct{}, 1),
		detector: newDetector(), bursts: map[announcer.Claim]*burst{}, ports: map[string]netlink.Link{},
	}
}

// Findings returns what is to be told of addresses on the network, sorted.
func (h *Holder) Findings() []Finding {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.detector.findings()
}

// Sync makes the kernel hold set.Claims and withdraws all others first. It may
// be called again with an equal Set: that renews what is held. These claims wait:
//   - an address that is still being probed, or that a foreign host has;
//   - an address that another node's kernel answers for (Set.Left);
//   - a claim that could not be held a moment ago: each has a back-off of its own.
//
// The first call adopts the leases that an earlier process left. Sync returns
// what is held now, also with an error: the errors of all claims that were tried.
func (h *Holder) Sync(set announcer.Set) ([]announcer.Claim, error) {
	if _, err := h.Adopt(); err != nil {
		return nil, err
	}
	h.look(slices.Concat(set.Claims, set.Disputed))
	h.mu.Lock()
	h.detector.know(set)
	want := h.detector.want(set.Claims, h.holds(), time.Now())
	h.retryAt = time.Time{}
	h.mu.Unlock()
	wanted := make(map[announcer.Claim]bool, len(want))
	for _, c := range want {
		wanted[c] = true
	}
	var errs []error
	for c := range h.held {
		if !wanted[c] {
			errs = append(errs, h.withdraw(c))
		}
	}
	for c := range h.failed {
		if !wanted[c] {
			delete(h.failed, c)
		}
	}
	for _, c := range want {
		errs = append(errs, h.try(c, time.Now()))
	}
	if set.Returns > h.returns {
		h.again()
	}
	h.returns = set.Returns
	h.wake()
	return h.Held(), errors.Join(errs...)
}

// Withdraw gives up claims, before whatever forwards them goes. It returns the
// errors of all that could not be withdrawn: the next Sync tries these again.
func (h *Holder) Withdraw(claims []announcer.Claim) error {
	var errs []error
	for _, c := range claims {
		if _, held := h.held[c]; held {
			errs = append(errs, h.withdraw(c))
		}
	}
	return errors.Join(errs...)
}

// failure is a claim that the kernel did not take.
type failure struct {
	times    int
	due      time.Time // of the next attempt
	linkless bool      // there was no such link
}

var errStill = errors.New("this process stood still since that was decided")

// The pause after the first failure of a claim, doubled with each up to the
// longest.
const (
	firstPause   = 100 * time.Millisecond
	longestPause = announcer.Renew
)

// try holds c unless it failed a moment ago. One address that the kernel refuses,
// such as an IPv6 one on a link without IPv6, must not delay any other.
func (h *Holder) try(c announcer.Claim, now time.Time) error {
	f, failed := h.failed[c]
	back := f.linkless && h.ports[c.Link] != nil // the reason is gone
	if failed && !back && now.Before(f.due) {
		h.retry(f.due)
		return nil
	}
	err := h.hold(c)
	if err == nil || errors.Is(err, errStill) { // the kernel was not even asked
		delete(h.failed, c)
		return err
	}
	f.due = now.Add(min(firstPause<<min(f.times, 10), longestPause))
	f.times, f.linkless = f.times+1, h.ports[c.Link] == nil
	h.failed[c] = f
	h.retry(f.due)
	return err
}

// retry has Changed called at due, or before.
func (h *Holder) retry(due time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.retryAt.IsZero() || due.Before(h.retryAt) {
		h.retryAt = due
	}
}

// look finds the links, and follows those that have another name now.
func (h *Holder) look(want []announcer.Claim) {
	ports := map[string]netlink.Link{}
	find := func(link netlink.Link, err error) string {
		if err != nil {
			return ""
		}
		ports[link.Attrs().Name] = link
		return link.Attrs().Name
	}
	names := map[int]string{}
	for c, l := range h.held {
		name, known := names[l.link]
		if !known {
			name = find(h.links.LinkByIndex(l.link))
			names[l.link] = name
		}
		if name != "" && name != c.Link {
			delete(h.held, c)
			h.held[announcer.Claim{Addr: c.Addr, Link: name}] = l
		}
	}
	for _, c := range want {
		if _, known := ports[c.Link]; !known {
			find(h.links.LinkByName(c.Link))
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ports = ports
}

// holds returns which addresses are held.
func (h *Holder) holds() func(netip.Addr) bool {
	held := map[netip.Addr]bool{}
	for c := range h.held {
		held[c.Addr] = true
	}
	return func(a netip.Addr) bool { return held[a] }
}

// Held returns the claims that the kernel was last told to hold, sorted.
func (h *Holder) Held() []announcer.Claim {
	out := make([]announcer.Claim, 0, len(h.held))
	for c := range h.held {
		out = append(out, c)
	}
	slices.SortFunc(out, announcer.Claim.Compare)
	return out
}

// Adopt takes over the leases that an earlier process left, once, and returns
// what is held.
func (h *Holder) Adopt() ([]announcer.Claim, error) {
	if h.adopted {
		return h.Held(), nil
	}
	all, err := leases(h.links)
	if err != nil {
		return nil, err
	}
	h.adopted = true
	for _, f := range all {
		h.held[f.Claim] = lease{link: f.link.Attrs().Index, mac: f.link.Attrs().HardwareAddr.String()}
		h.log.Info("adopted a held address", "vip", f.Addr, "link", f.Link)
	}
	return h.Held(), nil
}

func (h *Holder) hold(c announcer.Claim) error {
	link := h.ports[c.Link]
	if link == nil {
		delete(h.held, c)
		return fmt.Errorf("announce %s on %s: there is no such link", c.Addr, c.Link)
	}
	at, now := link.Attrs(), time.Now()
	was, held := h.held[c]
	held = held && was.link == at.Index
	same := held && was.mac == at.HardwareAddr.String()
	if same {
		h.confirm(c)
	}
	if same && now.Sub(was.renewed) < announcer.Renew/2 {
		return nil
	}
	if h.Sure != nil && !h.Sure() {
		return fmt.Errorf("announce %s on %s: %w", c.Addr, c.Link, errStill)
	}
	if err := h.links.AddrReplace(link, leased(c.Addr, at.Index, h.lease)); err != nil {
		return fmt.Errorf("announce %s on %s: %w", c.Addr, c.Link, err)
	}
	h.held[c] = lease{link: at.Index, mac: at.HardwareAddr.String(), renewed: now}
	if !same {
		h.log.Info("announcing", "vip", c.Addr, "link", c.Link, "mac", at.HardwareAddr.String())
		h.announce(c)
	}
	return nil
}

// again announces everything that is held once more, as at a take-over: after a
// partition of the network has healed, hosts may believe the node that has lost
// the address since.
func (h *Holder) again() {
	for c := range h.held {
		h.announce(c)
	}
}

func (h *Holder) withdraw(c announcer.Claim) error {
	index := h.held[c].link
	link, err := h.links.LinkByIndex(index)
	if err == nil {
		err = h.links.AddrDel(link, leased(c.Addr, index, h.lease))
	}
	var gone netlink.LinkNotFoundError
	if err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) && !errors.As(err, &gone) {
		return fmt.Errorf("withdraw %s from %s: %w", c.Addr, c.Link, err)
	}
	delete(h.held, c)
	h.silence(c)
	h.log.Info("withdrawn", "vip", c.Addr, "link", c.Link)
	return nil
}

// found is a claim on a link that is there.
type found struct {
	announcer.Claim
	link netlink.Link
}

// leases finds every address of ours on the links of this network namespace.
func leases(links Links) ([]found, error) {
	addrs, err := links.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return nil, fmt.Errorf("list addresses: %w", err)
	}
	var out []found
	for _, a := range addrs {
		if !IsLease(a) {
			continue
		}
		link, err := links.LinkByIndex(a.LinkIndex)
		if err != nil {
			continue // gone in between, and its addresses with it
		}
		ip, _ := netip.AddrFromSlice(a.IP)
		out = append(out, found{announcer.Claim{Addr: ip.Unmap(), Link: link.Attrs().Name}, link})
	}
	return out, nil
}

// Cleanup removes every address of ours, whoever put it there, and returns how
// many there were.
func Cleanup(links Links) (int, error) {
	all, err := leases(links)
	if err != nil {
		return 0, err
	}
	var errs []error
	for _, f := range all {
		if err := links.AddrDel(f.link, leased(f.Addr, f.link.Attrs().Index, announcer.Lease)); err != nil {
			errs = append(errs, fmt.Errorf("withdraw %s from %s: %w", f.Addr, f.Link, err))
		}
	}
	return len(all), errors.Join(errs...)
}
