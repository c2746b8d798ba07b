package kernel

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/internal/egress"
)

// endStale ends the connections whose source is not the one that s gives them. Otherwise
// the kernel keeps what it decided for the first packet: a datagram's flow would have the
// address of before as long as the pod sends. The kernel lists its connections for that,
// so it is done only when some pod's way has changed.
func (k *Kernel) endStale(s egress.State) error {
	now := map[string]bool{}
	sources := map[netip.Addr]netip.Addr{}
	for _, p := range s.Pods {
		now[fmt.Sprint(p.Addr, p.Way, p.VIP)] = true
		switch p.Way {
		case egress.Own:
			sources[p.Addr] = p.VIP
		case egress.Via:
			sources[p.Addr] = p.Addr
		case egress.Held:
			// Its packets are dropped anyway, and its owner may return.
			sources[p.Addr] = netip.Addr{}
		}
	}
	if k.flowsOf != nil && len(now) == len(k.flowsOf) && contains(k.flowsOf, now) {
		return nil
	}
	h, err := k.handle(unix.NETLINK_NETFILTER)
	if err != nil {
		return err
	}
	defer h.Close()
	var errs []error
	for _, family := range []netlink.InetFamily{unix.AF_INET, unix.AF_INET6} {
		if _, err := h.ConntrackDeleteFilters(netlink.ConntrackTable, family, stale{k.bit, sources}); err != nil {
			errs = append(errs, fmt.Errorf("end connections of before: %w", err))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	k.flowsOf = now
	return nil
}

func contains(all, some map[string]bool) bool {
	for s := range some {
		if !all[s] {
			return false
		}
	}
	return true
}

// stale are the connections that have the bit and another source than theirs.
type stale struct {
	bit     uint32
	sources map[netip.Addr]netip.Addr // by pod; the zero Addr: any
}

// MatchConntrackFlow implements netlink.CustomConntrackFilter.
func (s stale) MatchConntrackFlow(f *netlink.ConntrackFlow) bool {
	if f.Mark&s.bit == 0 {
		return false
	}
	pod, _ := netip.AddrFromSlice(f.Forward.SrcIP)
	source, _ := netip.AddrFromSlice(f.Reverse.DstIP)
	want, known := s.sources[pod.Unmap()]
	return !known || want.IsValid() && want != source.Unmap()
}
