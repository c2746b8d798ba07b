package announcer

import (
	"bytes"
	"crypto/sha256"
	"net/netip"
	"slices"

	"github.com/fairlead/fairlead/internal/snapshot"
)

// score orders the nodes for one VIP.
type score [sha256.Size]byte

func (s score) compare(o score) int { return bytes.Compare(s[:], o[:]) }

// rank is a node's rendezvous score for vip: the candidate with the highest one
// owns it. Adding or losing a node moves only the VIPs of that node.
func rank(node string, vip netip.Addr) score {
	b := vip.As16()
	return sha256.Sum256(append(b[:], node...))
}

// ranked returns the indexes of nodes, the one with the highest score for vip
// first. A cluster has fewer than 65,536 nodes.
func ranked(nodes []*snapshot.Node, vip netip.Addr) []uint16 {
	scores, out := make([]score, len(nodes)), make([]uint16, len(nodes))
	for i, n := range nodes {
		scores[i], out[i] = rank(n.Name, vip), uint16(i) //nolint:gosec // bounded, see above
	}
	slices.SortFunc(out, func(a, b uint16) int { return scores[b].compare(scores[a]) })
	return out
}
