package netlink

import (
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/proxy"
	"github.com/fairlead/fairlead/proxy/nftables"
)

func eps(s ...string) []netip.AddrPort {
	var out []netip.AddrPort
	for _, e := range s {
		out = append(out, netip.MustParseAddrPort(e))
	}
	return out
}

func prefixes(s ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, e := range s {
		out = append(out, netip.MustParsePrefix(e))
	}
	return out
}

func vip(kind proxy.Kind, addr string, p snapshot.Protocol, port uint16, cluster ...string) *proxy.Frontend {
	a := netip.MustParseAddr(addr)
	return &proxy.Frontend{Key: proxy.Key{Kind: kind, Family: snapshot.FamilyOf(a), Addr: a, Protocol: p, Port: port}, Cluster: eps(cluster...)}
}

func nodePort(f snapshot.Family, p snapshot.Protocol, port uint16, cluster ...string) *proxy.Frontend {
	return &proxy.Frontend{Key: proxy.Key{Kind: proxy.NodePort, Family: f, Protocol: p, Port: port}, Cluster: eps(cluster...)}
}

// everything is a Table with one of each kind of thing.
func everything() *proxy.Table {
	local := func(f *proxy.Frontend, eps ...netip.AddrPort) *proxy.Frontend {
		f.LocalOnly, f.Local = true, eps
		if len(eps) == 0 {
			f.Empty = proxy.Drop
		}
		return f
	}
	sticky := func(f *proxy.Frontend) *proxy.Frontend { f.Affinity = 3 * time.Hour; return f }
	ranged := func(f *proxy.Frontend) *proxy.Frontend {
		f.Ranges = []snapshot.PortRange{{Protocol: f.Protocol, First: 5060, Last: 5060}, {Protocol: f.Protocol, First: 10000, Last: 20000}}
		return f
	}
	reject := func(f *proxy.Frontend) *proxy.Frontend { f.Empty = proxy.Reject; return f }
	limited := vip(proxy.VIP, "192.0.2.9", snapshot.TCP, 443, "198.18.1.2:8443")
	limited.Sources = prefixes("198.51.100.0/24", "203.0.113.0/25", "203.0.113.128/25")
	t := &proxy.Table{
		Frontends: []*proxy.Frontend{
			vip(proxy.ClusterIP, "10.96.0.1", snapshot.TCP, 443, "198.18.1.2:6443"),
			vip(proxy.ClusterIP, "10.96.0.10", snapshot.TCP, 53, "198.18.1.2:53", "198.18.2.3:53"),
			vip(proxy.ClusterIP, "10.96.0.10", snapshot.UDP, 53, "198.18.1.2:53", "198.18.2.3:53"),
			reject(vip(proxy.ClusterIP, "10.96.0.11", snapshot.SCTP, 5000)),
			sticky(vip(proxy.ClusterIP, "10.96.0.12", snapshot.TCP, 80, "198.18.1.2:80", "198.18.2.3:80", "198.18.2.4:80")),
			vip(proxy.ClusterIP, "fd98:0:96::1", snapshot.TCP, 443, "[fd98:0:1::2]:6443"),
			sticky(vip(proxy.ClusterIP, "fd98:0:96::2", snapshot.UDP, 53, "[fd98:0:1::2]:53", "[fd98:0:2::2]:53")),
			limited,
			local(vip(proxy.VIP, "192.0.2.10", snapshot.TCP, 80, "198.18.1.2:80", "198.18.2.3:80"), eps("198.18.1.2:80")...),
			local(sticky(vip(proxy.VIP, "192.0.2.11", snapshot.TCP, 80, "198.18.2.3:80"))),
			ranged(vip(proxy.VIP, "192.0.2.12", snapshot.UDP, 0, "198.18.1.2:0", "198.18.2.3:0")),
			local(sticky(ranged(vip(proxy.VIP, "192.0.2.13", snapshot.TCP, 0, "198.18.1.2:0", "198.18.2.3:0"))), eps("198.18.1.2:0")...),
			local(sticky(vip(proxy.VIP, "fd98:0:ff::1", snapshot.TCP, 80, "[fd98:0:1::2]:80")), eps("[fd98:0:1::2]:80")...),
			ranged(reject(vip(proxy.VIP, "fd98:0:ff::2", snapshot.TCP, 0))),
			vip(proxy.ExternalIP, "203.0.113.250", snapshot.TCP, 80, "198.18.1.2:80"),
			nodePort(snapshot.IPv4, snapshot.TCP, 30080, "198.18.1.2:80", "198.18.2.3:80"),
			local(sticky(nodePort(snapshot.IPv4, snapshot.UDP, 30080, "198.18.1.2:80")), eps("198.18.1.2:80")...),
			reject(nodePort(snapshot.IPv6, snapshot.TCP, 30080)),
		},
		NodePortAddrs: []netip.Addr{netip.MustParseAddr("198.18.0.1"), netip.MustParseAddr("fd98::1")},
		ServiceCIDRs:  prefixes("10.96.0.0/12", "fd98:0:96::/112"),
		LocalPods:     prefixes("198.18.1.0/24", "fd98:0:1::/64"),
		Hairpin: []proxy.Target{
			{Protocol: snapshot.TCP, Addr: netip.MustParseAddrPort("198.18.1.2:0")},
			{Protocol: snapshot.TCP, Addr: netip.MustParseAddrPort("198.18.1.2:80")},
			{Protocol: snapshot.TCP, Addr: netip.MustParseAddrPort("[fd98:0:1::2]:80")},
			{Protocol: snapshot.UDP, Addr: netip.MustParseAddrPort("198.18.1.2:0")},
		},
	}
	return t
}

// What we write is listed by plain nft, and the listing loads into an empty
// namespace and is the same there.
func TestListingLoadsBack(t *testing.T) {
	s := newSpace(t, "list")
	e := s.engine(t)
	for name, table := range map[string]*proxy.Table{"everything": everything(), "empty": {}} {
		if _, err := e.Sync(t.Context(), table); err != nil {
			t.Fatal(name, err)
		}
		listing := s.Pipe(t, "", "nft", "list", "ruleset")
		if dir := os.Getenv("SAVE_LISTING"); dir != "" {
			os.WriteFile(dir+"/"+name+".nft", []byte(listing), 0o644)
		}
		other := newSpace(t, "load")
		other.Pipe(t, listing, "nft", "-f", "-")
		again := other.Pipe(t, "", "nft", "list", "ruleset")
		if listing != again {
			t.Errorf("%s: the listing differs after loading it: %s", name, firstDifference(listing, again))
		}
	}
}

func firstDifference(a, b string) string {
	la, lb := strings.Split(a, "\n"), strings.Split(b, "\n")
	for i := range min(len(la), len(lb)) {
		if la[i] != lb[i] {
			return "\n- " + la[i] + "\n+ " + lb[i]
		}
	}
	return "length"
}

// sorted compares listings whose elements may stand in any order.
func sorted(listing string) string {
	words := strings.FieldsFunc(listing, func(r rune) bool { return r == '\n' || r == ',' || r == '\t' })
	for i := range words {
		words[i] = strings.TrimSpace(words[i])
	}
	slices.Sort(words)
	return strings.Join(words, "\n")
}

// Rules and elements print as nft prints them, so that logs, tests and nft
// speak of the same thing; and the bytecode is the one that nft reads so.
func TestTextIsWhatNftLists(t *testing.T) {
	s := newSpace(t, "text")
	e := s.engine(t)
	table := everything()
	sync(t, e, table)
	for _, f := range nftables.Families {
		listing := s.Pipe(t, "", "nft", "list", "table", f.Name, nftables.TableName)
		listed := map[string][]string{}
		name := ""
		for line := range strings.Lines(listing) {
			line = strings.TrimSpace(line)
			words := strings.Fields(line)
			switch {
			case len(words) == 3 && words[2] == "{":
				name = words[0] + " " + words[1]
			case strings.HasPrefix(line, "type ") || line == "" || line == "}":
			case strings.HasPrefix(name, "chain "):
				listed[name] = append(listed[name], line)
			default:
				listed[name] = append(listed[name], strings.Trim(strings.TrimPrefix(line, "elements = {"), " ,}"))
			}
		}
		layout := e.ruleset.Layouts[f]
		for _, c := range layout.Chains {
			var want []string
			for _, r := range c.Rules {
				want = append(want, r.Text)
			}
			if got := listed["chain "+c.Name]; !slices.Equal(got, want) {
				t.Errorf("chain %s: nft lists %q, want %q", c.Name, got, want)
			}
		}
		for _, el := range e.ruleset.Elements(f) {
			set, _ := layout.Set(el.Set)
			name := "set " + el.Set
			if set.IsMap() {
				name = "map " + el.Set
			}
			want := el.Text(set)
			if !strings.Contains(strings.Join(listed[name], ", "), want) && !set.Interval {
				t.Errorf("%s: nft lists %q, without %q", name, listed[name], want)
			}
		}
	}
}
