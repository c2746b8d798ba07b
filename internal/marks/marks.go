// Package marks says which bits of a packet's mark, which routing tables and which places
// among the routing rules belong to which part of fairlead, so that no two use the same.
// docs/networks.md has them in one table, beside those of other programs.
package marks

// The routing table of the link with number 1; those of the next numbers follow. Its
// rules are behind the one of link.Refuse, and before those of other programs. So is the
// rule of what came in by a VRF and is for the node's own routes.
const (
	LinkTable  = 7950
	LinkRule   = 102
	InsideRule = 103
)

// otherTables is where the tables of other parts of fairlead begin. Nobody else has tables
// with such high numbers.
const otherTables = 8_000_000

// Own reports whether a routing table is one that fairlead fills.
func Own(table int) bool {
	return table >= LinkTable && table < LinkTable+MostLinks || table >= otherTables
}

// MostLinks is the highest number of a link. Inside is the number of what came in by a VRF
// and is for the node's own routes.
const (
	MostLinks = 14
	Inside    = 15
)

// A Field is the bits of a mark that hold a number. The zero Field holds none.
type Field [4]uint32

// Links returns the Field for the number of a link, both in a packet's mark and in that
// of a connection. It leaves out the bit that the rules use for masquerading.
func Links(masquerade uint32) (f Field) {
	i := 0
	for bit := uint32(1); i < len(f); bit <<= 1 {
		if bit != masquerade {
			f[i] = bit
			i++
		}
	}
	return f
}

// Mask returns all bits of f.
func (f Field) Mask() uint32 { return f[0] | f[1] | f[2] | f[3] }

// Of returns the mark that holds number n, which is Inside at most.
func (f Field) Of(n int) (mark uint32) {
	for i, bit := range f {
		if n&(1<<i) != 0 {
			mark |= bit
		}
	}
	return mark
}
