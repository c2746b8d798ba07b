package snapshot

import (
	"net/netip"
	"strconv"
	"strings"
)

// ParseBool reads the value of an annotation that is "true" or "false". A blank one is
// "false". It returns false for ok if text is another word.
func ParseBool(text string) (value, ok bool) {
	switch strings.TrimSpace(text) {
	case "true":
		return true, true
	case "", "false":
		return false, true
	}
	return false, false
}

// ParseAddr reads an address as the API server may hold it: old objects can
// have leading zeros in IPv4, which mean decimal numbers. IPv4 that is written
// as IPv6 (::ffff:192.0.2.1) is IPv4. An address with a zone is none.
func ParseAddr(text string) (netip.Addr, bool) {
	a, err := netip.ParseAddr(text)
	if err != nil {
		a, err = netip.ParseAddr(withoutZeros(text))
	}
	if err != nil || a.Zone() != "" {
		return netip.Addr{}, false
	}
	return a.Unmap(), true
}

// ParseZoned is ParseAddr for addresses that may have a zone.
func ParseZoned(text string) (netip.Addr, bool) {
	host, zone, zoned := strings.Cut(text, "%")
	a, ok := ParseAddr(host)
	if !zoned {
		return a, ok
	}
	return a.WithZone(zone), ok && a.Is6()
}

// ParsePrefix is ParseAddr for CIDRs. Host bits are kept.
func ParsePrefix(text string) (netip.Prefix, bool) {
	addr, length, _ := strings.Cut(text, "/")
	a, ok := ParseAddr(addr)
	bits, err := strconv.ParseUint(length, 10, 8)
	if !ok || err != nil {
		return netip.Prefix{}, false
	}
	if a.Is4() && strings.Contains(addr, ":") {
		if bits < 96 {
			return netip.Prefix{}, false
		}
		bits -= 96
	}
	p := netip.PrefixFrom(a, int(bits))
	return p, p.IsValid()
}

// withoutZeros drops the leading zeros of the numbers between dots.
func withoutZeros(text string) string {
	parts := strings.Split(text, ".")
	for i, p := range parts {
		if short := strings.TrimLeft(p, "0"); short != "" || p == "" {
			parts[i] = short
		} else {
			parts[i] = "0"
		}
	}
	return strings.Join(parts, ".")
}
