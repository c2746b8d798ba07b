package proxy

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/internal/snapshot"
)

// FuzzSources holds sources to what it promises, whatever the text: prefixes of
// the family alone, sorted, apart from each other, holding exactly the addresses
// of the ranges; and the VIP, added, spoils none of that.
func FuzzSources(f *testing.F) {
	for _, seed := range []string{
		"", "192.0.2.0/24", " 192.0.2.0/24 ,10.0.0.0/8", "0.0.0.0/0", "::/0", "2001:db8::/32,192.0.2.1/32", "010.001.002.003/08",
		"::ffff:192.0.2.0/120", "::ffff:0.0.0.0/96", "::ffff:192.0.2.0/95", "fe80::1%eth0/64", "192.0.2.0/33", "192.0.2.0", "/", ",,",
		"198.51.100.0/24,198.51.100.0/25,198.51.100.128/25", "198.51.100.1/24,192.0.2.0/24",
	} {
		f.Add(seed)
	}
	vips := []netip.Addr{netip.MustParseAddr("192.0.2.10"), netip.MustParseAddr("2001:db8:f::10")}
	nodes := []netip.Addr{netip.MustParseAddr("198.51.100.1"), netip.MustParseAddr("2001:db8::1")}
	f.Fuzz(func(t *testing.T, text string) {
		var ranges []string
		if text != "" {
			ranges = strings.Split(text, ",")
		}
		for _, vip := range vips {
			family := snapshot.FamilyOf(vip)
			got := sources(ranges, family)
			if (got == nil) != everybody(ranges, family) {
				t.Fatalf("sources(%q, %s) = %#v", ranges, family, got)
			}
			check(t, got, family)
			with := withNode(got, vip, nodes)
			check(t, with, family)
			if allowed := contains(got, nodes[0]) || contains(got, nodes[1]); allowed && !contains(with, vip) {
				t.Fatalf("%v lets a node in, %v does not let %s in", got, with, vip)
			}
			for _, r := range ranges {
				p, ok := snapshot.ParsePrefix(strings.TrimSpace(r))
				if ok && got != nil && snapshot.FamilyOf(p.Addr()) == family && !contains(got, p.Masked().Addr()) {
					t.Fatalf("%v lacks %s", got, p)
				}
			}
		}
	})
}

// everybody reports whether ranges restrict nobody of family.
func everybody(ranges []string, family snapshot.Family) bool {
	open := slices.ContainsFunc(ranges, func(r string) bool {
		p, ok := snapshot.ParsePrefix(strings.TrimSpace(r))
		return ok && p.Bits() == 0 && snapshot.FamilyOf(p.Addr()) == family
	})
	return open || !slices.ContainsFunc(ranges, func(r string) bool {
		p, ok := snapshot.ParsePrefix(strings.TrimSpace(r))
		return !ok || snapshot.FamilyOf(p.Addr()) == family
	})
}

func check(t *testing.T, ps []netip.Prefix, family snapshot.Family) {
	t.Helper()
	for i, p := range ps {
		if !p.IsValid() || p != p.Masked() || p.Addr().Is4() != (family == snapshot.IPv4) || p.Addr().Is4In6() {
			t.Fatalf("%s is not a prefix of %s", p, family)
		}
		if i > 0 && (ps[i-1].Compare(p) >= 0 || slices.ContainsFunc(ps[:i], p.Overlaps)) {
			t.Fatalf("%v is out of order or overlaps", ps)
		}
	}
}
