package nftables

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/proxy"
)

// flow is a UDP connection that the kernel remembers: where the client sends
// to, and who answers. As long as the client keeps sending, the kernel keeps
// sending to that one: nothing else ends a UDP flow.
type flow struct {
	to, from netip.AddrPort
}

// staleFlow tells whether f goes to a Frontend of t but to none of its
// endpoints, or to a Frontend in gone, which t no longer has.
func staleFlow(f flow, t *proxy.Table, gone map[proxy.Key]bool) bool {
	family := snapshot.FamilyOf(f.to.Addr())
	for _, kind := range []proxy.Kind{proxy.ClusterIP, proxy.VIP, proxy.ExternalIP, proxy.NodePort} {
		key := proxy.Key{Kind: kind, Family: family, Addr: f.to.Addr(), Protocol: snapshot.UDP, Port: f.to.Port()}
		if kind == proxy.NodePort {
			if !slices.Contains(t.NodePortAddrs, f.to.Addr()) {
				return false
			}
			key.Addr = netip.Addr{}
		}
		if front := t.Frontend(key); front != nil {
			_, cluster := find(front.Cluster, f.from)
			_, local := find(front.Local, f.from)
			return !cluster && !local
		}
		if gone[key] {
			return true
		}
	}
	return false
}

// udpChanges looks for changes that can leave a flow with the wrong endpoint:
// one lost an endpoint or went away, or got its first one (until then datagrams
// may have passed untranslated). It adds the Frontends that went to gone.
func udpChanges(changes []change, gone map[proxy.Key]bool) bool {
	found := false
	for _, c := range changes {
		switch {
		case c.any().Protocol != snapshot.UDP:
		case c.new == nil:
			gone[c.old.Key] = true
			found = true
		case c.old == nil || len(c.old.Cluster) == 0, lost(c.old.Cluster, c.new.Cluster), lost(c.old.Local, c.new.Local):
			found = true
		}
	}
	return found
}

// lost tells whether an endpoint of old is not in now.
func lost(old, now []netip.AddrPort) bool {
	return slices.ContainsFunc(old, func(ep netip.AddrPort) bool {
		_, ok := find(now, ep)
		return !ok
	})
}

// flowFilter deletes the flows that it matches.
type flowFilter func(flow) bool

// MatchConntrackFlow implements netlink.CustomConntrackFilter.
func (match flowFilter) MatchConntrackFlow(f *netlink.ConntrackFlow) bool {
	if f.Forward.Protocol != unix.IPPROTO_UDP {
		return false
	}
	return match(flow{addrPort(f.Forward.DstIP, f.Forward.DstPort), addrPort(f.Reverse.SrcIP, f.Reverse.SrcPort)})
}

func addrPort(ip net.IP, port uint16) netip.AddrPort {
	a, _ := netip.AddrFromSlice(ip)
	return netip.AddrPortFrom(a.Unmap(), port)
}

// deleteFlows removes from the kernel's connection tracking what match says,
// in both families, and returns how many. ns is a network namespace; 0 is ours.
func deleteFlows(ns int, match func(flow) bool) (int, error) {
	var h *netlink.Handle
	var err error
	if ns == 0 {
		h, err = netlink.NewHandle(unix.NETLINK_NETFILTER)
	} else {
		h, err = netlink.NewHandleAt(netns.NsHandle(ns), unix.NETLINK_NETFILTER)
	}
	if err != nil {
		return 0, fmt.Errorf("open a netlink socket: %w", err)
	}
	defer h.Close()
	total := 0
	for _, f := range []netlink.InetFamily{unix.AF_INET, unix.AF_INET6} {
		var err error = netlink.ErrDumpInterrupted // on a busy node the table changes while it is read
		for tries := 0; tries < 5 && errors.Is(err, netlink.ErrDumpInterrupted); tries++ {
			var n uint
			n, err = h.ConntrackDeleteFilters(netlink.ConntrackTable, f, flowFilter(match))
			total += int(n)
		}
		if err != nil {
			return total, fmt.Errorf("delete UDP flows: %w", explain(err))
		}
	}
	return total, nil
}
