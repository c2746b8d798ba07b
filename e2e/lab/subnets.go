package lab

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// SplitLAN puts each node in a subnet of its own, while it runs: its addresses are alone in
// their networks, the router has the way to all others, and the switch passes nothing on from
// one node to another. Other hosts of the LAN still reach the nodes directly. It is for the
// lab's own network of pods.
func (l *Lab) SplitLAN(ctx context.Context) error {
	var rules []string
	for _, n := range l.nodes {
		for _, other := range l.nodes {
			if other != n {
				rules = append(rules, fmt.Sprintf("iifname %q oifname %q", n.name, other.name))
			}
		}
	}
	// A router tells hosts of the same link of each other.
	err := sysctl(ctx, prefix+Router, "net.ipv4.conf.all.send_redirects=0", "net.ipv4.conf.eth0.send_redirects=0")
	return errors.Join(err, l.readdress(ctx, true), l.Cut(ctx, rules...))
}

// JoinLAN undoes SplitLAN. It is not an error if nothing was split.
func (l *Lab) JoinLAN(ctx context.Context) error {
	return errors.Join(l.Cut(ctx), l.readdress(ctx, false))
}

// readdress gives each node's addresses another length, with the routes that belong to it.
func (l *Lab) readdress(ctx context.Context, alone bool) error {
	var errs []error
	router := lanAddress(routerNumber).bare()
	for _, n := range l.nodes {
		was, a := n.lan(), n.lan().bare()
		now := address{a.v4 + "/32", a.v6 + "/128"}
		routes := []string{"route replace " + router.v4 + " dev eth0", "route replace " + router.v6 + " dev eth0"}
		for _, r := range l.podRoutes(n.name) {
			routes = append(routes, strings.Replace(r, "add", "del", 1))
		}
		if !alone {
			was, now = now, was
			routes = []string{"route del " + router.v4 + " dev eth0", "route del " + router.v6 + " dev eth0"}
			for _, r := range l.podRoutes(n.name) {
				routes = append(routes, strings.Replace(r, "add", "replace", 1))
			}
		}
		there, err := run(ctx, "ip", "-n", n.netns(), "-o", "addr", "show", "dev", "eth0")
		if err != nil || strings.Contains(string(there), now.v4+" ") {
			errs = append(errs, err)
			continue
		}
		// The kernel takes the same IPv6 address with another length for one that is there.
		errs = append(errs, ipBatch(ctx, n.netns(), append([]string{
			"addr add " + now.v4 + " dev eth0", "addr del " + was.v4 + " dev eth0",
			"addr del " + was.v6 + " dev eth0", "addr add " + now.v6 + " dev eth0 nodad",
		}, routes...)...))
	}
	return errors.Join(errs...)
}
