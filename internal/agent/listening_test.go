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
