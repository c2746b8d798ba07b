package l2

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/announcer"
)

// Links is the part of the kernel that Leases need: *netlink.Handle.
type Links interface {
	LinkByName(name string) (netlink.Link, error)
	LinkByIndex(index int) (netlink.Link, error)
	AddrList(link netlink.Link, family int) ([]netlink.Addr, error)
	AddrReplace(link netlink.Link, addr *netlink.Addr) error
	AddrDel(link netlink.Link, addr *netlink.Addr) error
}

// Leases holds claims on the node's links. Its methods are called by one
// goroutine, but for Findings; Run speaks and listens on the links.
type Leases struct {
	// Changed, if given before Run, is called when there are other Findings, or
	// when Sync is to be called again: a claim may be held that had to wait. It must
	// not call Leases.
	Changed func()
	// Sure, if given, is asked right before the kernel is told to answer for an
	// address: false when this process stood still since that was decided.
	Sure    func() bool
	Metrics *Metrics // New makes some that nobody sees

	links    Links
	log      *slog.Logger
	lifetime time.Duration
	held     map[announcer.Claim]lease
	sorted   []announcer.Claim // the keys of held; nil: not known
	failed   map[announcer.Claim]failure
	returns  uint64 // Set.Returns of the last Sync
	adopted  bool
	wakeRun  chan struct{} // wakes Run

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

// New makes Leases. It starts nothing.
func New(links Links, log *slog.Logger) *Leases {
	return &Leases{
		links: links, log: log, Metrics: NewMetrics(nil), lifetime: announcer.Lease, held: map[announcer.Claim]lease{}, failed: map[announcer.Claim]failure{}, wakeRun: make(chan struct{}, 1),
		detector: newDetector(), bursts: map[announcer.Claim]*burst{}, ports: map[string]netlink.Link{},
	}
}

// Findings returns what is to be told of addresses on the network, sorted.
func (ls *Leases) Findings() []Finding {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	return ls.detector.findings()
}

// Sync makes the kernel hold set.Claims and withdraws all others first. It may
// be called again with an equal Set: that renews what is held. These claims wait:
//   - an address that is still being probed, or that a foreign host has;
//   - an address that another node's kernel answers for (Set.Orphaned);
//   - a claim that could not be held a moment ago: each has a back-off of its own.
//
// The first call adopts the leases that an earlier process left. Sync returns
// what is held now, also with an error: the errors of all claims that were tried.
func (ls *Leases) Sync(set announcer.Set) ([]announcer.Claim, error) {
	if _, err := ls.Adopt(); err != nil {
		return nil, err
	}
	ls.findLinks(slices.Concat(set.Claims, set.Disputed))
	ls.mu.Lock()
	ls.detector.setKnown(set)
	want := ls.detector.admit(set.Claims, ls.heldAddrs(), time.Now())
	ls.retryAt = time.Time{}
	ls.mu.Unlock()
	wanted := make(map[announcer.Claim]bool, len(want))
	for _, c := range want {
		wanted[c] = true
	}
	var errs []error
	for c := range ls.held {
		if !wanted[c] {
			errs = append(errs, ls.withdraw(c))
		}
	}
	for c := range ls.failed {
		if !wanted[c] {
			delete(ls.failed, c)
		}
	}
	for _, c := range want {
		errs = append(errs, ls.tryAcquire(c, time.Now()))
	}
	if set.Returns > ls.returns {
		ls.announceAgain()
	}
	ls.returns = set.Returns
	ls.wake()
	return ls.Held(), errors.Join(errs...)
}

// Withdraw gives up claims, before whatever forwards them goes. It returns the
// errors of all that could not be withdrawn: the next Sync tries these again.
func (ls *Leases) Withdraw(claims []announcer.Claim) error {
	var errs []error
	for _, c := range claims {
		if _, held := ls.held[c]; held {
			errs = append(errs, ls.withdraw(c))
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

// tryAcquire holds c unless it failed a moment ago. One address that the kernel refuses,
// such as an IPv6 one on a link without IPv6, must not delay any other.
func (ls *Leases) tryAcquire(c announcer.Claim, now time.Time) error {
	f, failed := ls.failed[c]
	back := f.linkless && ls.ports[c.Link] != nil // the reason is gone
	if failed && !back && now.Before(f.due) {
		ls.retryBy(f.due)
		return nil
	}
	err := ls.acquire(c)
	if err == nil || errors.Is(err, errStill) { // the kernel was not even asked
		delete(ls.failed, c)
		return err
	}
	f.due = now.Add(min(firstPause<<min(f.times, 10), longestPause))
	f.times, f.linkless = f.times+1, ls.ports[c.Link] == nil
	ls.failed[c] = f
	ls.retryBy(f.due)
	return err
}

// retryBy has Changed called at due, or before.
func (ls *Leases) retryBy(due time.Time) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	if ls.retryAt.IsZero() || due.Before(ls.retryAt) {
		ls.retryAt = due
	}
}

// findLinks finds the links, and follows those that have another name now.
func (ls *Leases) findLinks(want []announcer.Claim) {
	ports := map[string]netlink.Link{}
	find := func(link netlink.Link, err error) string {
		if err != nil {
			return ""
		}
		ports[link.Attrs().Name] = link
		return link.Attrs().Name
	}
	names := map[int]string{}
	for c, l := range ls.held {
		name, known := names[l.link]
		if !known {
			name = find(ls.links.LinkByIndex(l.link))
			names[l.link] = name
		}
		if name != "" && name != c.Link {
			ls.noteReleased(c)
			ls.noteHeld(announcer.Claim{Addr: c.Addr, Link: name}, l)
		}
	}
	for _, c := range want {
		if _, known := ports[c.Link]; !known {
			find(ls.links.LinkByName(c.Link))
		}
	}
	ls.mu.Lock()
	defer ls.mu.Unlock()
	ls.ports = ports
}

// heldAddrs returns which addresses are held.
func (ls *Leases) heldAddrs() func(netip.Addr) bool {
	held := map[netip.Addr]bool{}
	for c := range ls.held {
		held[c.Addr] = true
	}
	return func(a netip.Addr) bool { return held[a] }
}

// Held returns the claims that the kernel was last told to hold, sorted. The
// caller must not change the list.
func (ls *Leases) Held() []announcer.Claim {
	if ls.sorted == nil {
		ls.sorted = slices.SortedFunc(maps.Keys(ls.held), announcer.Claim.Compare)
	}
	return ls.sorted
}

// noteHeld notes that the kernel was told to hold c.
func (ls *Leases) noteHeld(c announcer.Claim, l lease) {
	if _, had := ls.held[c]; !had {
		ls.sorted = nil
	}
	ls.held[c] = l
}

// noteReleased notes that the kernel no longer holds c.
func (ls *Leases) noteReleased(c announcer.Claim) {
	delete(ls.held, c)
	ls.sorted = nil
}

// Adopt takes over the leases that an earlier process left, once, and returns
// what is held.
func (ls *Leases) Adopt() ([]announcer.Claim, error) {
	if ls.adopted {
		return ls.Held(), nil
	}
	all, err := findLeases(ls.links)
	if err != nil {
		return nil, err
	}
	ls.adopted = true
	for _, f := range all {
		ls.noteHeld(f.Claim, lease{link: f.link.Attrs().Index, mac: f.link.Attrs().HardwareAddr.String()})
		ls.log.Info("adopted a held address", "vip", f.Addr, "link", f.Link)
	}
	return ls.Held(), nil
}

func (ls *Leases) acquire(c announcer.Claim) error {
	link := ls.ports[c.Link]
	if link == nil {
		ls.noteReleased(c)
		return fmt.Errorf("announce %s on %s: there is no such link", c.Addr, c.Link)
	}
	at, now := link.Attrs(), time.Now()
	was, held := ls.held[c]
	held = held && was.link == at.Index
	same := held && was.mac == at.HardwareAddr.String()
	if same {
		ls.confirmBurst(c)
	}
	if same && now.Sub(was.renewed) < announcer.Renew/2 {
		return nil
	}
	if ls.Sure != nil && !ls.Sure() {
		return fmt.Errorf("announce %s on %s: %w", c.Addr, c.Link, errStill)
	}
	if err := ls.links.AddrReplace(link, leased(c.Addr, at.Index, ls.lifetime)); err != nil {
		return fmt.Errorf("announce %s on %s: %w", c.Addr, c.Link, err)
	}
	ls.noteHeld(c, lease{link: at.Index, mac: at.HardwareAddr.String(), renewed: now})
	if !same {
		ls.log.Info("announcing", "vip", c.Addr, "link", c.Link, "mac", at.HardwareAddr.String())
		ls.startBurst(c)
	}
	return nil
}

// announceAgain announces everything that is held once more, as at a take-over: after a
// partition of the network has healed, hosts may believe the node that has lost
// the address since.
func (ls *Leases) announceAgain() {
	for c := range ls.held {
		ls.startBurst(c)
	}
}

func (ls *Leases) withdraw(c announcer.Claim) error {
	index := ls.held[c].link
	link, err := ls.links.LinkByIndex(index)
	if err == nil {
		err = ls.links.AddrDel(link, leased(c.Addr, index, ls.lifetime))
	}
	var gone netlink.LinkNotFoundError
	if err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) && !errors.As(err, &gone) {
		return fmt.Errorf("withdraw %s from %s: %w", c.Addr, c.Link, err)
	}
	ls.noteReleased(c)
	ls.cancelBurst(c)
	ls.log.Info("withdrawn", "vip", c.Addr, "link", c.Link)
	return nil
}

// foundLease is a claim on a link that is there.
type foundLease struct {
	announcer.Claim
	link netlink.Link
}

// findLeases finds every address of ours on the links of this network namespace.
func findLeases(links Links) ([]foundLease, error) {
	addrs, err := links.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return nil, fmt.Errorf("list addresses: %w", err)
	}
	var out []foundLease
	for _, a := range addrs {
		if !IsLease(a) {
			continue
		}
		link, err := links.LinkByIndex(a.LinkIndex)
		if err != nil {
			continue // gone in between, and its addresses with it
		}
		ip, _ := netip.AddrFromSlice(a.IP)
		out = append(out, foundLease{announcer.Claim{Addr: ip.Unmap(), Link: link.Attrs().Name}, link})
	}
	return out, nil
}

// Cleanup removes every address of ours, also those of other processes, and returns how
// many there were.
func Cleanup(links Links) (int, error) {
	all, err := findLeases(links)
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
