package sample

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/internal/traffic"
)

// Flows reads the kernel's connection table, of both families. On a busy node it
// changes while it is read; then some are missing.
func Flows() ([]traffic.Flow, error) {
	var out []traffic.Flow
	for _, family := range []netlink.InetFamily{unix.AF_INET, unix.AF_INET6} {
		list, err := netlink.ConntrackTableList(netlink.ConntrackTable, family)
		if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
			return nil, fmt.Errorf("read the connection table: %w", err)
		}
		for _, f := range list {
			from, ok := end(f.Forward.SrcIP, f.Forward.SrcPort)
			to, also := end(f.Forward.DstIP, f.Forward.DstPort)
			if ok && also {
				out = append(out, traffic.Flow{Protocol: f.Forward.Protocol, From: from, To: to, Bytes: f.Forward.Bytes + f.Reverse.Bytes})
			}
		}
	}
	return out, nil
}

func end(ip net.IP, port uint16) (netip.AddrPort, bool) {
	a, ok := netip.AddrFromSlice(ip)
	return netip.AddrPortFrom(a.Unmap(), port), ok
}
