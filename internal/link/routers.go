package link

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/mdlayher/ndp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/internal/snapshot"
)

// Routers returns the routers that this network namespace knows of: those that sent
// router advertisements (RFC 4861 section 4.2), and its default gateways. They are sorted,
// and nil if the kernel cannot be asked.
func Routers() ([]snapshot.Router, error) {
	links, err := netlink.LinkList()
	if err != nil {
		return nil, fmt.Errorf("list links: %w", err)
	}
	names := map[int]string{}
	for _, l := range links {
		names[l.Attrs().Index] = l.Attrs().Name
	}
	neighbors, err := netlink.NeighList(0, netlink.FAMILY_V6)
	if err != nil {
		return nil, fmt.Errorf("list neighbors: %w", err)
	}
	routes, err := netlink.RouteListFiltered(netlink.FAMILY_ALL, &netlink.Route{Table: unix.RT_TABLE_MAIN}, netlink.RT_FILTER_TABLE)
	if err != nil {
		return nil, fmt.Errorf("list routes: %w", err)
	}
	return routers(names, neighbors, routes), nil
}

// routers is the decision. The kernel marks who has sent a router advertisement, also
// where it does not use them.
func routers(names map[int]string, neighbors []netlink.Neigh, routes []netlink.Route) []snapshot.Router {
	known := map[netip.Addr]snapshot.Router{}
	add := func(ip net.IP, link int, gateway bool) {
		addr, ok := netip.AddrFromSlice(ip)
		if addr = addr.Unmap(); !ok || names[link] == "" {
			return
		}
		// Without its link such an address cannot be connected to.
		if addr.Is6() && addr.IsLinkLocalUnicast() {
			addr = addr.WithZone(names[link])
		}
		known[addr] = snapshot.Router{Link: names[link], Addr: addr, Default: gateway || known[addr].Default}
	}
	for _, n := range neighbors {
		if n.Flags&unix.NTF_ROUTER != 0 && n.State&(unix.NUD_FAILED|unix.NUD_NOARP) == 0 && n.IP.IsLinkLocalUnicast() {
			add(n.IP, n.LinkIndex, false)
		}
	}
	for _, r := range routes {
		ones := 0
		if r.Dst != nil {
			ones, _ = r.Dst.Mask.Size()
		}
		switch {
		case ones != 0:
		case len(r.MultiPath) > 0:
			for _, hop := range r.MultiPath {
				add(hop.Gw, hop.LinkIndex, true)
			}
		default:
			add(r.Gw, r.LinkIndex, true)
		}
	}
	var out []snapshot.Router
	for _, r := range known {
		out = append(out, r)
	}
	slices.SortFunc(out, func(a, b snapshot.Router) int {
		if c := strings.Compare(a.Link, b.Link); c != 0 {
			return c
		}
		return a.Addr.Compare(b.Addr)
	})
	return out
}

// advertiseEvery is how often a link's routers hear of this node. At first it is a
// fifth of that.
const advertiseEvery = 10 * time.Second

// Advertiser tells the routers on a link that this node is there, so that a router with
// a session by interface learns its address. What it sends offers no default route
// (RFC 4861 section 6.2.3): hosts take nothing from it.
type Advertiser struct{ conn *ndp.Conn }

// NewAdvertiser opens the socket, in the network namespace that it is called in. It fails
// if there is no such link, or if the link has no link-local address.
func NewAdvertiser(name string) (*Advertiser, error) {
	l, err := net.InterfaceByName(name)
	if err != nil {
		return nil, fmt.Errorf("router advertisements: %w", err)
	}
	conn, _, err := ndp.Listen(l, ndp.LinkLocal)
	if err != nil {
		return nil, fmt.Errorf("router advertisements on %s: %w", name, err)
	}
	return &Advertiser{conn}, nil
}

// Run sends until ctx ends, or the link does.
func (a *Advertiser) Run(ctx context.Context) error {
	defer func() { _ = a.conn.Close() }()
	for sent := 0; ; sent++ {
		if err := a.conn.WriteTo(&ndp.RouterAdvertisement{}, nil, netip.IPv6LinkLocalAllNodes()); err != nil {
			return fmt.Errorf("router advertisement: %w", err)
		}
		wait := advertiseEvery
		// A router with a session by interface learns from these where its neighbour is (FRR 8.4).
		if sent < 3 {
			wait /= 5
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
	}
}
