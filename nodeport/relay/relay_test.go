package relay_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/internal/test/nstest"
	"github.com/fairlead/fairlead/nodeport"
	"github.com/fairlead/fairlead/nodeport/relay"
	"github.com/fairlead/fairlead/proxy"
	nftables "github.com/fairlead/fairlead/proxy/nftables/netlink"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	web      = snapshot.Ref{Namespace: "shop", Name: "web"}
	loopback = netip.MustParseAddrPort("127.0.0.1:30080")
	ofNode   = netip.MustParseAddr("198.18.0.1")
)

// node is a node with a client on its network.
type node struct {
	nstest.Space
	client nstest.Space
	relays *relay.Relays
}

// newHost is a node without rules, and a client on its network.
func newHost(t *testing.T) node {
	t.Helper()
	n := node{Space: nstest.New(t, "node"), client: nstest.New(t, "client"), relays: relay.New(slog.New(slog.DiscardHandler))}
	t.Cleanup(n.relays.Close)
	n.relays.Dial = func(ctx context.Context, network, address string) (conn net.Conn, err error) {
		err = n.In(func() error {
			conn, err = (&net.Dialer{Timeout: time.Minute}).DialContext(ctx, network, address)
			return err
		})
		return conn, err
	}
	nstest.Wire(t, n.Space, n.client, ofNode.String()+"/24", "198.18.0.2/24")
	return n
}

// newNode is a node with a pod that answers, and fairlead's rules for node port 30080.
func newNode(t *testing.T) node {
	t.Helper()
	n := newHost(t)
	pod := nstest.New(t, "pod")
	n.Run(t, "ip", "link", "add", "p0", "type", "veth", "peer", "name", "eth0", "netns", pod.Name)
	n.Run(t, "ip", "addr", "add", "198.18.2.1/24", "dev", "p0")
	n.Run(t, "ip", "link", "set", "p0", "up")
	pod.Run(t, "ip", "addr", "add", "198.18.2.2/24", "dev", "eth0")
	pod.Run(t, "ip", "link", "set", "eth0", "up")
	pod.Run(t, "ip", "route", "add", "default", "via", "198.18.2.1")
	n.Run(t, "sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv4.conf.all.route_localnet=0")
	echo(t, pod, "198.18.2.2:8080")
	engine := nftables.New(nftables.Options{Netns: int(n.Handle), Log: slog.New(slog.DiscardHandler)})
	t.Cleanup(func() { engine.Close() })
	table := &proxy.Table{NodePortAddrs: []netip.Addr{ofNode}, Frontends: []*proxy.Frontend{{
		Key:     proxy.Key{Kind: proxy.NodePort, Family: snapshot.IPv4, Protocol: snapshot.TCP, Port: 30080},
		Cluster: []netip.AddrPort{netip.MustParseAddrPort("198.18.2.2:8080")},
	}}}
	if _, err := engine.Sync(t.Context(), table); err != nil {
		t.Fatal(err)
	}
	return n
}

// sync makes the relays those of the node ports; there is 30080 or none.
func (n node) sync(t *testing.T, there bool) (problems []snapshot.Problem) {
	t.Helper()
	var want []nodeport.Relay
	if there {
		want = []nodeport.Relay{{Service: web, At: loopback, To: ofNode}}
	}
	n.Do(t, func() error { problems = n.relays.Sync(t.Context(), want); return nil })
	return problems
}

// echo sends back what comes, until the end of it, and then "end".
func echo(t *testing.T, space nstest.Space, at string) {
	t.Helper()
	space.Serve(t, at, func(c net.Conn) {
		if _, err := io.Copy(c, c); err == nil {
			_, _ = c.Write([]byte("end"))
		}
	})
}

// dial connects from a space to the node port at 127.0.0.1.
func dial(t *testing.T, from nstest.Space, patience time.Duration) (conn net.Conn, err error) {
	t.Helper()
	from.Do(t, func() error {
		conn, err = (&net.Dialer{Timeout: patience}).DialContext(t.Context(), "tcp4", loopback.String())
		return nil
	})
	return conn, err
}

// A process of the node reaches a Service by its node port at 127.0.0.1, in both directions
// and up to the end of each. A connection outlives the port.
func TestRelay(t *testing.T) {
	n := newNode(t)
	if _, err := dial(t, n.Space, time.Minute); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Fatalf("without a relay: %v", err)
	}
	if problems := n.sync(t, true); problems != nil {
		t.Fatal(problems)
	}
	conn, err := dial(t, n.Space, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	if _, err := io.CopyN(conn, strings.NewReader("a"), 1); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(conn, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	n.sync(t, false)
	if _, err := dial(t, n.Space, time.Minute); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("after the port went: %v", err)
	}
	sent := bytes.Repeat([]byte("fairlead"), 1<<16)
	go func() {
		_, _ = conn.Write(sent)
		_ = conn.(*net.TCPConn).CloseWrite()
	}()
	got, err := io.ReadAll(conn)
	if err != nil || !bytes.Equal(got, append(sent, "end"...)) {
		t.Errorf("%d bytes came back, %v", len(got), err)
	}
}

// A port that a process of the node listens on is a Problem of the Service, until it is free.
func TestRelayOfATakenPort(t *testing.T) {
	n := newNode(t)
	var l net.Listener
	n.Do(t, func() (err error) { l, err = net.Listen("tcp4", loopback.String()); return err })
	problems := n.sync(t, true)
	if len(problems) != 1 || problems[0].Reason != nodeport.PortOccupied || !strings.Contains(problems[0].Message, "node port 30080/TCP does not answer at 127.0.0.1") {
		t.Errorf("got %v", problems)
	}
	l.Close()
	if problems := n.sync(t, true); problems != nil {
		t.Errorf("after it is free: %v", problems)
	}
}

// CVE-2020-8558: what listens at 127.0.0.1 of the node is not reached from its network, also
// while a node port answers there. With route_localnet it would be.
func TestOthersReachNoLoopback(t *testing.T) {
	n := newHost(t)
	n.sync(t, true)
	// The attacker has no loopback of its own, and a route to the node's.
	n.client.Run(t, "ip", "addr", "flush", "dev", "lo")
	n.client.Run(t, "sysctl", "-qw", "net.ipv4.conf.all.route_localnet=1")
	n.client.Run(t, "ip", "route", "add", "127.0.0.0/8", "via", ofNode.String(), "dev", "eth0", "src", "198.18.0.2")
	if conn, err := dial(t, n.client, 3*time.Second); err == nil {
		conn.Close()
		t.Error("a host of the network reached 127.0.0.1:30080 of the node")
	}
	n.Run(t, "sysctl", "-qw", "net.ipv4.conf.all.route_localnet=1")
	conn, err := dial(t, n.client, time.Minute)
	if err != nil {
		t.Fatalf("the test does not attack: with route_localnet %v", err)
	}
	conn.Close()
}
