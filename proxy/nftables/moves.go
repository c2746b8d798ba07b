package nftables

import (
	"net/netip"
	"slices"
)

// Move says that the clients that an affinity set remembers for one Frontend belong
// elsewhere, because its slot has another endpoint now, or none. The shell writes them
// into the set To together with the Patch, and takes them out of From afterwards.
type Move struct {
	From, To string // To is empty if their endpoint is gone: they are forgotten
	Key      string // of the Frontend: the keys of its clients end with it
}

// Moves returns where the clients that are remembered belong now. They stay with their
// endpoints while those keep their slots or get others.
func (p *Patch) Moves() []Move {
	var out []Move
	for _, c := range p.changes {
		if c.old == nil || c.old.Affinity == 0 {
			continue
		}
		now := &Slots{}
		if c.new != nil && c.new.Affinity > 0 {
			now = c.new
		}
		by := c.old.by()
		out = moves(out, c.old.key(), variant{by, false}, c.old.cluster.at, now.cluster.at)
		out = moves(out, c.old.key(), variant{by, true}, c.old.local.at, now.local.at)
	}
	return out
}

func moves(out []Move, key string, v variant, old, now []netip.AddrPort) []Move {
	for i, ep := range old {
		if i < len(now) && now[i] == ep || !ep.IsValid() {
			continue
		}
		m := Move{From: v.affinity(i), Key: key}
		if at := slices.Index(now, ep); at >= 0 {
			m.To = v.affinity(at)
		}
		out = append(out, m)
	}
	return out
}
