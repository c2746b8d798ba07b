package l2

import (
	"cmp"
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

// Claim is one VIP on one link.
type Claim struct {
	Addr netip.Addr
	Link string
}

func (c Claim) compare(o Claim) int {
	return cmp.Or(c.Addr.Compare(o.Addr), cmp.Compare(c.Link, o.Link))
}

// Claims flattens a plan.
func Claims(p announcer.Plan) []Claim {
	var out []Claim
	for _, v := range p.Announce {
		for _, l := range v.Links {
			out = append(out, Claim{v.Addr, l})
		}
	}
	slices.SortFunc(out, Claim.compare)
	return out
}

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
	// when a claim may be held that had to wait. It must not call the Holder.
	Changed func()
	// Sure, if given, is asked right before the kernel is told to answer for an
	// address: false when this process stood still since that was decided.
	Sure    func() bool
	Metrics *Metrics // New makes some that nobody sees

	links   Links
	log     *slog.Logger
	lease   time.Duration
	held    map[Claim]lease
	adopted bool
	poke    chan struct{} // wakes Run

	mu       sync.Mutex
	detector *detector
	bursts   map[Claim]*burst
	ports    map[string]netlink.Link // by name, as the last Sync saw them
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
		links: links, log: log, Metrics: NewMetrics(nil), lease: Lease, held: map[Claim]lease{}, poke: make(chan struct{}, 1),
		detector: newDetector(), bursts: map[Claim]*burst{}, ports: map[string]netlink.Link{},
	}
}

// Know takes in what the cluster knows. Without it every claim is held at once.
func (h *Holder) Know(k Known) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.detector.know(k)
}

// Await takes in which addresses a kernel may still answer for that no agent looks
// after: they are taken over when it does not answer any more.
func (h *Holder) Await(left map[netip.Addr]bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.detector.left = left
}

// Findings returns what is to be told of addresses on the network, sorted.
func (h *Holder) Findings() []Finding {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.detector.findings()
}

// Sync makes the kernel hold want, but for the addresses that are still being
// probed, that a foreign host has, or that another node's kernel answers for: what is not wanted is withdrawn first; what
// is held already is renewed; what is new is taken over and then announced.
// Leases that an earlier process left are adopted at the first call. It returns
// what is held now, also with an error (all errors joined).
func (h *Holder) Sync(want []Claim) ([]Claim, error) {
	if _, err := h.Adopt(); err != nil {
		return nil, err
	}
	h.mu.Lock()
	disputed := h.detector.known.Disputed
	h.mu.Unlock()
	h.look(slices.Concat(want, disputed))
	h.mu.Lock()
	want = h.detector.want(want, h.holds(), time.Now())
	h.mu.Unlock()
	wanted := map[Claim]bool{}
	for _, c := range want {
		wanted[c] = true
	}
	var errs []error
	for c := range h.held {
		if !wanted[c] {
			errs = append(errs, h.withdraw(c))
		}
	}
	for _, c := range want {
		errs = append(errs, h.hold(c))
	}
	h.wake()
	return h.Held(), errors.Join(errs...)
}

// look finds the links, and follows those that have another name now.
func (h *Holder) look(want []Claim) {
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
			h.held[Claim{c.Addr, name}] = l
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
func (h *Holder) Held() []Claim {
	out := make([]Claim, 0, len(h.held))
	for c := range h.held {
		out = append(out, c)
	}
	slices.SortFunc(out, Claim.compare)
	return out
}

// Adopt takes over the leases that an earlier process left, once, and returns
// what is held.
func (h *Holder) Adopt() ([]Claim, error) {
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

func (h *Holder) hold(c Claim) error {
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
	if same && now.Sub(was.renewed) < Renew/2 {
		return nil
	}
	if h.Sure != nil && !h.Sure() {
		return fmt.Errorf("announce %s on %s: this process stood still since that was decided", c.Addr, c.Link)
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

// Again announces everything that is held anew, as at a take-over: after a
// partition of the network has healed, hosts may believe the node that has lost
// the address since.
func (h *Holder) Again() {
	for c := range h.held {
		h.announce(c)
	}
	h.wake()
}

func (h *Holder) withdraw(c Claim) error {
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
	Claim
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
		out = append(out, found{Claim{ip.Unmap(), link.Attrs().Name}, link})
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
		if err := links.AddrDel(f.link, leased(f.Addr, f.link.Attrs().Index, Lease)); err != nil {
			errs = append(errs, fmt.Errorf("withdraw %s from %s: %w", f.Addr, f.Link, err))
		}
	}
	return len(all), errors.Join(errs...)
}
