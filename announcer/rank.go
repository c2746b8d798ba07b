package announcer

import (
	"bytes"
	"crypto/sha256"
	"net/netip"
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
