package bgp

import (
	"cmp"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"go4.org/netipx"

	"github.com/fairlead/fairlead/internal/snapshot"
)

// attributes is what an Announcement attaches, parsed.
type attributes struct {
	communities []uint32
	large       [][3]uint32
	length4     int
	length6     int
}

// wellKnown are the communities that have a name (RFC 1997, RFC 8326).
var wellKnown = map[string]uint32{
	"graceful-shutdown": GracefulShutdown,
	"no-export":         0xffffff01,
	"no-advertise":      0xffffff02,
	"local-as":          0xffffff03,
}

// GracefulShutdown asks routers to prefer any other path (RFC 8326).
const GracefulShutdown uint32 = 0xffff0000

// defaultLocalPref is the LOCAL_PREF of a path within an AS.
const defaultLocalPref = 100

func attributesOf(an *snapshot.Announcement) (attributes, *snapshot.Refusal) {
	out := attributes{length4: cmp.Or(an.BGP.Length4, 32), length6: cmp.Or(an.BGP.Length6, 128)}
	for _, text := range an.BGP.Communities {
		c, ok := wellKnown[text]
		if !ok {
			n, parsed := numbers(text, 2, 16)
			if !parsed {
				return out, refusal(BadCommunity, "%q: a community is two numbers up to 65535, such as 64496:100", text)
			}
			c = n[0]<<16 | n[1]
		}
		out.communities = append(out.communities, c)
	}
	for _, text := range an.BGP.LargeCommunities {
		n, parsed := numbers(text, 3, 32)
		if !parsed {
			return out, refusal(BadCommunity, "%q: a large community is three numbers up to 4294967295, such as 64496:1:2", text)
		}
		out.large = append(out.large, [3]uint32(n))
	}
	out.communities = union(out.communities, nil, cmp.Compare[uint32])
	out.large = union(out.large, nil, compareLarge)
	switch {
	case out.length4 < 1 || out.length4 > 32 || out.length6 < 1 || out.length6 > 128:
		return out, refusal(BadAggregation, "a length of %d or %d: 1 to 32 for IPv4 and 1 to 128 for IPv6", out.length4, out.length6)
	case an.ServiceSelector != nil && (out.length4 != 32 || out.length6 != 128):
		return out, refusal(BadAggregation, "a serviceSelector does not go with aggregation: an aggregate is all of its addresses")
	}
	return out, nil
}

// numbers reads count numbers of that many bits, separated by colons.
func numbers(text string, count, bits int) ([]uint32, bool) {
	parts := strings.Split(text, ":")
	if len(parts) != count {
		return nil, false
	}
	out := make([]uint32, count)
	for i, p := range parts {
		n, err := strconv.ParseUint(p, 10, bits)
		if err != nil {
			return nil, false
		}
		out[i] = uint32(n)
	}
	return out, true
}

// prefix is what addr is announced as. An aggregate must lie within the pool.
func (w *way) prefix(addr netip.Addr, pool *snapshot.Pool) (netip.Prefix, *snapshot.Refusal) {
	bits := w.length6
	if addr.Is4() {
		bits = w.length4
	}
	p := netip.PrefixFrom(addr, bits).Masked()
	if p.IsSingleIP() {
		return p, nil
	}
	r := netipx.RangeOfPrefix(p)
	within := func(have netipx.IPRange) bool { return have.Contains(r.From()) && have.Contains(r.To()) }
	if pool == nil || !slices.ContainsFunc(pool.Ranges, within) {
		return p, refusal(BadAggregation, "%s is wider than the pool", p)
	}
	return p, nil
}

// localPref is sent within an AS only.
func (w *way) localPref(p *Peer) uint32 {
	switch {
	// RFC 4271 section 5.1.5 forbids it between two.
	case p.PeerASN != p.LocalASN:
		return 0
	case w.BGP.LocalPref == nil:
		return defaultLocalPref
	}
	return *w.BGP.LocalPref
}
