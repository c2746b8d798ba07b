package host_test

import (
	"context"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/internal/cli/cluster"
	"github.com/fairlead/fairlead/internal/cli/doctor"
	"github.com/fairlead/fairlead/internal/cli/host"
	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/internal/test/nstest"
)

// A node in a network namespace of its own: what is wrong there is found, and
// nothing else.
func TestRead(t *testing.T) {
	ns := nstest.New(t, "node")
	ns.Run(t, "ip", "link", "add", "eth0", "type", "veth", "peer", "name", "peer0")
	ns.Run(t, "ip", "address", "add", "198.18.0.11/24", "dev", "eth0")
	ns.Run(t, "ip", "link", "set", "eth0", "up")
	ns.Run(t, "ip", "link", "set", "peer0", "up")
	nstest.Eventually(t, "eth0 to be up, which the kernel says later on a busy machine", func() bool {
		return strings.Contains(ns.Run(t, "ip", "link", "show", "eth0"), "state UP")
	})
	ns.Run(t, "sysctl", "-qw", "net.ipv4.ip_forward=0", "net.ipv4.conf.all.send_redirects=0", "net.ipv4.conf.eth0.send_redirects=0",
		"net.ipv4.conf.all.rp_filter=0", "net.ipv4.conf.eth0.rp_filter=1")
	ns.Run(t, "nft", "add table ip other; add chain ip other transit { type filter hook forward priority 0; policy drop; }")
	speaks := []snapshot.PeerState{{Name: "speaks", State: snapshot.PeerEstablished}}
	others := &cluster.State{Snapshot: &snapshot.Snapshot{Nodes: []*snapshot.Node{
		{Name: "node", Ready: true, InternalIPs: []netip.Addr{netip.MustParseAddr("198.18.0.11")}},
		{Name: "silent", Ready: true, InternalIPs: []netip.Addr{netip.MustParseAddr("198.18.0.12")}},
		{Name: "answers", Ready: true, InternalIPs: []netip.Addr{netip.MustParseAddr("198.18.0.11")}},
	}, NodeStates: []*snapshot.NodeState{{Electable: snapshot.Electable{Node: "node"}, Peers: speaks}}}, Peers: []cluster.Peer{
		{Name: "behind-firewall", Address: "198.18.0.12", Port: 179},
		{Name: "speaks", Address: "198.18.0.12", Port: 180},
		{Name: "refuses", Address: "198.18.0.11", Port: 179},
		{Name: "comes-itself", Address: "198.18.0.12"},
	}}
	ns.Run(t, "ip", "neigh", "add", "198.18.0.12", "lladdr", "02:00:5e:00:53:12", "dev", "eth0") // or it is unreachable at once
	ns.Run(t, "ip", "link", "set", "lo", "up")
	var h doctor.Host
	ns.Do(t, func() error {
		udp, err := net.ListenPacket("udp", ":3784")
		if err != nil {
			return err
		}
		defer udp.Close()
		h, err = host.Read(context.Background(), host.Options{Node: "node", Sysctls: "/proc/sys", Cluster: others})
		return err
	})
	var got []string
	for _, f := range doctor.Node(h) {
		if f.Code != doctor.StrictTracking { // the machine's own
			got = append(got, string(f.Code)+" "+f.Message)
		}
	}
	want := []string{
		"FL0401 net.ipv4.ip_forward is 0", "FL0402 the reverse path filter of eth0 is strict",
		"FL0409 port 3784/udp",
		"FL0410 198.18.0.12:179/tcp of BGP peer behind-firewall", "FL0410 198.18.0.12:7947/tcp of node silent", "FL0413 chain transit of table other",
	}
	if len(got) != len(want) {
		t.Fatalf("found\n%s", strings.Join(got, "\n"))
	}
	for i := range want {
		if !strings.HasPrefix(got[i], want[i]) {
			t.Errorf("found %s, want %s", got[i], want[i])
		}
	}
}
