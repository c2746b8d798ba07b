package redirect

import (
	"bufio"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/fairlead/fairlead/internal/test/nstest"
)

// Packets to an API server's address reach the node's own server: of the node's own
// programs, and of hosts that send them here. Without a renewal that ends, and so it does
// when the address is not to be redirected any more.
func TestRedirect(t *testing.T) {
	node, client := nstest.New(t, "node"), nstest.New(t, "client")
	node.Run(t, "ip", "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", client.Name)
	for number, s := range map[int]nstest.Space{1: node, 2: client} {
		s.Run(t, "ip", "addr", "add", fmt.Sprintf("198.18.0.%d/24", number), "dev", "eth0")
		s.Run(t, "ip", "addr", "add", fmt.Sprintf("fd98:18::%d/64", number), "dev", "eth0", "nodad")
		s.Run(t, "ip", "link", "set", "eth0", "up")
	}
	vips := []netip.AddrPort{netip.MustParseAddrPort("198.18.0.100:6443"), netip.MustParseAddrPort("[fd98:18::100]:6443")}
	client.Run(t, "ip", "route", "add", "198.18.0.100/32", "via", "198.18.0.1")
	client.Run(t, "ip", "-6", "route", "add", "fd98:18::100/128", "via", "fd98:18::1")
	serve(t, node, "198.18.0.1:6443")
	serve(t, node, "[fd98:18::1]:6443")
	want := []Redirect{{vips[0], netip.MustParseAddr("198.18.0.1")}, {vips[1], netip.MustParseAddr("fd98:18::1")}}
	r := New(int(node.Handle))
	reached := func(when string, should bool) {
		t.Helper()
		for _, vip := range vips {
			for name, s := range map[string]nstest.Space{"the node": node, "a client": client} {
				if err := ask(s, vip); (err == nil) != should {
					t.Errorf("%s: %s reaches %s: %v", when, name, vip, err)
				}
			}
		}
	}
	sync := func(want []Redirect) {
		t.Helper()
		if err := r.Sync(want); err != nil {
			t.Fatal(err)
		}
	}
	reached("before", false)
	sync(want)
	reached("redirected", true)
	sync(want)
	reached("renewed", true)
	node.Run(t, "nft", "flush", "table", "inet", Table)
	reached("with the rules flushed", false)
	sync(want)
	reached("repaired", true)
	sync(nil)
	reached("not any more", false)
	r.lifetime = time.Second
	sync(want)
	nstest.Eventually(t, "the redirects end by themselves", func() bool { return ask(node, vips[0]) != nil && ask(client, vips[1]) != nil })
	if err := r.Cleanup(); err != nil {
		t.Fatal(err)
	}
	if err := r.Cleanup(); err != nil {
		t.Fatal(err)
	}
	if text := node.Run(t, "nft", "list", "ruleset"); strings.Contains(text, Table) {
		t.Errorf("cleanup left %s", text)
	}
}

// While the redirects are renewed all the time, no connection fails.
func TestRenewalLosesNothing(t *testing.T) {
	node := nstest.New(t, "node")
	node.Run(t, "ip", "addr", "add", "198.18.0.1/32", "dev", "lo")
	node.Run(t, "ip", "route", "add", "198.18.0.100/32", "dev", "lo", "src", "198.18.0.1")
	serve(t, node, "198.18.0.1:6443")
	vip := netip.MustParseAddrPort("198.18.0.100:6443")
	want := []Redirect{{vip, netip.MustParseAddr("198.18.0.1")}}
	r := New(int(node.Handle))
	if err := r.Sync(want); err != nil {
		t.Fatal(err)
	}
	end := make(chan struct{})
	done := make(chan error, 1)
	renewals := 0
	go func() {
		for {
			select {
			case <-end:
				done <- nil
				return
			default:
			}
			if err := r.Sync(want); err != nil {
				done <- err
				return
			}
			renewals++
		}
	}()
	for i := range 500 {
		if err := ask(node, vip); err != nil {
			t.Errorf("connection %d: %v", i, err)
		}
	}
	close(end)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	t.Logf("%d renewals", renewals)
}

// serve answers every connection in s with a line.
func serve(t *testing.T, s nstest.Space, at string) {
	t.Helper()
	s.Serve(t, at, func(c net.Conn) { fmt.Fprintln(c, "hello") })
}

// ask connects from s and reads the answer.
func ask(s nstest.Space, at netip.AddrPort) error {
	return s.In(func() error {
		c, err := net.DialTimeout("tcp", at.String(), 300*time.Millisecond)
		if err != nil {
			return err
		}
		defer func() { _ = c.Close() }()
		_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
		_, err = bufio.NewReader(c).ReadString('\n')
		return err
	})
}
