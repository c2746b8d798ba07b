package echo

import (
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/internal/direct"
	"github.com/fairlead/fairlead/internal/link"
	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/internal/test/nstest"
)

// host is a node on the switch, with its Echo.
type host struct {
	space nstest.Space
	link  snapshot.Link
	echo  *Echo
}

// newHosts are nodes on one switch. On the port of the first it drops what an expression of
// nft matches.
func newHosts(t *testing.T, n int, drops string) (hosts []*host) {
	t.Helper()
	nstest.NeedRoot(t)
	sw := nstest.New(t, "switch")
	sw.Pipe(t, "link add name sw type bridge\nlink set sw up\n", "ip", "-batch", "-")
	for i := 1; i <= n; i++ {
		h := &host{space: nstest.New(t, fmt.Sprintf("h%d", i))}
		h.space.Pipe(t, fmt.Sprintf(`link add name lan type veth peer name port%[1]d netns %[2]s
addr add 198.18.0.%[1]d/24 dev lan
addr add fd98::%[1]d/64 dev lan nodad
link set lan up
`, i, sw.Name), "ip", "-batch", "-")
		sw.Pipe(t, fmt.Sprintf("link set port%d up master sw\n", i), "ip", "-batch", "-")
		nstest.Eventually(t, "the link to be up", func() bool {
			h.space.Do(t, func() error {
				state, err := link.Read()
				for _, l := range state.Links {
					if l.Name == "lan" {
						h.link = l
					}
				}
				return err
			})
			return h.link.MAC != ""
		})
		hosts = append(hosts, h)
	}
	if drops != "" {
		sw.Pipe(t, fmt.Sprintf(`table bridge guard { chain c { type filter hook forward priority 0; iifname "port1" %s drop; }; }`, drops), "nft", "-f", "-")
	}
	return hosts
}

// start has a host ask the others.
func (h *host) start(t *testing.T, others []*host) {
	t.Helper()
	h.echo = New(slog.New(slog.NewTextHandler(t.Output(), nil)), func() {})
	t.Cleanup(h.echo.Close)
	var peers []direct.Peer
	for _, o := range others {
		if o == h {
			continue
		}
		mac, err := net.ParseMAC(o.link.MAC)
		if err != nil {
			t.Fatal(err)
		}
		p := direct.Peer{Link: h.link.Index, MAC: mac}
		for _, prefix := range o.link.Prefixes {
			if a := prefix.Addr(); a.Is4() {
				p.IPv4 = a
			} else if !a.IsLinkLocalUnicast() {
				p.IPv6 = a
			}
		}
		peers = append(peers, p)
	}
	h.space.Do(t, func() error {
		return h.echo.Set([]snapshot.Link{h.link}, peers, []netip.Addr{netip.MustParseAddr("203.0.113.80"), netip.MustParseAddr("2001:db8:2::80")})
	})
}

// A network that drops packets from addresses that are not the node's is found, by family,
// at the port that drops them. Other nodes find nothing.
func TestEcho(t *testing.T) {
	for name, c := range map[string]struct{ drops, why string }{
		"lets all pass":          {"", ""},
		"drops clients'":         {"ip saddr 192.0.2.1", "IPv4 from addresses of clients"},
		"drops all of others":    {"ip saddr != 198.18.0.1", "IPv4 from addresses of clients"},
		"drops VIPs'":            {"ip saddr 203.0.113.80", "IPv4 from addresses of VIPs"},
		"drops clients', IPv6":   {"ip6 saddr 2001:db8::1", "IPv6 from addresses of clients"},
		"drops VIPs', IPv6":      {"ip6 saddr 2001:db8:2::80", "IPv6 from addresses of VIPs"},
		"drops pings, so to say": {"meta l4proto { icmp, icmpv6 }", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			hosts := newHosts(t, 3, c.drops)
			for _, h := range hosts {
				h.start(t, hosts)
			}
			for i, h := range hosts {
				want := c.why
				if i > 0 {
					want = ""
				}
				nstest.Eventually(t, fmt.Sprintf("h%d knows: %q", i+1, want), func() bool {
					why, known := h.echo.Verdict()
					return known && strings.Contains(why, want) && (why == "") == (want == "")
				})
			}
		})
	}
}

// Nothing is answered that comes from no node that is known.
func TestStrangerIsNotAnswered(t *testing.T) {
	hosts := newHosts(t, 2, "")
	hosts[0].start(t, hosts)
	hosts[1].start(t, nil)
	nstest.Eventually(t, "five rounds", func() bool { _, known := hosts[0].echo.Verdict(); return known })
	hosts[0].echo.mu.Lock()
	defer hosts[0].echo.mu.Unlock()
	if n := hosts[0].echo.v4.unheard; n < unknownRounds {
		t.Errorf("answered after %d rounds", n)
	}
}
