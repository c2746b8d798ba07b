package announcer

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"net/netip"
	"slices"

	"github.com/fairlead/fairlead/internal/snapshot"
)

// score is a node's rendezvous score for one VIP, a hash of the two: the candidate with
// the highest one owns it. Adding or losing a node moves only the VIPs of that node.
type score [sha256.Size]byte

func (s score) compare(o score) int { return bytes.Compare(s[:], o[:]) }

// ranked returns the indexes of nodes, the one with the highest score for vip
// first. A cluster has fewer than 65,536 nodes.
func ranked(nodes []*snapshot.Node, vip netip.Addr) []uint16 {
	type place struct {
		begins uint64 // of the score: two that begin alike are as rare as two that are alike
		node   uint16
	}
	scores, order := make([]score, len(nodes)), make([]place, len(nodes))
	addr, text := vip.As16(), make([]byte, 0, 16+253) // the longest name of a node
	for i, n := range nodes {
		text = append(append(text[:0], addr[:]...), n.Name...)
		scores[i] = sha256.Sum256(text)
		order[i] = place{binary.BigEndian.Uint64(scores[i][:]), uint16(i)} //nolint:gosec // bounded, see above
	}
	slices.SortFunc(order, func(a, b place) int {
		// Whole scores made the ranking most of the 66 ms of a page with 1,000 Services and 200 nodes.
		if a.begins != b.begins {
			return cmp.Compare(b.begins, a.begins)
		}
		return scores[b.node].compare(scores[a.node])
	})
	out := make([]uint16, len(nodes))
	for i, p := range order {
		out[i] = p.node
	}
	return out
}
