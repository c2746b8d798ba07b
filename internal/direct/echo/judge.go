package echo

import (
	"fmt"
	"net/netip"
)

// kind is whose address a packet has as its source.
type kind uint8

const (
	ownAddress kind = iota // this node's, which says that the other node answers
	client
	vip
	kinds
)

func (k kind) String() string { return [...]string{"nodes", "clients", "VIPs"}[k] }

// heard are the kinds of packets that one node has answered.
type heard [kinds]bool

// blockedRounds is how many rounds one after the other show that the network drops
// packets, before that is believed. A busy node may be late.
const blockedRounds = 3

// unknownRounds is how many rounds nobody answers before the network is taken to let all
// pass: the other nodes have no agent that answers, or none is there.
const unknownRounds = 5

// judge is what is known of one family. The zero value knows nothing.
type judge struct {
	unheard, blocked int
	why              string
	known            bool
}

// add takes in what the nodes answered in one round.
func (j *judge) add(family string, round []heard) {
	missing, some := [kinds]bool{client: true, vip: true}, false
	for _, h := range round {
		if !h[ownAddress] {
			continue
		}
		some = true
		for k := range kinds {
			missing[k] = missing[k] && !h[k]
		}
	}
	switch {
	case !some:
		j.unheard++
		j.known = j.known || j.unheard >= unknownRounds
	case missing[client]:
		j.drops(family, client)
	case missing[vip]:
		j.drops(family, vip)
	default:
		*j = judge{known: true}
	}
}

func (j *judge) drops(family string, k kind) {
	if j.blocked++; j.blocked < blockedRounds {
		return
	}
	j.known, j.why = true, fmt.Sprintf("the network drops what the node sends over %s from addresses of %s: allow its port other source addresses than its own", family, k)
}

// settled reports whether the next round can wait.
func (j *judge) settled() bool { return j.known && (j.blocked == 0 || j.why != "") }

// verdict returns what two families have shown. It is known once both are.
func verdict(v4, v6 *judge) (why string, known bool) {
	if v4.why != "" {
		return v4.why, true
	}
	if v6.why != "" {
		return v6.why, true
	}
	return "", v4.known && v6.known
}

// sources are the addresses of a family that stand for a client and for a VIP: addresses
// of documentation, which nobody has, unless a VIP is known.
func sources(v6 bool, vips []netip.Addr) (c, v netip.Addr) {
	c = netip.AddrFrom4([4]byte{192, 0, 2, 1})
	if v6 {
		c = netip.MustParseAddr("2001:db8::1")
	}
	for _, a := range vips {
		if a.Is6() == v6 {
			return c, a
		}
	}
	return c, c
}
