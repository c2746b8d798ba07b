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

// Links is what Leases need of the kernel's links: *netlink.Handle.
type Links interface {
	LinkByName(name string) (netlink.Link, error)
	LinkByIndex(index int) (netlink.Link, error)
	AddrList(link netlink.Link, family int) ([]netlink.Addr, error)
	AddrReplace(link netlink.Link, addr *netlink.Addr) error
	AddrDel(link netlink.Link, addr *netlink.Addr) error
}

// Leases holds claims on the node's links. One goroutine calls its methods, except
// Findings. Run speaks and listens on the links.
type Leases struct {
	// Changed, if set before Run, is called when Findings changed, or when Sync has to be
	// called again because a claim that waited may be held. It must not call Leases.
	Changed func()
	// Sure, if given, is asked right before the kernel is told to answer for an
	// address: false when this process stood still since that was decided.
	Sure func() bool
	// HeardAt, if given before Run, returns when anybody was heard last on a link. An address
	// that another node's kernel may answer for is not taken before somebody is heard.
	HeardAt func(link string) time.Time
	// Carries, if given before Run, reports whether another node answered on a link just now.
	Carries func(link string) bool
	Metrics *Metrics // New makes some that nobody sees

	links   Links
	answers answers
	log     *slog.Logger
	held    map[announcer.Claim]lease
	sorted  []announcer.Claim // the keys of held; nil: not known
	members map[group]int     // how many of held are in each group
	failed  map[announcer.Claim]failure
	returns uint64 // Set.Returns of the last Sync
	adopted bool
	wakeRun chan struct{} // wakes Run

	mu       sync.Mutex
	detector *detector
	bursts   map[announcer.Claim]*burst
	ports    map[string]netlink.Link // by name, as the last Sync saw them
	retryAt  time.Time               // when a claim that failed is to be tried again; zero: none
	tampered bool                    // somebody removed something from the kernel's table, or may have
	rest     time.Time               // until when that is not repaired again
}

// lease is what the kernel was told of one claim.
type lease struct {
	link    int // index
	mac     string
	renewed time.Time
	until   time.Time // when the kernel stops answering, unless the lease is renewed
	address bool      // it is an address of the link too, as version 0.1 left it
}

// New makes Leases on links, which are those of the network namespace netns, a file
// descriptor; 0 is that of the caller. It starts nothing.
func New(links Links, netns int, log *slog.Logger) *Leases {
	return Agents.Leases(links, netns, log)
}

// Owner is who keeps Leases. What each owner leaves in the kernel has a name of its own,
// so that the programs of two owners on one node do not touch each other's addresses.
type Owner string

// The owners, by the names of their nftables tables.
const (
	Agents       Owner = "fairlead"               // Services' addresses
	ControlPlane Owner = "fairlead-control-plane" // the API server's own
)

// Leases is New for an owner.
func (o Owner) Leases(links Links, netns int, log *slog.Logger) *Leases {
	return &Leases{
		links: links, answers: answers{o, netns, announcer.Lease, &ownPorts{}}, log: log, Metrics: NewMetrics(nil), held: map[announcer.Claim]lease{}, members: map[group]int{}, failed: map[announcer.Claim]failure{}, wakeRun: make(chan struct{}, 1),
		detector: newDetector(), bursts: map[announcer.Claim]*burst{}, ports: map[string]netlink.Link{},
	}
}

// Findings returns what this node found out about addresses on the network, sorted.
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
	began := time.Now()
	repairs := ls.repairs(began)
	wanted := make(map[announcer.Claim]bool, len(want))
	for _, c := range want {
		wanted[c] = true
	}
	var gone []announcer.Claim
	for _, c := range ls.Held() {
		if !wanted[c] {
			gone = append(gone, c)
		}
	}
	for c := range ls.failed {
		if !wanted[c] {
			delete(ls.failed, c)
		}
	}
	err := errors.Join(ls.Withdraw(gone), ls.acquire(want, time.Now()))
	if repairs {
		ls.restFrom(began, time.Now())
	}
	if set.Returns > ls.returns {
		ls.announceAgain()
	}
	ls.returns = set.Returns
	ls.wake()
	return ls.Held(), err
}

// Withdraw gives up claims, before whatever forwards them goes. It returns the
// errors of all that could not be withdrawn: the next Sync tries these again.
func (ls *Leases) Withdraw(claims []announcer.Claim) error {
	gone := map[answered]bool{}
	for _, c := range claims {
		if l, held := ls.held[c]; held {
			gone[answered{uint32(l.link), c.Addr}] = true
		}
	}
	if len(gone) == 0 {
		return nil
	}
	if err := ls.answers.remove(gone); err != nil {
		return fmt.Errorf("withdraw %s: %w", names(claims), err)
	}
	var errs []error
	for _, c := range claims {
		errs = append(errs, ls.release(c))
	}
	return errors.Join(errs...)
}

// names prints claims for an error, one at least.
func names(claims []announcer.Claim) string {
	if len(claims) == 1 {
		return claims[0].String()
	}
	return fmt.Sprintf("%s and %d more", claims[0], len(claims)-1)
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

// acquire has the kernel answer for want, and renews that. One address that the
// kernel refuses, such as an IPv6 one on a link without IPv6, must not delay any
// other.
func (ls *Leases) acquire(want []announcer.Claim, now time.Time) error {
	ready, due, err := ls.sortOut(want, now)
	if len(due) == 0 {
		return err
	}
	if ls.Sure != nil && !ls.Sure() { // the kernel is not even asked
		return errors.Join(err, fmt.Errorf("announce %s: %w", names(due), errStill))
	}
	ready, joined := ls.join(ready, due, now)
	err = errors.Join(err, joined)
	if bad := ls.answers.set(ls.asked(ready)); bad != nil {
		for _, c := range due {
			ls.fail(c, now)
		}
		for _, c := range slices.Clone(ls.Held()) {
			// The kernel has stopped answering for these by itself.
			if now.After(ls.held[c].until) {
				ls.noteReleased(c)
			}
		}
		return errors.Join(err, fmt.Errorf("announce %s: %w", names(due), bad))
	}
	isReady := map[announcer.Claim]bool{}
	for _, c := range ready {
		isReady[c] = true
	}
	for _, c := range due {
		if isReady[c] {
			err = errors.Join(err, ls.hold(c, now))
		}
	}
	for _, c := range slices.Clone(ls.Held()) {
		if !isReady[c] { // Withdraw could not, and now it is not answered for
			err = errors.Join(err, ls.release(c))
		}
	}
	return err
}

// sortOut returns which of want the kernel is to answer for, and which of these
// it has to be told now.
func (ls *Leases) sortOut(want []announcer.Claim, now time.Time) (ready, due []announcer.Claim, err error) {
	for _, c := range want {
		link, f := ls.ports[c.Link], ls.failed[c]
		was, held := ls.held[c]
		// The kernel's elements are by link: those of a link that is gone match nothing.
		if link == nil {
			ls.noteReleased(c)
			if !f.linkless || !now.Before(f.due) {
				ls.fail(c, now)
				err = errors.Join(err, fmt.Errorf("announce %s on %s: there is no such link", c.Addr, c.Link))
			} else {
				ls.retryBy(f.due)
			}
			continue
		}
		same := held && was.is(link)
		if same {
			ls.confirmBurst(c)
		}
		// Sync runs at every change of the cluster, and a renewal costs a transaction.
		news, back := !same || now.Sub(was.renewed) >= announcer.Renew/2, f.linkless // the reason is gone
		if f.times > 0 && !back && now.Before(f.due) {
			ls.retryBy(f.due)
			news = false
		}
		if news {
			due = append(due, c)
		}
		if held || news {
			ready = append(ready, c)
		}
	}
	return ready, due, err
}

// is reports whether l is a lease on link as it is now.
func (l lease) is(link netlink.Link) bool {
	return l.link == link.Attrs().Index && l.mac == link.Attrs().HardwareAddr.String()
}

// join has the links of the IPv6 claims among due hear questions for them. It
// returns ready without the new claims for which that fails.
func (ls *Leases) join(ready, due []announcer.Claim, now time.Time) ([]announcer.Claim, error) {
	var errs []error
	deaf := map[announcer.Claim]bool{}
	for _, c := range due {
		if c.Addr.Is4() {
			continue
		}
		link := ls.ports[c.Link]
		if err := ls.links.AddrReplace(link, ls.answers.owner.member(c.Addr, link, ls.answers.lifetime)); err != nil {
			errs = append(errs, fmt.Errorf("announce %s on %s: %w", c.Addr, c.Link, err))
			if _, held := ls.held[c]; !held { // else it is a member still
				ls.fail(c, now)
				deaf[c] = true
			}
		}
	}
	return slices.DeleteFunc(ready, func(c announcer.Claim) bool { return deaf[c] }), errors.Join(errs...)
}

// asked returns what the kernel is told of claims whose links are there.
func (ls *Leases) asked(claims []announcer.Claim) asked {
	out := asked{ports: map[uint32]port{}, addrs: map[answered]bool{}}
	for _, c := range claims {
		at := ls.ports[c.Link].Attrs()
		index := uint32(at.Index)
		out.ports[index] = port{index, at.Name, at.HardwareAddr}
		out.addrs[answered{index, c.Addr}] = true
	}
	return out
}

// hold notes that the kernel answers for c, and takes it from the link if version
// 0.1 left it there.
func (ls *Leases) hold(c announcer.Claim, now time.Time) (err error) {
	link := ls.ports[c.Link]
	was, held := ls.held[c]
	same := held && was.is(link)
	if was.address {
		if err = ls.removeAddr(was.link, leased(c.Addr, was.link, announcer.Lease)); err != nil {
			err = fmt.Errorf("take %s from %s: %w", c.Addr, c.Link, err)
		}
	}
	at := link.Attrs()
	ls.noteHeld(c, lease{link: at.Index, mac: at.HardwareAddr.String(), renewed: now, until: now.Add(ls.answers.lifetime), address: err != nil})
	delete(ls.failed, c)
	if !same {
		ls.log.Info("announcing", "vip", c.Addr, "link", c.Link, "mac", at.HardwareAddr.String())
		ls.startBurst(c)
	}
	return err
}

// fail notes that c could not be held at time now.
func (ls *Leases) fail(c announcer.Claim, now time.Time) {
	f := ls.failed[c]
	// One VIP that the kernel refused made the whole agent wait for 10 s at a time.
	f.due = now.Add(min(firstPause<<min(f.times, 10), longestPause))
	f.times, f.linkless = f.times+1, ls.ports[c.Link] == nil
	ls.failed[c] = f
	ls.retryBy(f.due)
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
		// A link that got another name keeps its index, by which the kernel answers.
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
	if was, had := ls.held[c]; !had || was.link != l.link {
		ls.noteReleased(c)
		ls.members[groupOf(c.Addr, l.link)]++
	}
	ls.held[c] = l
}

// noteReleased notes that the kernel no longer holds c.
func (ls *Leases) noteReleased(c announcer.Claim) {
	if was, had := ls.held[c]; had {
		g := groupOf(c.Addr, was.link)
		if ls.members[g]--; ls.members[g] == 0 {
			delete(ls.members, g)
		}
	}
	delete(ls.held, c)
	ls.sorted = nil
}

// Adopt takes over the leases that an earlier process left, once, and returns
// what is held. After an error nothing is adopted, and the next call tries again.
func (ls *Leases) Adopt() ([]announcer.Claim, error) {
	if ls.adopted {
		return ls.Held(), nil
	}
	now, err := ls.answers.read()
	if err != nil {
		return nil, err
	}
	var addrs []foundLease
	// Version 0.1 had no control plane's program.
	if ls.answers.owner == Agents {
		if addrs, err = findLeases(ls.links); err != nil {
			return nil, err
		}
	}
	if now.exists && len(now.ports) == 0 { // the time of all of it is over
		if err := ls.answers.removeAll(); err != nil {
			return nil, err
		}
	}
	ls.adopted = true
	for a := range now.addrs {
		link, err := ls.links.LinkByIndex(int(a.link))
		if p, live := now.ports[a.link]; live && err == nil {
			ls.adopt(announcer.Claim{Addr: a.addr, Link: link.Attrs().Name}, lease{link: int(a.link), mac: p.mac.String()})
		}
	}
	for _, f := range addrs {
		ls.adopt(f.Claim, lease{link: f.link.Attrs().Index, mac: f.link.Attrs().HardwareAddr.String(), address: true})
	}
	return ls.Held(), nil
}

func (ls *Leases) adopt(c announcer.Claim, l lease) {
	l.until = time.Now().Add(ls.answers.lifetime)
	ls.noteHeld(c, l)
	ls.log.Info("adopted a held address", "vip", c.Addr, "link", c.Link)
}

// announceAgain announces everything that is held once more, as at a take-over: after a
// partition of the network has healed, hosts may believe the node that has lost
// the address since.
func (ls *Leases) announceAgain() {
	for c := range ls.held {
		ls.startBurst(c)
	}
}

// release notes that the kernel does not answer for c, and takes from its link what
// c needed there.
func (ls *Leases) release(c announcer.Claim) error {
	l := ls.held[c]
	link, err := ls.links.LinkByIndex(l.link)
	if err == nil && l.address {
		err = ls.removeAddr(l.link, leased(c.Addr, l.link, announcer.Lease))
	}
	// Another VIP that ends in the same 24 bits needs the group as well.
	if err == nil && c.Addr.Is6() && ls.members[groupOf(c.Addr, l.link)] == 1 {
		err = ls.removeAddr(l.link, ls.answers.owner.member(c.Addr, link, announcer.Lease))
	}
	var gone netlink.LinkNotFoundError
	if err != nil && !errors.As(err, &gone) {
		return fmt.Errorf("withdraw %s from %s: %w", c.Addr, c.Link, err)
	}
	ls.noteReleased(c)
	ls.cancelBurst(c)
	ls.log.Info("withdrawn", "vip", c.Addr, "link", c.Link)
	return nil
}

// removeAddr removes an address from a link, if it is there.
func (ls *Leases) removeAddr(index int, addr *netlink.Addr) error {
	link, err := ls.links.LinkByIndex(index)
	if err == nil {
		err = ls.links.AddrDel(link, addr)
	}
	// Its lifetime may have ended first.
	if errors.Is(err, unix.EADDRNOTAVAIL) {
		return nil
	}
	return err
}

// foundLease is a claim that version 0.1 left on a link.
type foundLease struct {
	announcer.Claim
	link netlink.Link
}

// findLeases finds every VIP on the links of this network namespace.
func findLeases(links Links) (out []foundLease, err error) {
	return out, Agents.each(links, func(a netlink.Addr, link netlink.Link) {
		if isLeased(a) {
			ip, _ := netip.AddrFromSlice(a.IP)
			out = append(out, foundLease{announcer.Claim{Addr: ip.Unmap(), Link: link.Attrs().Name}, link})
		}
	})
}

// each calls f for every address that o put on a link.
func (o Owner) each(links Links, f func(netlink.Addr, netlink.Link)) error {
	addrs, err := links.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return fmt.Errorf("list addresses: %w", err)
	}
	for _, a := range addrs {
		if !o.put(a) {
			continue
		}
		link, err := links.LinkByIndex(a.LinkIndex)
		if err != nil {
			continue // gone in between, and its addresses with it
		}
		f(a, link)
	}
	return nil
}

// Cleanup removes all that the kernel answers for in the network namespace netns, which
// links are of, for the agents, also by other processes. It returns how many VIPs that were.
// It goes on after an error, and returns all of them.
func Cleanup(links Links, netns int) (int, error) { return Agents.Cleanup(links, netns) }

// Cleanup is the function Cleanup for an owner.
func (o Owner) Cleanup(links Links, netns int) (int, error) {
	as, vips := answers{owner: o, netns: netns}, map[netip.Addr]bool{}
	now, err := as.read()
	errs := []error{err}
	for a := range now.addrs {
		vips[a.addr] = true
	}
	if err == nil && now.exists {
		errs = append(errs, as.removeAll())
	}
	errs = append(errs, o.each(links, func(a netlink.Addr, link netlink.Link) {
		if ip, _ := netip.AddrFromSlice(a.IP); isLeased(a) {
			vips[ip.Unmap()] = true
		}
		if err := links.AddrDel(link, &netlink.Addr{IPNet: a.IPNet}); err != nil {
			errs = append(errs, fmt.Errorf("take %s from %s: %w", a.IPNet, link.Attrs().Name, err))
		}
	}))
	return len(vips), errors.Join(errs...)
}
