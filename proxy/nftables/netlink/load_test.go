package netlink

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"testing"

	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/internal/test/nstest"
	"github.com/fairlead/fairlead/proxy"
	"github.com/fairlead/fairlead/proxy/nftables"
)

// services makes a Table of n Services of one port with this many endpoints
// each, their ClusterIPs in 10.96.0.0/12, or in fd98:0:96::/112 for IPv6.
func services(family snapshot.Family, n, endpoints int) *proxy.Table {
	t := &proxy.Table{
		ServiceCIDRs:  prefixes("10.96.0.0/12", "fd98:0:96::/108"),
		LocalPods:     prefixes("198.18.1.0/24", "fd98:0:1::/64"),
		NodePortAddrs: []netip.Addr{netip.MustParseAddr("198.18.0.1"), netip.MustParseAddr("fd98::1")},
	}
	for i := range n {
		f := &proxy.Frontend{Key: proxy.Key{Kind: proxy.ClusterIP, Family: family, Protocol: snapshot.TCP, Port: 80}}
		f.Addr = numbered(family, 96, i)
		for j := range endpoints {
			f.Cluster = append(f.Cluster, netip.AddrPortFrom(numbered(family, 99, i*endpoints+j), 8080))
		}
		t.Frontends = append(t.Frontends, f)
	}
	return t
}

// numbered is address i of a range.
func numbered(family snapshot.Family, net byte, i int) netip.Addr {
	if family == snapshot.IPv4 {
		return netip.AddrFrom4([4]byte{10, net + byte(i>>16), byte(i >> 8), byte(i)})
	}
	return netip.AddrFrom16([16]byte{0xfd, 0x98, 5: net, 13: byte(i >> 16), 14: byte(i >> 8), 15: byte(i)})
}

// The kernel holds all of a load: messages that are too long and buffers that
// are too small lose elements without an error.
func TestLoad(t *testing.T) {
	n := nstest.Few(10000)
	for _, family := range bothFamilies {
		t.Run(family.String(), func(t *testing.T) {
			s := newSpace(t, "load")
			e := s.engine(t)
			table := services(family, n, 2)
			if c := sync(t, e, table); c.Added < 4*n {
				t.Errorf("%+v", c)
			}
			for _, set := range []string{"frontends", "ep-0", "ep-1", "cluster-ips"} {
				if got := count(t, s, family, set); got != n {
					t.Errorf("%s holds %d elements, want %d", set, got, n)
				}
			}
			if c := sync(t, s.engine(t), table); !c.Empty() {
				t.Errorf("a fresh engine still had to write %+v", c)
			}
			changed := *table
			changed.Frontends = append([]*proxy.Frontend{}, table.Frontends...)
			f := *changed.Frontends[n/2]
			f.Cluster = f.Cluster[:1]
			changed.Frontends[n/2] = &f
			if c := sync(t, e, &changed); c.Added+c.Deleted > 4 || c.Rebuilt {
				t.Errorf("one endpoint less: %+v", c)
			}
			sync(t, e, &proxy.Table{})
			if got := count(t, s, family, "frontends"); got != 0 {
				t.Errorf("%d frontends left", got)
			}
		})
	}
}

// count asks nft how many elements a set or map holds.
func count(t *testing.T, s space, family snapshot.Family, set string) int {
	t.Helper()
	kind, name := "map", nftables.IP4.Name
	if set == "cluster-ips" {
		kind = "set"
	}
	if family == snapshot.IPv6 {
		name = nftables.IP6.Name
	}
	var listing struct {
		Nftables []map[string]struct{ Elem []any }
	}
	out := s.Pipe(t, "", "nft", "-j", "list", kind, name, nftables.TableName, set)
	if err := json.Unmarshal([]byte(out), &listing); err != nil {
		t.Fatal(fmt.Errorf("%w in %.100s", err, out))
	}
	n := 0
	for _, entry := range listing.Nftables {
		n += len(entry[kind].Elem)
	}
	return n
}
