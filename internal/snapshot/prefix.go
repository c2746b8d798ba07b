package snapshot

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"go4.org/netipx"
)

// DefaultGrace is the Grace of a FromPrefix that names none. It is longer than most
// names stay in DNS caches.
const DefaultGrace = time.Hour

// PrefixBits is the length of a prefix in which hosts give themselves addresses (RFC 4862).
const PrefixBits = 64

// FromPrefix says which prefix the addresses of a Pool follow.
type FromPrefix struct {
	Interface   string         // name of the link on the nodes
	Host        netipx.IPRange // in ::/64; invalid if the pool's Bad says why
	UniqueLocal bool           // the prefix is one of fc00::/7, otherwise one that is global
	Nodes       *Selector      // who is asked
	Grace       time.Duration  // how long a prefix is Leaving
}

// PrefixState is how a Pool stands to a prefix.
type PrefixState string

// The states of a prefix, in their order: see the AddressPool kind.
const (
	PrefixCandidate PrefixState = "Candidate"
	PrefixCurrent   PrefixState = "Current"
	PrefixLeaving   PrefixState = "Leaving"
	PrefixFormer    PrefixState = "Former"
)

// PoolPrefix is a prefix that a Pool knows.
type PoolPrefix struct {
	Prefix netip.Prefix
	State  PrefixState
	Since  time.Time // in whole seconds
	Until  time.Time // of one that is Leaving, in whole seconds; zero otherwise
}

// LinkPrefix is an IPv6 prefix that a router announces on a link of a node.
type LinkPrefix struct {
	Link       string
	Prefix     netip.Prefix
	Deprecated bool // the router lets it go
}

// Compare orders LinkPrefixes by link, then prefix.
func (l LinkPrefix) Compare(o LinkPrefix) int {
	return cmp.Or(cmp.Compare(l.Link, o.Link), l.Prefix.Compare(o.Prefix))
}

// In returns the addresses of f.Host in prefix.
func (f *FromPrefix) In(prefix netip.Prefix) netipx.IPRange {
	return netipx.IPRangeFrom(Rehost(prefix, f.Host.From()), Rehost(prefix, f.Host.To()))
}

// Rehost returns the address with the first 64 bits of prefix and the last ones of host.
func Rehost(prefix netip.Prefix, host netip.Addr) netip.Addr {
	out, low := prefix.Addr().As16(), host.As16()
	copy(out[PrefixBits/8:], low[PrefixBits/8:])
	return netip.AddrFrom16(out)
}

// WithPrefixes returns p as it is once it knows prefixes: p itself if it knows them
// already. Its Ranges are those of spec.addresses, and the addresses of the prefixes that
// are Current or Leaving.
func (p *Pool) WithPrefixes(prefixes []PoolPrefix) *Pool {
	if SamePrefixes(p.Prefixes, prefixes) {
		return p
	}
	out := *p
	out.Prefixes = prefixes
	out.Ranges = slices.Concat(p.Ranges[:len(p.Ranges)-len(p.following())], out.following())
	return &out
}

// SamePrefixes reports whether two lists of prefixes say the same.
func SamePrefixes(a, b []PoolPrefix) bool {
	return slices.EqualFunc(a, b, func(x, y PoolPrefix) bool {
		return x.Prefix == y.Prefix && x.State == y.State && x.Since.Equal(y.Since) && x.Until.Equal(y.Until)
	})
}

// following returns the addresses of the prefixes that are Current or Leaving.
func (p *Pool) following() []netipx.IPRange {
	return append(p.PrefixRanges(PrefixCurrent), p.PrefixRanges(PrefixLeaving)...)
}

// PrefixRanges returns the addresses of the prefixes of p in that state.
func (p *Pool) PrefixRanges(state PrefixState) (out []netipx.IPRange) {
	for _, k := range p.Prefixes {
		if p.FromPrefix != nil && p.FromPrefix.Host.IsValid() && k.State == state {
			out = append(out, p.FromPrefix.In(k.Prefix))
		}
	}
	return out
}

// InPrefix returns the prefix of p that is in that state and contains addr.
func (p *Pool) InPrefix(state PrefixState, addr netip.Addr) (PoolPrefix, bool) {
	for _, k := range p.Prefixes {
		if p.FromPrefix != nil && k.State == state && k.Prefix.Contains(addr) {
			return k, true
		}
	}
	return PoolPrefix{}, false
}
