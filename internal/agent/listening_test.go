package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/fairlead/fairlead/internal/node"
	"github.com/fairlead/fairlead/internal/reconcile"
	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/internal/test/nstest"
	"github.com/fairlead/fairlead/nodeport"
	"github.com/fairlead/fairlead/nodeport/socket"
	"github.com/fairlead/fairlead/proxy"
)

// A Service that has the node's own address gets no port on which a process listens, also
// at the first look. When the process ends, the Service has it. When nobody can say what
// listens, it has none.
func TestListening(t *testing.T) {
	ns := nstest.New(t, "node")
	ns.Run(t, "ip", "addr", "add", "198.51.100.1/32", "dev", "lo")
	web := snapshot.Ref{Namespace: "default", Name: "web"}
	s := &snapshot.Snapshot{NodeAddresses: []*snapshot.Address{{
		Addr: netip.MustParseAddr("198.51.100.1"), Node: "a", Holders: []snapshot.Holder{{
			Ref: web, UID: "u", Ports: []snapshot.HeldPort{{Protocol: snapshot.TCP, Port: 80}, {Protocol: snapshot.TCP, Port: 8080}, {Protocol: snapshot.UDP, Port: 53}},
		}},
	}}}
	self := &snapshot.Node{Name: "a", InternalIPs: []netip.Addr{netip.MustParseAddr("198.51.100.1")}}
	order := engineOrder{Program: node.Program{Snapshot: s, Self: self}}
	log := slog.New(slog.DiscardHandler)
	e := &engine{cfg: &Config{Log: log}, loop: reconcile.New("engine", log)}
	e.own.sockets = socket.Read
	look := func(want string, problems int) {
		t.Helper()
		var got string
		ns.Do(t, func() error { got = fmt.Sprint(e.own.ports(e, order)); return nil })
		if got != want || len(e.own.problems) != problems {
			t.Errorf("the node keeps %s and says %v, want %s and %d problems", got, e.own.problems, want, problems)
		}
	}
	var ssh, dns interface{ Close() error }
	ns.Do(t, func() (err error) {
		if ssh, err = (&net.ListenConfig{}).Listen(context.Background(), "tcp4", "0.0.0.0:8080"); err == nil {
			dns, err = (&net.ListenConfig{}).ListenPacket(context.Background(), "udp4", "127.0.0.1:53")
		}
		return err
	})
	defer dns.Close()
	look("[tcp 198.51.100.1:8080]", 1)
	ssh.Close()
	look("[tcp 198.51.100.1:8080]", 1) // for some seconds
	e.own.at = time.Time{}
	look("[]", 0)
	e.own.sockets = func() ([]nodeport.Socket, error) { return nil, errors.New("the kernel does not say") }
	e.own.at = time.Time{}
	look("[tcp 198.51.100.1:80 tcp 198.51.100.1:8080 udp 198.51.100.1:53]", 0)
	order.Snapshot = &snapshot.Snapshot{}
	look("[]", 0)
}

// A client reaches a Service at the node's own address, over TCP and UDP and in both
// families, and on no other port: what the node itself listens on stays its own, although
// a record gives the Service the port.
func TestOwnAddressOfTheNode(t *testing.T) {
	w := newTown(t)
	log := slog.New(slog.DiscardHandler)
	ports := []snapshot.Port{
		{Name: "a", Protocol: snapshot.TCP, Port: 80}, {Name: "b", Protocol: snapshot.UDP, Port: 80},
		{Name: "c", Protocol: snapshot.TCP, Port: 22}, {Name: "d", Protocol: snapshot.UDP, Port: 22},
	}
	web := &snapshot.Service{
		Ref: snapshot.Ref{Namespace: "default", Name: "web"}, UID: "u", Type: snapshot.LoadBalancer, Ports: ports,
		ClusterIPs: []netip.Addr{netip.MustParseAddr("198.19.0.1"), netip.MustParseAddr("fd98:19::1")},
	}
	self := &snapshot.Node{Name: "a", InternalIPs: townNode}
	s := &snapshot.Snapshot{Services: []*snapshot.Service{web}, Nodes: []*snapshot.Node{self}}
	held := snapshot.Holder{Ref: web.Ref, UID: "u", Pool: "edge"}
	for _, p := range ports {
		held.Ports = append(held.Ports, snapshot.HeldPort{Protocol: p.Protocol, Port: p.Port})
		for _, pod := range townService {
			web.Endpoints = append(web.Endpoints, snapshot.Endpoint{PortName: p.Name, Protocol: p.Protocol, Addr: netip.AddrPortFrom(pod, 8080), Ready: true, Serving: true})
		}
	}
	for _, own := range townNode {
		s.NodeAddresses = append(s.NodeAddresses, &snapshot.Address{Addr: own, Pool: "edge", Node: "a", Holders: []snapshot.Holder{held}})
	}
	s.Sort()
	e := &engine{cfg: &Config{Node: "a", Log: log}, loop: reconcile.New("engine", log), ways: func() []proxy.Way { return nil }}
	e.own.sockets = socket.Read
	w.node.Do(t, func() error {
		w.table = e.compile(engineOrder{Program: node.Program{Snapshot: s, Self: self, Own: townNode}})
		return nil
	})
	if _, err := w.engine.Sync(t.Context(), w.table); err != nil {
		t.Fatal(err)
	}
	for _, own := range townNode {
		for _, network := range []string{"tcp", "udp"} {
			for port, want := range map[uint16]string{80: "service", 22: "sshd", 81: "refused"} {
				if got := ask(w.client, network, netip.AddrPortFrom(own, port)); got != want {
					t.Errorf("%s to %s port %d is answered by %q, want %q", network, own, port, got, want)
				}
			}
		}
	}
	if len(e.own.problems) != 4 {
		t.Errorf("says %v, want a problem for each port that the node keeps", e.own.problems)
	}
}
