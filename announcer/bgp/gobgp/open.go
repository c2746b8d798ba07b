package gobgp

import (
	"encoding/binary"
	"slices"
)

const (
	afiIPv4     = 1
	afiIPv6     = 2
	safiUnicast = 1
	safiVPN     = 128
)

// The capabilities that a session depends on, by their codes (RFC 5492).
const (
	capMultiprotocol   = 1  // RFC 4760
	capRouteRefresh    = 2  // RFC 2918
	capExtendedNextHop = 5  // RFC 8950
	capGracefulRestart = 64 // RFC 4724
	capFourOctetAS     = 65 // RFC 6793
)

// offer is what a router's OPEN says, as far as a session depends on it.
type offer struct {
	fixed        [9]byte  // version, AS number, hold time and router ID
	named        bool     // it names families; a router that does not takes IPv4
	families     []uint16 // the AFIs of the unicast families that it names
	refresh      bool
	foreignHop   bool // it takes IPv4 prefixes with an IPv6 next hop
	graceful     []byte
	fourOctetASN []byte
}

// asn is the router's AS number.
func (o offer) asn() uint32 {
	if o.fourOctetASN != nil {
		return binary.BigEndian.Uint32(o.fourOctetASN)
	}
	return uint32(binary.BigEndian.Uint16(o.fixed[1:]))
}

// errOpen refuses an OPEN that cannot be read (RFC 4271 section 6.2).
var errOpen = &notification{2, 0, "an OPEN that cannot be read"}

// readOpen reads the body of an OPEN. Parameters and capabilities that no session
// depends on are skipped.
func readOpen(body []byte) (offer, error) {
	var o offer
	if len(body) < 10 || len(body) != 10+int(body[9]) {
		return o, errOpen
	}
	copy(o.fixed[:], body)
	params, ok := triples(body[10:])
	if !ok {
		return o, errOpen
	}
	for _, p := range params {
		if p.kind != 2 { // the parameter of RFC 5492 is the only one in use
			return o, &notification{2, 4, "an OPEN with a parameter that is not known"}
		}
		caps, ok := triples(p.value)
		if !ok {
			return o, errOpen
		}
		for _, c := range caps {
			if !o.take(c) {
				return o, errOpen
			}
		}
	}
	return o, nil
}

// triple is a type, a length and a value.
type triple struct {
	kind  uint8
	value []byte
}

func triples(b []byte) (out []triple, ok bool) {
	for len(b) > 0 {
		if len(b) < 2 || len(b) < 2+int(b[1]) {
			return nil, false
		}
		out = append(out, triple{b[0], slices.Clone(b[2 : 2+int(b[1])])})
		b = b[2+int(b[1]):]
	}
	return out, true
}

// take takes in a capability, and reports whether it can be read.
func (o *offer) take(c triple) bool {
	v := c.value
	switch c.kind {
	case capMultiprotocol:
		if len(v) != 4 {
			return false
		}
		o.named = true
		if afi := binary.BigEndian.Uint16(v); v[3] == safiUnicast && (afi == afiIPv4 || afi == afiIPv6) && !slices.Contains(o.families, afi) {
			o.families = append(o.families, afi)
		}
	case capRouteRefresh:
		o.refresh = true
	case capExtendedNextHop:
		if len(v)%6 != 0 {
			return false
		}
		for x := range slices.Chunk(v, 6) {
			o.foreignHop = o.foreignHop || [6]byte(x) == [6]byte{0, afiIPv4, 0, safiUnicast, 0, afiIPv6}
		}
	case capGracefulRestart:
		if len(v)%4 != 2 {
			return false
		}
		// Without its families gobgp does not wait for the router's End-of-RIB:
		// nothing here depends on the router's routes.
		o.graceful = v[:2]
	case capFourOctetAS:
		if len(v) != 4 {
			return false
		}
		o.fourOctetASN = v
	}
	return true
}

// body is the body of an OPEN that offers the same, and nothing else.
func (o offer) body() []byte {
	var caps []byte
	add := func(code uint8, value ...byte) {
		caps = append(append(caps, code, uint8(len(value))), value...)
	}
	for _, afi := range o.families {
		add(capMultiprotocol, 0, uint8(afi), 0, safiUnicast)
	}
	if o.named && len(o.families) == 0 { // one that gobgp does not have either
		add(capMultiprotocol, 0, afiIPv4, 0, safiVPN)
	}
	if o.refresh {
		add(capRouteRefresh)
	}
	if o.graceful != nil {
		add(capGracefulRestart, o.graceful...)
	}
	if o.fourOctetASN != nil {
		add(capFourOctetAS, o.fourOctetASN...)
	}
	out := o.fixed[:]
	if len(caps) == 0 {
		return append(out, 0)
	}
	return append(append(out, uint8(len(caps)+2), 2, uint8(len(caps))), caps...)
}
