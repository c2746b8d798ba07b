// Package link follows the node's network links and addresses through netlink
// and says which links could carry a VIP.
package link

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/announcer/l2"
	"github.com/fairlead/fairlead/internal/snapshot"
)

// State is the node's links and addresses at one moment, sorted.
type State struct {
	Links []snapshot.Link // those that could carry a VIP
	Addrs []netip.Addr    // every address of the node but its VIPs
}

// Read takes the State from the kernel of this network namespace.
func Read() (State, error) {
	links, err := netlink.LinkList()
	if err != nil {
		return State{}, fmt.Errorf("list links: %w", err)
	}
	addrs, err := netlink.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return State{}, fmt.Errorf("list addresses: %w", err)
	}
	return resolve(links, addrs), nil
}

// ipvsLink has the addresses of all Services while kube-proxy runs with IPVS, and
// afterwards until somebody deletes it. They are no addresses of the node.
const ipvsLink = "kube-ipvs0"

// resolve is the decision: a link is suitable if it is up, with carrier, with
// ARP, not loopback, and neither a bridge's port nor a bond's member; pods'
// veths without an address of their own drop out by having no prefix.
func resolve(links []netlink.Link, addrs []netlink.Addr) State {
	var s State
	prefixes := map[int][]netip.Prefix{}
	ipvs := slices.IndexFunc(links, func(l netlink.Link) bool { return l.Attrs().Name == ipvsLink })
	for _, a := range addrs {
		if l2.IsOurs(a) || ipvs >= 0 && a.LinkIndex == links[ipvs].Attrs().Index {
			continue
		}
		p, ok := prefix(a)
		if !ok {
			continue
		}
		s.Addrs = append(s.Addrs, p.Addr())
		if !p.Addr().IsLinkLocalUnicast() {
			prefixes[a.LinkIndex] = append(prefixes[a.LinkIndex], p)
		}
	}
	for _, l := range links {
		at := l.Attrs()
		if !suitable(at) || len(prefixes[at.Index]) == 0 {
			continue
		}
		ps := prefixes[at.Index]
		slices.SortFunc(ps, netip.Prefix.Compare)
		s.Links = append(s.Links, snapshot.Link{Name: at.Name, Index: at.Index, MAC: at.HardwareAddr.String(), Prefixes: ps})
	}
	slices.SortFunc(s.Addrs, netip.Addr.Compare)
	s.Addrs = slices.Compact(s.Addrs)
	slices.SortFunc(s.Links, func(a, b snapshot.Link) int { return a.Index - b.Index })
	return s
}

func suitable(at *netlink.LinkAttrs) bool {
	up := at.Flags&net.FlagUp != 0 && (at.OperState == netlink.OperUp || at.OperState == netlink.OperUnknown)
	arp := at.RawFlags&unix.IFF_NOARP == 0 && len(at.HardwareAddr) == 6
	return up && arp && at.MasterIndex == 0 && at.Flags&net.FlagLoopback == 0
}

func prefix(a netlink.Addr) (netip.Prefix, bool) {
	ip, ok := netip.AddrFromSlice(a.IP)
	if !ok {
		return netip.Prefix{}, false
	}
	ones, _ := a.Mask.Size()
	return netip.PrefixFrom(ip.Unmap(), ones), true
}

// Watch calls changed after every change of a link or of an address that is not
// a VIP's lease, until ctx ends. It returns an error if the kernel's events
// can't be had or were lost; then read the State anew and call Watch again.
func Watch(ctx context.Context, changed func()) error {
	done := make(chan struct{})
	defer close(done)
	links := make(chan netlink.LinkUpdate, 256)
	addrs := make(chan netlink.AddrUpdate, 1024)
	lost := make(chan error, 2)
	fail := func(err error) {
		select {
		case lost <- err:
		default:
		}
	}
	if err := netlink.LinkSubscribeWithOptions(links, done, netlink.LinkSubscribeOptions{ErrorCallback: fail}); err != nil {
		return fmt.Errorf("subscribe to link events: %w", err)
	}
	if err := netlink.AddrSubscribeWithOptions(addrs, done, netlink.AddrSubscribeOptions{ErrorCallback: fail}); err != nil {
		return fmt.Errorf("subscribe to address events: %w", err)
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-lost:
			return fmt.Errorf("link events: %w", err)
		case _, ok := <-links:
			if !ok {
				return fmt.Errorf("link events: subscription ended")
			}
			changed()
		case a, ok := <-addrs:
			if !ok {
				return fmt.Errorf("address events: subscription ended")
			}
			if !isLease(a) {
				changed()
			}
		}
	}
}

func isLease(u netlink.AddrUpdate) bool {
	return u.NewAddr && l2.IsOurs(netlink.Addr{IPNet: &u.LinkAddress, Flags: u.Flags, PreferedLft: u.PreferedLft, ValidLft: u.ValidLft})
}
