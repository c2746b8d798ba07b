package ebpf

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/proxy"
	"github.com/fairlead/fairlead/proxy/dataplanetest"
)

// asClient makes the test program a client that does what its standard input
// says: a program has to be in a cgroup as a whole.
const asClient = "FAIRLEAD_TEST_CLIENT"

func TestMain(m *testing.M) {
	if os.Getenv(asClient) != "" {
		runClient()
		return
	}
	if args := os.Getenv(asAgent); args != "" {
		runAgent(args)
		return
	}
	if args, ok := dataplanetest.VictimArgs(); ok {
		serveVictim(args)
		return
	}
	os.Exit(m.Run())
}

// asAgent makes the test program an agent that changes a Service's endpoints until
// it is killed: "CGROUP PINS".
const asAgent = "FAIRLEAD_TEST_AGENT"

// killedTables are what such an agent changes between.
func killedTables() []*proxy.Table {
	return []*proxy.Table{
		{Frontends: []*proxy.Frontend{front("198.18.96.1", snapshot.TCP, 80, podA4), front("198.18.96.1", snapshot.UDP, 53, podA4)}},
		{Frontends: []*proxy.Frontend{front("198.18.96.1", snapshot.TCP, 80, podA4, podA4), front("198.18.96.2", snapshot.UDP, 53, podA4, podB4)}},
	}
}

func runAgent(args string) {
	cgroup, pins, _ := strings.Cut(args, " ")
	e := New(Options{Behind: dataplanetest.NewFake(), Cgroup: cgroup, Pins: pins})
	for i := 0; ; i++ {
		if _, err := e.Sync(context.Background(), killedTables()[i%2]); err != nil || !e.State().On {
			fmt.Println(err, e.State())
			os.Exit(1)
		}
		if i == 0 {
			fmt.Println("in sync")
		}
	}
}

// runClient obeys, a line each:
//
//	dial NAME NETWORK ADDRESS   open a connection
//	say NAME                    send a line on it and return the answer
//	peer NAME                   whom the socket says it is connected to
//	send NAME ADDRESS           send a datagram on a socket that is not connected, and return who answers what
//	flood NETWORK ADDRESS TIMES dial, ask and close; returns how often each answered
//	close NAME
func runClient() {
	c := &client{conns: map[string]net.Conn{}, sockets: map[string]*net.UDPConn{}}
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		out, err := c.do(strings.Fields(in.Text()))
		if err != nil {
			out = "error: " + err.Error()
		}
		fmt.Println(strings.ReplaceAll(out, "\n", " "))
	}
}

type client struct {
	conns   map[string]net.Conn
	sockets map[string]*net.UDPConn
}

const answerIn = 5 * time.Second

func (c *client) do(args []string) (string, error) {
	switch name := args[1]; args[0] {
	case "dial":
		conn, err := net.DialTimeout(args[2], args[3], answerIn)
		if err == nil {
			c.conns[name] = conn
		}
		return "ok", err
	case "say":
		return say(c.conns[name])
	case "peer":
		return peerName(c.conns[name])
	case "send":
		return c.send(name, netip.MustParseAddrPort(args[2]))
	case "flood":
		return flood(args[1], args[2], args[3])
	case "close":
		return "ok", c.conns[name].Close()
	}
	return "", fmt.Errorf("what is %q", args)
}

func say(conn net.Conn) (string, error) {
	if err := conn.SetDeadline(time.Now().Add(answerIn)); err != nil {
		return "", err
	}
	if _, err := conn.Write([]byte("hello\n")); err != nil {
		return "", err
	}
	b := make([]byte, 100)
	n, err := conn.Read(b)
	return strings.TrimSpace(string(b[:n])), err
}

func (c *client) send(name string, to netip.AddrPort) (string, error) {
	s := c.sockets[name]
	if s == nil {
		var err error
		if s, err = net.ListenUDP("udp", nil); err != nil {
			return "", err
		}
		c.sockets[name] = s
	}
	if err := s.SetDeadline(time.Now().Add(answerIn)); err != nil {
		return "", err
	}
	if _, err := s.WriteToUDPAddrPort([]byte("hello\n"), to); err != nil {
		return "", err
	}
	b := make([]byte, 100)
	n, from, err := s.ReadFromUDPAddrPort(b)
	return fmt.Sprintf("%s from %s", strings.TrimSpace(string(b[:n])), netip.AddrPortFrom(from.Addr().Unmap(), from.Port())), err
}

func flood(network, address, times string) (string, error) {
	var n int
	if _, err := fmt.Sscan(times, &n); err != nil {
		return "", err
	}
	got := map[string]int{}
	for range n {
		conn, err := net.DialTimeout(network, address, answerIn)
		if err != nil {
			return "", err
		}
		who, err := say(conn)
		conn.Close()
		if err != nil {
			return "", err
		}
		got[who]++
	}
	return fmt.Sprint(got), nil
}
