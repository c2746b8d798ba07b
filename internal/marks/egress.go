// Package marks says which bits of a packet's mark, which routing tables and which places
// among the routing rules belong to which part of fairlead, so that no two use the same.
package marks

// The places of egress among the routing rules, and its routing tables. Its rules are
// before those of other programs and behind the table of local addresses, also where
// Cilium has moved that table to place 100. Each gateway has a table of its own.
const (
	EgressLead  = 105       // leads a pod's packets to the owner of its address
	EgressHold  = 106       // drops those that no owner takes
	EgressTable = 8_000_000 // the first table
	EgressMost  = 1_000_000 // tables
)

// Egress returns the bit of egress, in the marks of packets and in those of connections,
// where the engine's rules use the bit masquerade.
func Egress(masquerade uint32) uint32 {
	const low = 0x1f // from which the numbers of links have four bits
	if masquerade&low != 0 {
		return 0x20
	}
	return 0x10
}
