// Package nfttest reads a Table out of what the kernel holds of the nftables engine's
// tables, so that tests can compare it with the one that was synced. It knows the layout
// by itself: what the engine writes and reads back wrongly, it would not notice.
package nfttest

import (
	"encoding/binary"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"go4.org/netipx"

	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/proxy"
	"github.com/fairlead/fairlead/proxy/nftables"
)

// Table returns the Table that the tables stand for, without the fields that no kernel
// holds; nil if there are no tables. It ignores elements that no Ruleset has.
func Table(kernel []*nftables.Kernel) *proxy.Table {
	if !slices.ContainsFunc(kernel, func(k *nftables.Kernel) bool { return k.Exists }) {
		return nil
	}
	out := &proxy.Table{}
	for _, k := range kernel {
		r := reader{Family: k.Family, table: out, by: map[string][]nftables.Element{}, fronts: map[string]*front{}}
		for _, e := range k.Elements {
			r.by[e.Set] = append(r.by[e.Set], e)
		}
		r.node()
		r.keepPorts()
		r.frontends()
		r.details()
		for _, f := range r.fronts {
			f.Cluster, f.Local = distinct(f.cluster), distinct(f.local)
			out.Frontends = append(out.Frontends, f.Frontend)
		}
	}
	slices.SortFunc(out.Frontends, func(a, b *proxy.Frontend) int { return a.Key.Compare(b.Key) })
	slices.SortFunc(out.Hairpin, proxy.Target.Compare)
	slices.SortFunc(out.KeepPorts, proxy.Target.Compare)
	slices.Sort(out.LocalLinks)
	out.LocalLinks = slices.Compact(out.LocalLinks)
	slices.Sort(out.Uplinks)
	out.Uplinks = slices.Compact(out.Uplinks)
	slices.SortFunc(out.Ways, func(a, b proxy.Way) int { return strings.Compare(a.Link, b.Link) })
	out.Ways = slices.Compact(out.Ways)
	return out
}

// front is a Frontend and its endpoints by slot.
type front struct {
	*proxy.Frontend
	cluster, local []netip.AddrPort
}

func distinct(slots []netip.AddrPort) []netip.AddrPort {
	var out []netip.AddrPort
	for _, ep := range slots {
		if ep.IsValid() {
			out = append(out, ep)
		}
	}
	slices.SortFunc(out, netip.AddrPort.Compare)
	return slices.Compact(out)
}

// reader reads one family.
type reader struct {
	*nftables.Family
	table  *proxy.Table
	by     map[string][]nftables.Element // by set
	fronts map[string]*front             // by key
}

// node reads what belongs to no Frontend.
func (r *reader) node() {
	for _, e := range r.by["nodeport-ips"] {
		r.table.NodePortAddrs = append(r.table.NodePortAddrs, r.addr(e.Key))
	}
	for _, e := range r.by["service-cidrs"] {
		r.table.ServiceCIDRs = append(r.table.ServiceCIDRs, r.prefixes(e.Key, e.End)...)
	}
	for _, e := range r.by["local-pods"] {
		r.table.LocalPods = append(r.table.LocalPods, r.prefixes(e.Key, e.End)...)
	}
	for _, e := range r.by["local-links"] {
		name := strings.TrimRight(e.Key, "\x00")
		if e.End != e.Key {
			name += "*"
		}
		r.table.LocalLinks = append(r.table.LocalLinks, name)
	}
	for _, e := range r.by["uplinks"] {
		r.table.Uplinks = append(r.table.Uplinks, strings.TrimRight(e.Key, "\x00"))
	}
	for _, e := range r.by["range-hairpin"] {
		r.table.Hairpin = append(r.table.Hairpin, proxy.Target{
			Protocol: snapshot.Protocol(e.Key[2*r.AddrLen]), Addr: netip.AddrPortFrom(r.addr(e.Key), 0)})
	}
	for _, e := range r.by["ways"] {
		number, _ := strconv.Atoi(strings.TrimPrefix(e.Data, "goto way-"))
		r.table.Ways = append(r.table.Ways, proxy.Way{Link: strings.TrimRight(e.Key, "\x00"), Number: number})
	}
	for _, e := range r.by["vrfs"] { // those of VRFs themselves have no comment
		i := slices.IndexFunc(r.table.Ways, func(w proxy.Way) bool { return w.Link == strings.TrimRight(e.Key, "\x00") && w.VRF == "" })
		if i >= 0 && e.Comment != "" {
			r.table.Ways[i].VRF = e.Comment
		}
	}
	for _, e := range r.by["hairpin"] {
		rest := e.Key[2*r.AddrLen:]
		r.table.Hairpin = append(r.table.Hairpin, proxy.Target{
			Protocol: snapshot.Protocol(rest[0]), Addr: netip.AddrPortFrom(r.addr(e.Key), port(rest[4:]))})
	}
}

// keepPorts reads the endpoints to which source ports are kept.
func (r *reader) keepPorts() {
	for _, e := range r.by["range-keep-ports"] {
		r.table.KeepPorts = append(r.table.KeepPorts, proxy.Target{
			Protocol: snapshot.Protocol(e.Key[r.AddrLen]), Addr: netip.AddrPortFrom(r.addr(e.Key), 0)})
	}
	for _, e := range r.by["keep-ports"] {
		rest := e.Key[r.AddrLen:]
		r.table.KeepPorts = append(r.table.KeepPorts, proxy.Target{
			Protocol: snapshot.Protocol(rest[0]), Addr: netip.AddrPortFrom(r.addr(e.Key), port(rest[4:]))})
	}
}

// frontends makes a Frontend of each element that proves that there is one, with the
// kind and the policy that it proves.
func (r *reader) frontends() {
	for _, np := range []bool{false, true} {
		all, prefix := "external", ""
		if np {
			all, prefix = "nodeports", "np-"
		}
		for _, e := range r.by[map[bool]string{false: "external-all", true: "nodeports"}[np]] {
			f := r.frontend(e.Key, np)
			f.LocalOnly = true
			if !np {
				f.Kind = r.kind(e.Key, true)
			}
		}
		for _, e := range r.by[all+"-cluster"] {
			r.frontend(e.Key, np).LocalOnly = e.Comment == "local"
		}
		for _, e := range r.by[prefix+"no-endpoints"] {
			f := r.frontend(e.Key, np)
			if f.Empty = proxy.Reject; e.Data == "drop" {
				f.Empty = proxy.Drop
			}
		}
		for _, e := range r.by[prefix+"frontends"] {
			r.frontend(e.Key, np)
		}
	}
	r.ranged()
	for _, e := range r.by["directed"] {
		r.frontend(e.Key, false).Directed = true
	}
	for _, e := range r.by["vip-ports"] {
		if r.fronts[e.Key] == nil {
			r.frontend(e.Key, false).Kind = proxy.Guard
		}
	}
}

// ranged makes the Frontends that have ranges of ports.
func (r *reader) ranged() {
	for _, e := range r.by["range-ports"] {
		n := len(e.Key) - 4
		f := r.fronts[e.Key[:n]]
		if f == nil {
			f = &front{Frontend: &proxy.Frontend{Key: proxy.Key{
				Kind: proxy.VIP, Family: r.ID, Addr: r.addr(e.Key), Protocol: snapshot.Protocol(e.Key[r.AddrLen]),
			}, LocalOnly: true}}
			r.fronts[e.Key[:n]] = f
		}
		f.Ranges = append(f.Ranges, snapshot.PortRange{Protocol: f.Protocol, First: port(e.Key[n:]), Last: port(e.End[n:])})
	}
	for _, e := range r.by["range-cluster"] {
		if f := r.fronts[e.Key]; f != nil {
			f.LocalOnly = e.Comment == "local"
		}
	}
	for _, e := range r.by["range-directed"] {
		if f := r.fronts[e.Key]; f != nil {
			f.Directed = true
		}
	}
	for _, e := range r.by["range-no-endpoints"] {
		if f := r.fronts[e.Key]; f != nil {
			if f.Empty = proxy.Reject; e.Data == "drop" {
				f.Empty = proxy.Drop
			}
		}
	}
}

// kind is what a Frontend with this key is. An address of a ClusterIP can be an
// external IP as well, for another port.
func (r *reader) kind(key string, external bool) proxy.Kind {
	in := func(set string) bool {
		return slices.ContainsFunc(r.by[set], func(e nftables.Element) bool { return e.Key == key[:r.AddrLen] })
	}
	switch {
	case !external && in("cluster-ips"):
		return proxy.ClusterIP
	case in("vips"):
		return proxy.VIP
	}
	return proxy.ExternalIP
}

// frontend returns the Frontend with this key, a new one if there is none.
func (r *reader) frontend(key string, nodePort bool) *front {
	if f := r.fronts[key]; f != nil {
		return f
	}
	f := &front{Frontend: &proxy.Frontend{Key: proxy.Key{Kind: proxy.NodePort, Family: r.ID}}}
	r.fronts[key] = f
	if !nodePort {
		f.Kind, f.Addr = r.kind(key, false), r.addr(key)
		key = key[r.AddrLen:]
	}
	f.Protocol, f.Port = snapshot.Protocol(key[0]), port(key[4:])
	return f
}

var (
	slotMap = regexp.MustCompile(`^(?:np-|range-)?ep-(local-)?(\d+)$`)
	sticky  = regexp.MustCompile(`^goto (?:np-|range-)?lb-(?:local-)?\d+-sticky-(\d+)$`)
)

// details reads what else the elements say of Frontends.
func (r *reader) details() {
	for _, prefix := range []string{"", "range-"} {
		for _, e := range r.by[prefix+"lbsr-vips"] {
			if f := r.fronts[e.Key]; f != nil {
				f.Sources = []netip.Prefix{}
			}
		}
		for _, e := range r.by[prefix+nftables.SetSourceAllow] {
			n := len(e.Key) - r.AddrLen
			if f := r.fronts[e.Key[:n]]; f != nil {
				f.Sources = append(f.Sources, r.prefixes(e.Key[n:], e.End[n:])...)
			}
		}
	}
	for set, elems := range r.by {
		slot := slotMap.FindStringSubmatch(set)
		for _, e := range elems {
			f := r.fronts[e.Key]
			if f == nil {
				continue
			}
			if m := sticky.FindStringSubmatch(e.Data); m != nil {
				seconds, _ := strconv.Atoi(m[1])
				f.Affinity = time.Duration(seconds) * time.Second
			}
			f.AllPorts = f.AllPorts || strings.HasSuffix(e.Data, "-by-client")
			if slot != nil {
				list := &f.cluster
				if slot[1] != "" {
					list = &f.local
				}
				ep := netip.AddrPortFrom(r.addr(e.Data), 0)
				if rest := e.Data[r.AddrLen:]; rest != "" {
					ep = netip.AddrPortFrom(ep.Addr(), port(rest))
				}
				*list = append(*list, ep)
			}
		}
	}
}

// addr reads an address at the start of s.
func (r *reader) addr(s string) netip.Addr {
	a, _ := netip.AddrFromSlice([]byte(s[:r.AddrLen]))
	return a
}

func port(s string) uint16 { return binary.BigEndian.Uint16([]byte(s[:2])) }

func (r *reader) prefixes(from, to string) []netip.Prefix {
	return netipx.IPRangeFrom(r.addr(from), r.addr(to)).Prefixes()
}
