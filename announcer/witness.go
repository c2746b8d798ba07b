package announcer

import (
	"hash/fnv"
	"slices"
)

// Witnesses is how many nodes write what all nodes know into the API: enough that some
// of them are there when several nodes fail at once.
const Witnesses = 5

// Witness returns a function that reports whether the node self is one of the Witnesses
// of a subject, which is the name of a node or an address. All agents that hold the same
// nodes for alive come to the same witnesses. The loss of a node changes those of few
// subjects. The order of alive does not matter. A node that alive does not name is a
// witness of everything: it stands alone.
func Witness(self string, alive []string) func(subject string) bool {
	// The nodes lie on a circle by their hashes. A subject lies there too, and its
	// witnesses are the nodes that follow it.
	ring := make([]uint64, len(alive))
	for i, node := range alive {
		ring[i] = place(node)
	}
	slices.Sort(ring)
	at, found := slices.BinarySearch(ring, place(self))
	if !found || len(ring) <= Witnesses {
		return func(string) bool { return true }
	}
	return func(subject string) bool {
		first, _ := slices.BinarySearch(ring, place(subject))
		return (at-first+len(ring))%len(ring) < Witnesses
	}
}

// place returns where a name lies on the circle.
func place(name string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(name))
	x := h.Sum64()
	// Names that differ in their last letter alone lie close together after FNV. This
	// spreads them (the finalizer of SplitMix64).
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// Believed reports whether enough agents say that a node is silent, of others that could
// say it. In a small cluster that is more than half of them; in a larger one the
// witnesses alone speak, and more than half of these are enough.
func Believed(say, others int) bool {
	return say > min(others, Witnesses)/2
}
