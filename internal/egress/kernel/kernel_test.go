package kernel

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/fairlead/fairlead/internal/egress"
	"github.com/fairlead/fairlead/internal/test/nstest"
)

// Connections of the Service's pods have its address, from every node and by every
// protocol. Those of other pods, and those that stay in the cluster, are as without it.
func TestSourceIsTheAddress(t *testing.T) {
	w := newWorld(t)
	w.sync(0, upper)
	for i := range w.nodes {
		for _, network := range []string{"tcp", "udp"} {
			w.sees(w.pods[i][0], network, host4, 0, vip4)
			w.sees(w.pods[i][0], network, host6, 0, vip6)
			w.sees(w.pods[i][1], network, host4, 0, node4(i))
			w.sees(w.pods[i][1], network, host6, 0, node6(i))
		}
		if out, err := w.pods[i][0].Try("ping", "-c1", "-W10", host4); err != nil {
			t.Errorf("ping from node %d: %v\n%s", i, err, out)
		}
	}
	// Between pods the source stays.
	var l net.Listener
	w.pods[1][1].Do(t, func() (err error) {
		l, err = net.Listen("tcp", ":"+port)
		return err
	})
	t.Cleanup(func() { _ = l.Close() })
	if _, err := w.dial(w.pods[2][0], "tcp", pod4(1, 1), 0, within); err != nil {
		t.Fatal(err)
	}
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if host, _, _ := net.SplitHostPort(c.RemoteAddr().String()); host != pod4(2, 0) {
		t.Errorf("a pod sees %s, want %s", host, pod4(2, 0))
	}
	_ = c.Close()
	counts, err := w.kernel[0].Counts()
	if err != nil || counts.Own < 12 || counts.Via != 0 || counts.Held != 0 {
		t.Errorf("the owner counts %+v, %v", counts, err)
	}
	if counts, err = w.kernel[1].Counts(); err != nil || counts.Via < 4 || counts.Own != 0 {
		t.Errorf("a pod's node counts %+v, %v", counts, err)
	}
}

// The source's port is one of the range, and the pod's own where that is possible.
func TestPortsOfServicesAreAvoided(t *testing.T) {
	w := newWorld(t)
	low := egress.Ports{First: 1024, Last: 32767}
	w.sync(0, low)
	for i := range 2 {
		if _, got := w.sees(w.pods[i][0], "tcp", host4, 45000, vip4); got < low.First || got > low.Last {
			t.Errorf("node %d: the source port is %d", i, got)
		}
		if _, got := w.sees(w.pods[i][0], "udp", host6, 45000, vip6); got < low.First || got > low.Last {
			t.Errorf("node %d: the source port of UDP is %d", i, got)
		}
	}
	if _, got := w.sees(w.pods[0][0], "tcp", host4, 5060, vip4); got != 5060 {
		t.Errorf("port 5060 became %d", got)
	}
	if _, got := w.sees(w.pods[1][0], "tcp", host4, 5060, vip4); got == 5060 || got < low.First {
		t.Errorf("a second connection from port 5060 has port %d", got)
	}
}

// When the owner changes, connections of before end with a reset, datagrams go by the
// new owner, and so do new connections. That holds for the pods of the owners too.
func TestOwnerMoves(t *testing.T) {
	w := newWorld(t)
	w.sync(0, upper)
	var streams, flows []net.Conn
	for i := range w.nodes {
		c, _ := w.sees(w.pods[i][0], "tcp", host4, 0, vip4)
		u, _ := w.sees(w.pods[i][0], "udp", host4, 40000, vip4)
		streams, flows = append(streams, c), append(flows, u)
	}
	kept, _ := w.sees(w.pods[1][1], "tcp", host4, 0, node4(1))
	w.owner(2)
	w.sync(2, upper)
	for i := range w.nodes {
		if got, err := ask(streams[i], within); err == nil {
			t.Errorf("node %d: a connection lives on, from %s", i, got)
		} else if errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("node %d: a connection hangs: %v", i, err)
		}
		w.sees(w.pods[i][0], "tcp", host4, 0, vip4)
		w.sees(w.pods[i][0], "tcp", host6, 0, vip6)
		nstest.Eventually(t, fmt.Sprintf("node %d: datagrams go by the new owner", i), func() bool {
			got, err := ask(flows[i], time.Second)
			return err == nil && got.Addr().String() == vip4
		})
	}
	if _, err := ask(kept, within); err != nil {
		t.Errorf("a connection of another pod: %v", err)
	}
}

// Without an owner, nothing of the pods leaves by any way. What waits is served once
// there is an owner.
func TestHeld(t *testing.T) {
	w := newWorld(t)
	w.router.Pipe(t, `table inet seen { counter pods { }; chain c { type filter hook prerouting priority -300; iifname "eth0" tcp dport 7000 counter name pods; }; }`, "nft", "-f", "-")
	w.sync(-1, upper)
	if _, err := w.dial(w.pods[1][0], "tcp", host4, 0, time.Second); err == nil {
		t.Error("a pod connects without an owner")
	}
	if _, err := w.dial(w.pods[1][0], "tcp", host6, 0, time.Second); err == nil {
		t.Error("a pod connects without an owner, by IPv6")
	}
	if out := w.router.Run(t, "nft", "list", "counter", "inet", "seen", "pods"); !strings.Contains(out, "packets 0 ") {
		t.Errorf("packets of the pods left:\n%s", out)
	}
	if counts, err := w.kernel[1].Counts(); err != nil || counts.Held == 0 {
		t.Errorf("held: %+v, %v", counts, err)
	}
	w.sees(w.pods[1][1], "tcp", host4, 0, node4(1))
	done := make(chan error, 1)
	go func() {
		_, err := w.dial(w.pods[1][0], "tcp", host4, 0, within)
		done <- err
	}()
	w.sync(0, upper)
	if err := <-done; err != nil {
		t.Errorf("a connection that waited: %v", err)
	}
}

// A pod that is not ready keeps its connections. It opens none with the address.
func TestUnready(t *testing.T) {
	w := newWorld(t)
	w.sync(0, upper)
	c, _ := w.sees(w.pods[1][0], "tcp", host4, 0, vip4)
	s := w.state(1, 0, upper)
	for i := range s.Pods {
		s.Pods[i].Opens = s.Pods[i].Way != egress.Via
	}
	if err := w.kernel[1].Sync(s); err != nil {
		t.Fatal(err)
	}
	if got, err := ask(c, within); err != nil || got.Addr().String() != vip4 {
		t.Errorf("an open connection: %s, %v", got, err)
	}
	w.sees(w.pods[1][0], "tcp", host4, 0, node4(1))
}

// Everything outlives the process. Another one takes it over and changes nothing.
func TestOutlivesTheProcess(t *testing.T) {
	w := newWorld(t)
	w.sync(0, upper)
	c, _ := w.sees(w.pods[1][0], "tcp", host4, 0, vip4)
	listing := func() string {
		return w.nodes[1].Run(t, "nft", "-a", "list", "ruleset") + w.nodes[1].Run(t, "ip", "rule") + w.nodes[1].Run(t, "ip", "-6", "rule")
	}
	first := listing()
	for i := range w.kernel {
		w.kernel[i] = New(int(w.nodes[i].Handle), 0x2000)
	}
	w.sync(0, upper)
	// The counters of the listing change with packets alone.
	if again := listing(); again != first {
		t.Errorf("a second process changed something:\n%s\nbefore:\n%s", again, first)
	}
	if _, err := ask(c, within); err != nil {
		t.Errorf("an open connection: %v", err)
	}
	w.nodes[1].Run(t, "nft", "flush", "chain", "ip", Table, chainMark)
	w.nodes[1].Run(t, "ip", "rule", "flush")
	w.nodes[1].Run(t, "ip", "rule", "add", "lookup", "main", "pref", "32766")
	w.sync(0, upper)
	w.sees(w.pods[1][0], "tcp", host4, 0, vip4)
}

// What nft lists it loads again: somebody may keep the listing as his configuration.
func TestListingLoads(t *testing.T) {
	w := newWorld(t)
	w.sync(0, upper)
	for _, n := range w.nodes[:2] {
		listed := n.Run(t, "nft", "list", "ruleset")
		nstest.New(t, "again").Pipe(t, listed, "nft", "-f", "-")
	}
}

// Cleanup leaves nothing. Pods leave with their node's address again.
func TestCleanup(t *testing.T) {
	w := newWorld(t)
	before := w.nodes[1].Run(t, "nft", "list", "ruleset") + w.nodes[1].Run(t, "ip", "rule") + w.nodes[1].Run(t, "ip", "-6", "rule")
	w.sync(0, upper)
	c, _ := w.sees(w.pods[1][0], "tcp", host4, 0, vip4)
	for range 2 {
		for i := range w.kernel {
			if err := New(int(w.nodes[i].Handle), 0x2000).Cleanup(); err != nil {
				t.Fatalf("node %d: %v", i, err)
			}
		}
	}
	if after := w.nodes[1].Run(t, "nft", "list", "ruleset") + w.nodes[1].Run(t, "ip", "rule") + w.nodes[1].Run(t, "ip", "-6", "rule"); after != before {
		t.Errorf("left:\n%s\nbefore:\n%s", after, before)
	}
	if routes := w.nodes[1].Run(t, "ip", "route", "list", "table", "all", "proto", "static"); routes != "" {
		t.Errorf("routes are left:\n%s", routes)
	}
	if got, err := ask(c, within); err == nil {
		t.Errorf("a connection lives on, from %s", got)
	}
	w.sees(w.pods[1][0], "tcp", host4, 0, node4(1))
}
