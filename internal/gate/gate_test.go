package gate

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/fairlead/fairlead/internal/test/nstest"
)

// world is a node, another node and a pod, each on a link of its own to the node, and
// who listens on the node's ports.
type world struct {
	node, other, pod nstest.Space
	gate             *Gate
}

const members, session = 7947, 179

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{node: nstest.New(t, "node"), other: nstest.New(t, "other"), pod: nstest.New(t, "pod")}
	nstest.Wire(t, w.node, w.other, "198.18.0.1/24", "198.18.0.2/24")
	for _, args := range [][]string{
		{"ip", "link", "add", "pod0", "type", "veth", "peer", "name", "eth0", "netns", w.pod.Name},
		{"ip", "addr", "add", "198.18.1.1/24", "dev", "pod0"}, {"ip", "link", "set", "pod0", "up"},
		{"ip", "addr", "add", "fd98::1/64", "dev", "eth0", "nodad"},
	} {
		w.node.Run(t, args...)
	}
	w.pod.Run(t, "ip", "addr", "add", "198.18.1.2/24", "dev", "eth0")
	w.pod.Run(t, "ip", "link", "set", "eth0", "up")
	w.pod.Run(t, "ip", "route", "add", "default", "via", "198.18.1.1")
	w.other.Run(t, "ip", "addr", "add", "fd98::2/64", "dev", "eth0", "nodad")
	for _, at := range []string{":7947", ":179"} {
		var l net.Listener
		w.node.Do(t, func() (err error) {
			l, err = net.Listen("tcp", at)
			return err
		})
		t.Cleanup(func() { _ = l.Close() })
	}
	w.gate = New(int(w.node.Handle))
	return w
}

// reaches reports whether from connects within a time.
func reaches(t *testing.T, from nstest.Space, to string, within time.Duration) bool {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	var err error
	from.Do(t, func() error {
		var c net.Conn
		if c, err = new(net.Dialer).DialContext(ctx, "tcp", to); err == nil {
			_ = c.Close()
		}
		return nil
	})
	return err == nil
}

const (
	soon  = 300 * time.Millisecond // for what must not come
	later = 30 * time.Second       // for what must
)

func addrs(texts ...string) (out []netip.Addr) {
	for _, s := range texts {
		out = append(out, netip.MustParseAddr(s))
	}
	return out
}

// Nodes reach the gossip and routers their ports. Others do not, and nothing else is
// kept from anybody.
func TestGate(t *testing.T) {
	w := newWorld(t)
	if !reaches(t, w.pod, "198.18.1.1:7947", later) {
		t.Fatal("without the gate, the pod does not reach the node")
	}
	wants := Wants{Members: members, Nodes: addrs("198.18.0.1", "198.18.0.2", "198.18.1.1", "fd98::1", "fd98::2"),
		BFD: []uint16{3784}, Sessions: []uint16{session}, Peers: addrs("198.18.0.2")}
	if err := w.gate.Sync(wants); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		from  nstest.Space
		to    string
		let   bool
		which string
	}{
		{w.other, "198.18.0.1:7947", true, "the other node, the gossip"},
		{w.other, "[fd98::1]:7947", true, "the other node, the gossip by IPv6"},
		{w.other, "198.18.0.1:179", true, "the router, BGP"},
		{w.other, "[fd98::1]:179", false, "an address of no router, BGP"},
		{w.pod, "198.18.1.1:7947", false, "the pod, the gossip"},
		{w.pod, "198.18.0.1:7947", false, "the pod, the gossip at another address of the node"},
		{w.pod, "198.18.0.1:179", false, "the pod, BGP"},
		{w.node, "198.18.0.1:7947", true, "the node itself"},
	} {
		within := later
		if !c.let {
			within = soon
		}
		if got := reaches(t, c.from, c.to, within); got != c.let {
			t.Errorf("%s: reaches it: %t", c.which, got)
		}
	}
	if err := w.gate.Cleanup(); err != nil {
		t.Fatal(err)
	}
	if !reaches(t, w.pod, "198.18.0.1:7947", later) {
		t.Error("after Cleanup, the pod does not reach the node")
	}
	if err := w.gate.Cleanup(); err != nil {
		t.Errorf("Cleanup of nothing: %v", err)
	}
}

// A masqueraded connection of a pod or of a client may have a port of ours as its source:
// its answers come from anywhere, and pass. What opens nothing does not.
func TestAnswersPass(t *testing.T) {
	w := newWorld(t)
	if err := w.gate.Sync(Wants{Members: members, Nodes: addrs("198.18.0.1", "198.18.0.3"),
		BFD: []uint16{3784}, Sessions: []uint16{1790}, Peers: addrs("198.18.0.4")}); err != nil {
		t.Fatal(err)
	}
	w.node.Run(t, "sysctl", "-qw", "net.ipv4.ip_forward=1")
	w.node.Run(t, "nft", "add table ip masquerading; add chain ip masquerading out { type nat hook postrouting priority srcnat; }")
	w.other.Serve(t, "198.18.0.2:80", func(c net.Conn) { _, _ = c.Write([]byte("answer")) })
	w.other.Do(t, func() error {
		udp, err := net.ListenPacket("udp", "198.18.0.2:80")
		if err != nil {
			return err
		}
		t.Cleanup(func() { _ = udp.Close() })
		go func() {
			for buf := make([]byte, 64); ; {
				_, from, err := udp.ReadFrom(buf)
				if err != nil {
					return
				}
				_, _ = udp.WriteTo([]byte("answer"), from)
			}
		}()
		return nil
	})
	for _, c := range []struct {
		proto string
		port  int // that the masquerading chooses
	}{{"tcp", members}, {"udp", members}, {"udp", 3784}, {"tcp", 1790}} {
		w.node.Run(t, "nft", fmt.Sprintf("flush chain ip masquerading out; add rule ip masquerading out ip saddr 198.18.1.2 %s dport 80 snat to 198.18.0.1:%d", c.proto, c.port))
		w.pod.Do(t, func() error {
			conn, err := net.DialTimeout(c.proto, "198.18.0.2:80", later)
			if err != nil {
				t.Errorf("%s from port %d: %v", c.proto, c.port, err)
				return nil
			}
			defer func() { _ = conn.Close() }()
			_ = conn.SetDeadline(time.Now().Add(later))
			buf := make([]byte, 64)
			if _, err = conn.Write([]byte("question")); err == nil {
				_, err = conn.Read(buf)
			}
			if err != nil {
				t.Errorf("%s from port %d: %v", c.proto, c.port, err)
			}
			return nil
		})
	}
}

// What is there already is not written again. What somebody else changed is.
func TestSyncRepairs(t *testing.T) {
	w := newWorld(t)
	wants := Wants{Members: members, Nodes: addrs("198.18.0.1", "198.18.0.2")}
	handle := func() string {
		return w.node.Run(t, "nft", "-a", "list", "table", "inet", Table)
	}
	sync := func() {
		t.Helper()
		if err := w.gate.Sync(wants); err != nil {
			t.Fatal(err)
		}
	}
	sync()
	first := handle()
	if sync(); handle() != first {
		t.Error("the same was written again")
	}
	w.node.Run(t, "nft", "flush", "chain", "inet", Table, "prerouting")
	if sync(); !strings.Contains(handle(), "@nodes4") {
		t.Error("the rules that somebody removed stay away")
	}
	w.node.Run(t, "nft", "delete", "table", "inet", Table)
	if sync(); !strings.Contains(handle(), "@nodes4") {
		t.Error("the table that somebody removed stays away")
	}
	wants.Nodes = addrs("198.18.0.1", "198.18.0.3")
	if sync(); !strings.Contains(handle(), "198.18.0.3") || strings.Contains(handle(), "198.18.0.2") {
		t.Errorf("another node is not taken in:\n%s", handle())
	}
}

// A flood of packets from a pod, and from the LAN, wakes nobody; one in a node's name
// is cut down to what a node may send.
func TestAttackByPackets(t *testing.T) {
	w := newWorld(t)
	var udp net.PacketConn
	w.node.Do(t, func() (err error) {
		udp, err = net.ListenPacket("udp", "198.18.0.1:7947")
		return err
	})
	got := make(chan map[string]int)
	go func() {
		from, buf := map[string]int{}, make([]byte, 64)
		for {
			_, at, err := udp.ReadFrom(buf)
			if err != nil {
				got <- from
				return
			}
			if a, ok := at.(*net.UDPAddr); ok {
				from[a.IP.String()]++
			}
		}
	}()
	if os.Getenv("FAIRLEAD_ATTACKS") != "before" {
		if err := w.gate.Sync(Wants{Members: members, Nodes: addrs("198.18.0.1", "198.18.0.2")}); err != nil {
			t.Fatal(err)
		}
	}
	const packets = 50000
	began := time.Now()
	for _, from := range []nstest.Space{w.pod, w.other} {
		from.Do(t, func() error {
			c, err := net.Dial("udp", "198.18.0.1:7947")
			if err != nil {
				return err
			}
			defer func() { _ = c.Close() }()
			for range packets {
				_, _ = c.Write(make([]byte, 40))
			}
			return nil
		})
	}
	took := time.Since(began)
	_ = udp.Close()
	seen := <-got
	t.Logf("attack: %d packets each in %s: %d of the pod's and %d in the node's name arrive", packets, took.Round(time.Millisecond), seen["198.18.1.2"], seen["198.18.0.2"])
	if seen["198.18.1.2"] != 0 {
		t.Error("the pod's packets arrive")
	}
	if os.Getenv("FAIRLEAD_ATTACKS") != "before" {
		// Every packet of the pod's had to be told from an answer, and is not remembered for that.
		if out := strings.TrimSpace(w.node.Run(t, "sysctl", "-n", "net.netfilter.nf_conntrack_count")); len(out) > 2 {
			t.Errorf("%s connections are tracked", out)
		}
	}
	if most := burst + perSecond*int(took.Seconds()+2); seen["198.18.0.2"] == 0 || seen["198.18.0.2"] > most {
		t.Errorf("%d of the node's packets arrive, at most %d may", seen["198.18.0.2"], most)
	}
}
