package doctor_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/internal/cli/doctor"
	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/internal/sysctl"
)

// sound is a node where nothing is wrong.
func sound() doctor.Host {
	link := func(name string, mtu int, prefixes ...string) doctor.HostLink {
		l := doctor.HostLink{Link: snapshot.Link{Name: name}, MTU: mtu}
		for _, p := range prefixes {
			l.Prefixes = append(l.Prefixes, netip.MustParsePrefix(p))
		}
		return l
	}
	return doctor.Host{
		Name:  "worker-1",
		Needs: sysctl.Node{Forwards: true, Announce: []string{"eth0"}, Addrs: []netip.Addr{netip.MustParseAddr("192.0.2.11"), netip.MustParseAddr("2001:db8::11")}},
		Settings: map[string]string{
			"net.ipv4.ip_forward": "1", "net.ipv6.conf.all.forwarding": "1",
			"net.ipv4.conf.all.send_redirects": "0", "net.ipv4.conf.eth0.send_redirects": "0",
			"net.ipv4.conf.all.rp_filter": "0", "net.ipv4.conf.eth0.rp_filter": "2", "net.ipv6.conf.eth0.accept_ra": "1",
			"net.netfilter.nf_conntrack_tcp_be_liberal": "1",
		},
		Links:   []doctor.HostLink{link("eth0", 1500, "192.0.2.11/24", "2001:db8::11/64"), link("eth1.100", 9000, "198.51.100.11/24")},
		Tracked: 10, TrackMax: 1000,
	}
}

// What is wrong with a node, one thing at a time.
func TestNode(t *testing.T) {
	for _, row := range []struct {
		name  string
		spoil func(*doctor.Host)
		want  string // code and a part of the message; "": nothing
	}{
		{"sound", func(*doctor.Host) {}, ""},
		{"ip_forward", func(h *doctor.Host) { h.Settings["net.ipv4.ip_forward"] = "0" }, "FL0401 net.ipv4.ip_forward is 0 and must be 1"},
		{"ip_forward with another proxy", func(h *doctor.Host) { h.Settings["net.ipv4.ip_forward"], h.Needs.Forwards = "0", false }, ""},
		{"rp_filter of a link", func(h *doctor.Host) { h.Settings["net.ipv4.conf.eth1/100.rp_filter"] = "1" }, "FL0402 the reverse path filter of eth1.100 is strict"},
		{"rp_filter of all, loose on eth0", func(h *doctor.Host) { h.Settings["net.ipv4.conf.all.rp_filter"] = "1" }, "FL0402 the reverse path filter of eth1.100 is strict"},
		{"bridge", func(h *doctor.Host) {
			h.Needs.Bridged = true
			h.Settings["net.bridge.bridge-nf-call-iptables"], h.Settings["net.bridge.bridge-nf-call-ip6tables"] = "1", "0"
		}, "FL0403 net.bridge.bridge-nf-call-ip6tables is 0 and must be 1"},
		{"no bridge module", func(h *doctor.Host) {
			h.Needs.Bridged, h.Settings["net.bridge.bridge-nf-call-ip6tables"] = true, "1"
		}, "FL0403 net.bridge.bridge-nf-call-iptables is unknown to the kernel"},
		{"send_redirects", func(h *doctor.Host) { h.Settings["net.ipv4.conf.eth0.send_redirects"] = "1" }, "FL0404 net.ipv4.conf.eth0.send_redirects is 1"},
		{"strict tracking", func(h *doctor.Host) { h.Settings["net.netfilter.nf_conntrack_tcp_be_liberal"] = "0" }, "FL0405 net.netfilter.nf_conntrack_tcp_be_liberal is 0"},
		{"no tracking module yet", func(h *doctor.Host) { delete(h.Settings, "net.netfilter.nf_conntrack_tcp_be_liberal") }, ""},
		{"accept_ra", func(h *doctor.Host) { h.Needs.Learns = true }, "FL0406 net.ipv6.conf.eth0.accept_ra is 1"},
		{"nftables", func(h *doctor.Host) { h.NFTables = "operation not permitted" }, "FL0407 the kernel does not take fairlead's tables: operation not permitted"},
		{"packet socket", func(h *doctor.Host) { h.Packet = "operation not permitted" }, "FL0408 no packet socket can be opened"},
		{"port", func(h *doctor.Host) { h.Taken = []doctor.Taken{{Port: "7947/udp", For: "gossip"}} }, "FL0409 port 7947/udp, which fairlead uses for gossip, is taken by another program"},
		{"firewall", func(h *doctor.Host) { h.Blocked = []string{"192.0.2.12:7947/tcp of node worker-2"} }, "FL0410 192.0.2.12:7947/tcp of node worker-2 does not answer at all"},
		{"MTU", func(h *doctor.Host) { h.Links[1].Prefixes = h.Links[0].Prefixes[:1] }, "FL0411 eth0 and eth1.100 are both in 192.0.2.0/24, with MTUs of 1500 and 9000"},
		{"tracking full", func(h *doctor.Host) { h.Tracked = 800 }, "FL0412 800 of 1000 connections are tracked"},
		{"other filters", func(h *doctor.Host) { h.Droppers = []string{"chain FORWARD of table ip filter"} }, "FL0413 chain FORWARD of table ip filter drops forwarded packets"},
	} {
		t.Run(row.name, func(t *testing.T) {
			h := sound()
			row.spoil(&h)
			var got []string
			for _, f := range doctor.Node(h) {
				got = append(got, string(f.Code)+" "+f.Message)
				if f.Next == "" || f.Object.Name != "worker-1" {
					t.Errorf("%s: without a next step or an object: %+v", f.Code, f)
				}
			}
			text := strings.Join(got, "\n")
			if row.want == "" && text != "" || !strings.HasPrefix(text, row.want) || strings.Contains(text, "\n") {
				t.Errorf("got %s\nwant %s", text, row.want)
			}
		})
	}
}
