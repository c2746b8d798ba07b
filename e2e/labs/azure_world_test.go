package labs

import (
	"fmt"
	"strings"
	"testing"
)

// TestAzure: on a fabric that delivers by address and carries no ARP, each of the
// variants ends in the client's curl of the EXTERNAL-IP, and the loss of a node in
// another one.
func TestAzure(t *testing.T) {
	for _, row := range []struct {
		variant string
		story   func(*testing.T, *cluster, string)
	}{{"overlay-l2", overARP}, {"overlay-bgp", overBGP}, {"route-server", overRouteServer}} {
		t.Run(row.variant, func(t *testing.T) {
			machines, routes := azure(t, row.variant)
			overlay := row.variant != "route-server"
			if overlay {
				machines = append(machines, peer(machines))
			}
			w := newWorld(t, root(t), machines)
			f := w.fabric(routes)
			if !overlay {
				w.routeServers(f)
			}
			w.provision()
			w.carriesNoARP()
			c := newCluster(t, w)
			c.tell()
			out, err := c.script("client", "client.sh")
			must(t, err)
			wantAll(t, "client", out, 3)
			row.story(t, c, machines[0].setting["URL"])
		})
	}
}

// overARP: the address is where ARP on the overlay says, and moves with its owner's
// loss, for who is on the overlay and for who comes through the router.
func overARP(t *testing.T, c *cluster, url string) {
	wantAll(t, "peer", c.asks("peer", url), 3)
	owner := c.owner("peer", "lan0", vipOf(url))
	if same := c.owner("router", "lan0", vipOf(url)); same != owner {
		t.Errorf("the router finds %s at %s, the peer at %s", vipOf(url), same, owner)
	}
	c.survives(owner, url, "client", "peer")
}

// overBGP: FRR on the router VM has the three nodes as next hops.
func overBGP(t *testing.T, c *cluster, url string) {
	c.sessions("router")
	c.has("router", `(?s)`+vipOf(url)+`.*nexthop.*nexthop.*nexthop`, "ip", "route", "show", vipOf(url))
	c.survives("node2", url, "client")
}

// overRouteServer: the fabric itself has them.
func overRouteServer(t *testing.T, c *cluster, url string) {
	c.sessions("fabric")
	c.sessions("route-server-2")
	c.has("fabric", `(?s)`+vipOf(url)+`.*nexthop.*nexthop.*nexthop`, "ip", "route", "show", vipOf(url))
	c.survives("node2", url, "client")
}

// peer is one more machine on the overlay that is no node: what somebody would add
// who has clients there. The others are told of it.
func peer(machines []machine) machine {
	like := machines[len(machines)-1] // the router
	at := map[string]string{}
	p := machine{name: "peer", files: map[string]string{}, runs: []string{"/usr/local/lib/fairlead-lab/overlay.sh"}, setting: at}
	underlay := like.setting["UNDERLAY"][:strings.LastIndex(like.setting["UNDERLAY"], ".")] + ".30"
	lan := like.setting["OVERLAY"][:strings.LastIndex(like.setting["OVERLAY"], ".")] + ".30/24"
	peers := like.setting["PEERS"] + " " + underlay
	at["UNDERLAY"], at["OVERLAY"], at["PEERS"] = underlay, lan, peers
	p.cards = []card{{"fabric", underlay + "/24"}}
	p.files["/usr/local/lib/fairlead-lab/overlay.sh"] = like.files["/usr/local/lib/fairlead-lab/overlay.sh"]
	p.files["/etc/fairlead-lab.env"] = fmt.Sprintf("UNDERLAY='%s'\nOVERLAY='%s'\nPEERS='%s'\n", underlay, lan, peers)
	for _, m := range machines {
		m.files["/etc/fairlead-lab.env"] += fmt.Sprintf("PEERS='%s'\n", peers) // the last one counts
	}
	return p
}

// carriesNoARP checks what the labs are about: an address that a machine takes for
// itself, as an announcer of layer 2 does, is not found by its neighbours.
func (w *world) carriesNoARP() {
	w.t.Helper()
	address := w.machines[1].cards[0].address
	taken := address[:strings.LastIndex(address, ".")] + ".200"
	own, _, _ := strings.Cut(address, "/")
	w.hosts["node1"].ip("addr add " + taken + "/32 dev eth0")
	if _, err := w.hosts["node2"].run(nil, "ping", "-c1", "-W1", own); err != nil {
		w.t.Errorf("the fabric does not deliver at all: %v", err)
	}
	if out, err := w.hosts["node2"].run(nil, "ping", "-c1", "-W1", taken); err == nil {
		w.t.Errorf("the fabric carries ARP: %s", out)
	}
	w.hosts["node1"].ip("addr del " + taken + "/32 dev eth0")
}

// routeServers makes what Azure Route Server is to the machines: two speakers of AS
// 65515 in a subnet of their own, of which each node needs a session with both; what
// they learn the fabric knows. Here the first one programs it.
func (w *world) routeServers(f *host) {
	w.t.Helper()
	second := newHost(w.t, "route-server-2", w.root)
	w.hosts["fabric"], w.hosts["route-server-2"] = f, second
	f.ip("addr add 198.18.2.4/32 dev lo")
	w.attach(f, "route-server-2", "198.18.2.5/24")
	for h, id := range map[*host]string{f: "198.18.2.4", second: "198.18.2.5"} {
		var b strings.Builder
		fmt.Fprintf(&b, "router bgp 65515\n bgp router-id %s\n no bgp ebgp-requires-policy\n", id)
		for _, m := range w.nodes() {
			fmt.Fprintf(&b, " neighbor %s remote-as 64500\n neighbor %[1]s passive\n neighbor %[1]s ebgp-multihop 4\n neighbor %[1]s update-source %s\n", m.setting["ADDRESS"], id)
		}
		b.WriteString(" address-family ipv4 unicast\n  maximum-paths 8\n exit-address-family\nexit\n")
		h.write("/etc/frr/frr.conf", b.String(), "0640")
		_, err := h.run(nil, "sh", "-c", "chown frr:frr /etc/frr/frr.conf && sed -i 's/^bgpd=.*/bgpd=yes/' /etc/frr/daemons && /usr/lib/frr/frrinit.sh restart")
		must(w.t, err)
	}
}
