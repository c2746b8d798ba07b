package l2

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
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
// goroutine; the announcements that follow a take-over are sent by Run.
type Holder struct {
	links    Links
	log      *slog.Logger
	held     map[Claim]lease
	adopted  bool
	takeover chan taken
}

// lease is what the kernel was told of one claim.
type lease struct {
	link    int // index
	renewed time.Time
}

// taken asks Run to announce one claim.
type taken struct {
	Claim
	link netlink.Link
}

// New makes a Holder. It starts nothing.
func New(links Links, log *slog.Logger) *Holder {
	return &Holder{links: links, log: log, held: map[Claim]lease{}, takeover: make(chan taken, 4096)}
}

// Sync makes the kernel hold exactly want: what is not wanted is withdrawn
// first; what is held already is renewed; what is new is taken over and then
// announced. Leases that an earlier process left are adopted at the first call.
// It returns what is held now, also with an error (all errors joined).
func (h *Holder) Sync(want []Claim) ([]Claim, error) {
	var errs []error
	if _, err := h.Adopt(); err != nil {
		return nil, err
	}
	for c := range h.held {
		if _, ok := slices.BinarySearchFunc(want, c, Claim.compare); !ok {
			errs = append(errs, h.withdraw(c))
		}
	}
	for _, c := range want {
		errs = append(errs, h.hold(c))
	}
	return h.Held(), errors.Join(errs...)
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
	found, err := leases(h.links)
	if err != nil {
		return nil, err
	}
	h.adopted = true
	for _, f := range found {
		h.held[f.Claim] = lease{link: f.link.Attrs().Index}
		h.log.Info("adopted a held address", "vip", f.Addr, "link", f.Link)
	}
	return h.Held(), nil
}

func (h *Holder) hold(c Claim) error {
	link, err := h.links.LinkByName(c.Link)
	if err != nil {
		delete(h.held, c)
		return fmt.Errorf("announce %s on %s: %w", c.Addr, c.Link, err)
	}
	index, now := link.Attrs().Index, time.Now()
	was, held := h.held[c]
	held = held && was.link == index
	if held && now.Sub(was.renewed) < Renew/2 {
		return nil
	}
	if err := h.links.AddrReplace(link, leased(c.Addr, index)); err != nil {
		return fmt.Errorf("announce %s on %s: %w", c.Addr, c.Link, err)
	}
	h.held[c] = lease{link: index, renewed: now}
	if held {
		return nil
	}
	h.log.Info("announcing", "vip", c.Addr, "link", c.Link, "mac", link.Attrs().HardwareAddr.String())
	h.announce(taken{c, link})
	return nil
}

// Again announces everything that is held anew, as at a take-over: after a
// partition of the network has healed, hosts may believe the node that has lost
// the address since.
func (h *Holder) Again() {
	for c, l := range h.held {
		link, err := h.links.LinkByIndex(l.link)
		if err != nil {
			continue // gone, and the claim with the next Sync
		}
		h.announce(taken{c, link})
	}
}

func (h *Holder) announce(t taken) {
	select {
	case h.takeover <- t:
	default: // Run is behind by thousands; the kernel answers all the same
	}
}

func (h *Holder) withdraw(c Claim) error {
	index := h.held[c].link
	link, err := h.links.LinkByIndex(index)
	if err == nil {
		err = h.links.AddrDel(link, leased(c.Addr, index))
	}
	var gone netlink.LinkNotFoundError
	if err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) && !errors.As(err, &gone) {
		return fmt.Errorf("withdraw %s from %s: %w", c.Addr, c.Link, err)
	}
	delete(h.held, c)
	h.log.Info("withdrawn", "vip", c.Addr, "link", c.Link)
	return nil
}

// leases finds every address of ours on the links of this network namespace.
func leases(links Links) ([]taken, error) {
	addrs, err := links.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return nil, fmt.Errorf("list addresses: %w", err)
	}
	var out []taken
	for _, a := range addrs {
		if !IsLease(a) {
			continue
		}
		link, err := links.LinkByIndex(a.LinkIndex)
		if err != nil {
			continue // gone in between, and its addresses with it
		}
		ip, _ := netip.AddrFromSlice(a.IP)
		out = append(out, taken{Claim{ip.Unmap(), link.Attrs().Name}, link})
	}
	return out, nil
}

// Cleanup removes every address of ours, whoever put it there, and returns how
// many there were.
func Cleanup(links Links) (int, error) {
	found, err := leases(links)
	if err != nil {
		return 0, err
	}
	var errs []error
	for _, f := range found {
		if err := links.AddrDel(f.link, leased(f.Addr, f.link.Attrs().Index)); err != nil {
			errs = append(errs, fmt.Errorf("withdraw %s from %s: %w", f.Addr, f.Link, err))
		}
	}
	return len(found), errors.Join(errs...)
}

// Run announces what Sync takes over, until ctx ends: at once, and three more
// times over two seconds.
func (h *Holder) Run(ctx context.Context) {
	again := time.NewTicker(500 * time.Millisecond)
	defer again.Stop()
	left := map[Claim]*burst{}
	for {
		select {
		case <-ctx.Done():
			return
		case t := <-h.takeover:
			left[t.Claim] = &burst{link: t.link, times: 4}
			h.say(left, t.Claim)
		case <-again.C:
			for c := range left {
				h.say(left, c)
			}
		}
	}
}

// burst is the announcements of one claim that are still to be sent.
type burst struct {
	link  netlink.Link
	times int
}

func (h *Holder) say(left map[Claim]*burst, c Claim) {
	b := left[c]
	if err := Gratuitous(b.link, c.Addr); err != nil {
		h.log.Warn("gratuitous announcement failed", "vip", c.Addr, "link", c.Link, "error", err)
	}
	if b.times--; b.times <= 0 {
		delete(left, c)
	}
}
