package forwarding

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/fairlead/fairlead/e2e/apiserver"
)

// The addresses. 198.18.0.0/15 is set aside for benchmarks by RFC 2544; here all
// of it is inside namespaces of our own.
const (
	nodeName  = "node"
	nodeLAN   = "198.18.0.11"
	clientLAN = "198.18.0.100"
	vip       = "198.18.3.1"
	podCIDR   = "198.18.128.0/17"
	nodeLink  = "198.18.127.1"
	podLink   = "198.18.127.2"
)

// The ports of every pod.
const (
	acceptPort = 8080 // takes connections
	namePort   = 8081 // says at which address it took the connection
)

var firstPod = netip.MustParseAddr("198.18.128.1")

// podAddress is the address of the i-th pod, counted from 0.
func podAddress(i int) netip.Addr {
	a := firstPod.As4()
	n := int(a[2])<<8 + int(a[3]) + i
	a[2], a[3] = byte(n>>8), byte(n)
	return netip.AddrFrom4(a)
}

// world is a client, a node, and all pods behind it: a namespace each. The pods'
// has every address of podCIDR, so that every endpoint is real.
type world struct {
	client, node, pods space
	servers            []*server
	api                net.Listener
}

func newWorld(ctx context.Context) (w *world, err error) {
	w = &world{}
	defer func() {
		if err != nil {
			err = errors.Join(err, w.remove(context.WithoutCancel(ctx)))
		}
	}()
	if err := removeStale(ctx); err != nil {
		return w, err
	}
	for s, name := range map[*space]string{&w.client: "client", &w.node: nodeName, &w.pods: "pods"} {
		if *s, err = newSpace(ctx, name); err != nil {
			return w, err
		}
	}
	if err := w.wire(ctx); err != nil {
		return w, err
	}
	for _, serve := range []struct {
		port   int
		answer bool
	}{{acceptPort, false}, {namePort, true}} {
		s, err := startServer(w.pods, serve.port, serve.answer)
		if err != nil {
			return w, err
		}
		w.servers = append(w.servers, s)
	}
	return w, nil
}

func (w *world) wire(ctx context.Context) error {
	return errors.Join(
		w.node.sysctl(ctx, "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1",
			"net.ipv4.conf.all.rp_filter=0", "net.ipv4.conf.default.rp_filter=0",
			"net.netfilter.nf_conntrack_tcp_timeout_close=1"), // else a run is slowed by what an earlier one left
		w.node.ip(ctx,
			"link add eth0 type veth peer name eth0 netns "+w.client.name,
			"link add pods type veth peer name eth0 netns "+w.pods.name,
			"addr add "+nodeLAN+"/24 dev eth0", "addr add "+nodeLink+"/30 dev pods",
			"link set eth0 up", "link set pods up",
			"route add "+podCIDR+" via "+podLink),
		w.client.ip(ctx, "addr add "+clientLAN+"/24 dev eth0", "link set eth0 up", "route add default via "+nodeLAN),
		w.pods.ip(ctx, "addr add "+podLink+"/30 dev eth0", "link set eth0 up", "route add default via "+nodeLink, "route add local "+podCIDR+" dev lo"),
	)
}

// bringAPI lets the node reach an API server that listens on the machine's
// loopback, at the same address.
func (w *world) bringAPI(ctx context.Context, address string) error {
	l, err := w.node.listen(ctx, address)
	if err != nil {
		return fmt.Errorf("API server in %s: %w", w.node.name, err)
	}
	w.api = l
	go apiserver.Pass(l, address)
	return nil
}

func (w *world) remove(ctx context.Context) error {
	var errs []error
	if w.api != nil {
		errs = append(errs, w.api.Close())
	}
	for _, s := range w.servers {
		s.stop()
	}
	for _, s := range []space{w.client, w.node, w.pods} {
		if s.name != "" {
			errs = append(errs, s.remove(ctx))
		}
	}
	return errors.Join(errs...)
}
