package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

const netnsDir = "/run/netns"

// buildTopology makes the LAN, its hosts, and the network behind the router.
func (l *Lab) buildTopology(ctx context.Context) error {
	if err := refuseForeignRoutes(ctx); err != nil {
		return err
	}
	steps := []func(context.Context) error{l.buildLAN, l.joinMachine, l.buildControlPlane, l.buildRouter, l.buildExt, l.buildClient}
	for _, n := range l.nodes {
		steps = append(steps, func(ctx context.Context) error { return l.buildNodeLinks(ctx, n) })
	}
	for _, step := range steps {
		if err := step(ctx); err != nil {
			return fmt.Errorf("build topology: %w", err)
		}
	}
	return nil
}

// refuseForeignRoutes stops before the lab would hide somebody's network.
func refuseForeignRoutes(ctx context.Context) error {
	out, err := run(ctx, "ip", "route", "show", "root", "198.18.0.0/15")
	if err != nil {
		return err
	}
	if routes := strings.TrimSpace(string(out)); routes != "" {
		return fmt.Errorf("the lab needs 198.18.0.0/15, but this machine already routes it: %s", routes)
	}
	return nil
}

func (l *Lab) buildLAN(ctx context.Context) error {
	if err := addNetns(ctx, lanNamespace); err != nil {
		return err
	}
	// A port with IPv6 asks for routers, and a node that is to hear nobody hears that.
	if err := sysctl(ctx, lanNamespace, "net.ipv6.conf.all.disable_ipv6=1", "net.ipv6.conf.default.disable_ipv6=1"); err != nil {
		return err
	}
	return ipBatch(ctx, lanNamespace,
		"link add lan type bridge stp_state 0 forward_delay 0 mcast_snooping 0",
		"link set lan up")
}

// joinMachine gives the machine itself an address on the LAN, so that kubectl
// and tests reach the API server without entering a namespace.
func (l *Lab) joinMachine(ctx context.Context) error {
	a := lanAddress(rootNumber)
	if err := ipBatch(ctx, "", "link add "+rootLink+" type veth peer name machine netns "+lanNamespace,
		"addr add "+a.v4+" dev "+rootLink,
		"addr add "+a.v6+" dev "+rootLink+" nodad",
		"link set "+rootLink+" up"); err != nil {
		return err
	}
	return ipBatch(ctx, lanNamespace, "link set machine master lan up")
}

// plug makes a host's namespace and its eth0 on the LAN.
func plug(ctx context.Context, host string, number int) error {
	netns := prefix + host
	if err := addNetns(ctx, netns); err != nil {
		return err
	}
	a := lanAddress(number)
	if err := ipBatch(ctx, netns,
		"link add eth0 address "+mac(number)+" type veth peer name "+host+" netns "+lanNamespace,
		"addr add "+a.v4+" dev eth0",
		"addr add "+a.v6+" dev eth0 nodad",
		"link set eth0 up"); err != nil {
		return err
	}
	return ipBatch(ctx, lanNamespace, "link set "+host+" master lan up")
}

func (l *Lab) buildControlPlane(ctx context.Context) error {
	if err := plug(ctx, ControlPlane, controlNumber); err != nil {
		return err
	}
	return ipBatch(ctx, prefix+ControlPlane, append(defaultRoutes(), l.podRoutes("")...)...)
}

func (l *Lab) buildClient(ctx context.Context) error {
	if err := plug(ctx, Client, clientNumber); err != nil {
		return err
	}
	return ipBatch(ctx, prefix+Client, defaultRoutes()...)
}

func (l *Lab) buildRouter(ctx context.Context) error {
	if err := plug(ctx, Router, routerNumber); err != nil {
		return err
	}
	if err := forward(ctx, prefix+Router); err != nil {
		return err
	}
	if l.cni() != nil {
		return nil
	}
	return ipBatch(ctx, prefix+Router, l.podRoutes("")...)
}

// buildExt makes the client behind the router, on a network of its own.
func (l *Lab) buildExt(ctx context.Context) error {
	if err := addNetns(ctx, prefix+Ext); err != nil {
		return err
	}
	router, client := extAddress(extRouterNumber), extAddress(extClientNumber)
	if err := ipBatch(ctx, prefix+Router,
		"link add eth1 type veth peer name eth0 netns "+prefix+Ext,
		"addr add "+router.v4+" dev eth1",
		"addr add "+router.v6+" dev eth1 nodad",
		"link set eth1 up"); err != nil {
		return err
	}
	return ipBatch(ctx, prefix+Ext,
		"addr add "+client.v4+" dev eth0",
		"addr add "+client.v6+" dev eth0 nodad",
		"link set eth0 up",
		"route add default via "+router.bare().v4,
		"route add default via "+router.bare().v6)
}

func (l *Lab) buildNodeLinks(ctx context.Context, n node) error {
	if err := plug(ctx, n.name, 10+n.index); err != nil {
		return err
	}
	if err := forward(ctx, n.netns()); err != nil {
		return err
	}
	routes := defaultRoutes()
	if l.cni() == nil {
		routes = append(routes, l.podRoutes(n.name)...)
	}
	return ipBatch(ctx, n.netns(), routes...)
}

func defaultRoutes() []string {
	r := lanAddress(routerNumber).bare()
	return []string{"route add default via " + r.v4, "route add default via " + r.v6}
}

// podRoutes lead to the pods of every node but except.
func (l *Lab) podRoutes(except string) []string {
	var routes []string
	for _, n := range l.nodes {
		if n.name == except {
			continue
		}
		via := n.lan().bare()
		routes = append(routes, "route add "+n.pods().v4+" via "+via.v4, "route add "+n.pods().v6+" via "+via.v6)
	}
	return routes
}

func addNetns(ctx context.Context, netns string) error {
	if _, err := run(ctx, "ip", "netns", "add", netns); err != nil {
		return err
	}
	if err := ipBatch(ctx, netns, "link set lo up"); err != nil {
		return err
	}
	// Namespaces may inherit these from the machine; the lab must not differ
	// from one machine to the next.
	return sysctl(ctx, netns, "net.ipv4.ip_forward=0", "net.ipv4.conf.all.rp_filter=0", "net.ipv4.conf.default.rp_filter=0")
}

func forward(ctx context.Context, netns string) error {
	return sysctl(ctx, netns, "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
}

func sysctl(ctx context.Context, netns string, settings ...string) error {
	args := append([]string{"--net=" + filepath.Join(netnsDir, netns), "sysctl", "-q", "-w"}, settings...)
	_, err := run(ctx, "nsenter", args...)
	return err
}

// ipBatch runs ip commands, in the machine's own namespace if netns is empty.
func ipBatch(ctx context.Context, netns string, commands ...string) error {
	args := []string{"-batch", "-"}
	if netns != "" {
		args = append([]string{"-n", netns}, args...)
	}
	_, err := runInput(ctx, strings.NewReader(strings.Join(commands, "\n")+"\n"), "ip", args...)
	return err
}

// removeTopology deletes the lab's namespaces and the machine's link to it.
// Links between namespaces go with the namespaces.
func removeTopology(ctx context.Context) error {
	var errs []error
	if _, err := os.Stat("/sys/class/net/" + rootLink); err == nil {
		_, err := run(ctx, "ip", "link", "del", rootLink)
		errs = append(errs, err)
	}
	found, err := filepath.Glob(filepath.Join(netnsDir, prefix+"*"))
	errs = append(errs, err)
	for _, path := range found {
		_, err := run(ctx, "ip", "netns", "del", filepath.Base(path))
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
