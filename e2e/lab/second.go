package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// The hosts of the second network.
const (
	Router2 = "router2" // on the second network, with the way to Ext2
	Ext2    = "ext2"    // a client behind Router2
)

// The addresses of the second network, and of the one behind its router.
const (
	secondIPv4, secondIPv6 = "198.18.3.%d", "fd98:18:3::%x"
	ext2IPv4, ext2IPv6     = "198.18.5.%d", "fd98:18:5::%x"
)

// AddSecondNetwork gives each node an eth1, in a network that has a router of its own and a
// client behind that. The nodes' default routes still lead to Router, which does not know
// the way to that client; by eth1 they have one that the kernel does not prefer.
func (l *Lab) AddSecondNetwork(ctx context.Context) error {
	for _, host := range []string{Router2, Ext2} {
		if err := addNetns(ctx, prefix+host); err != nil {
			return err
		}
	}
	if err := forward(ctx, prefix+Router2); err != nil {
		return err
	}
	at := func(format string, number int, bits string) string { return fmt.Sprintf(format, number) + bits }
	routers := []string{at(secondIPv4, routerNumber, ""), at(secondIPv6, routerNumber, "")}
	err := errors.Join(
		ipBatch(ctx, prefix+Router2,
			"link add lan2 type bridge stp_state 0 forward_delay 0 mcast_snooping 0",
			"addr add "+routers[0]+"/24 dev lan2", "addr add "+routers[1]+"/64 dev lan2 nodad", "link set lan2 up",
			"link add ext type veth peer name eth0 netns "+prefix+Ext2,
			"addr add "+at(ext2IPv4, 1, "/24")+" dev ext", "addr add "+at(ext2IPv6, 1, "/64")+" dev ext nodad", "link set ext up"),
		ipBatch(ctx, prefix+Ext2,
			"addr add "+at(ext2IPv4, 2, "/24")+" dev eth0", "addr add "+at(ext2IPv6, 2, "/64")+" dev eth0 nodad", "link set eth0 up",
			"route add default via "+at(ext2IPv4, 1, ""), "route add default via "+at(ext2IPv6, 1, "")))
	for _, n := range l.nodes {
		err = errors.Join(err,
			ipBatch(ctx, n.netns(),
				"link add eth1 type veth peer name "+n.name+" netns "+prefix+Router2,
				"addr add "+at(secondIPv4, 10+n.index, "/24")+" dev eth1", "addr add "+at(secondIPv6, 10+n.index, "/64")+" dev eth1 nodad", "link set eth1 up",
				"route add default via "+routers[0]+" dev eth1 metric 5000", "route add default via "+routers[1]+" dev eth1 metric 5000"),
			ipBatch(ctx, prefix+Router2, "link set "+n.name+" master lan2 up"))
	}
	return err
}

// RemoveSecondNetwork removes what AddSecondNetwork made. It is not an error if something of it
// is not there.
func (l *Lab) RemoveSecondNetwork(ctx context.Context) error {
	var errs []error
	for _, host := range []string{Ext2, Router2} {
		if _, err := os.Stat(filepath.Join(netnsDir, prefix+host)); err == nil {
			_, err := run(ctx, "ip", "netns", "del", prefix+host)
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
