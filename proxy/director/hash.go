package director

import (
	"encoding/binary"
	"hash/fnv"
	"net/netip"
)

// Seed is the cluster's own number in every hash, so that nobody outside can choose
// flows of one slot. All nodes have the same one, for as long as the cluster lives: with
// another seed every connection has another slot.
type Seed uint64

// SeedOf is the Seed of a cluster: of the UID of its namespace kube-system, which lasts as
// long as the cluster does, and which nobody outside knows.
func SeedOf(uid string) Seed {
	h := fnv.New64a()
	_, _ = h.Write([]byte(uid)) // it never fails
	return Seed(h.Sum64())
}

// mix is the finalizer of MurmurHash3 for 64 bits: each bit of x changes half of the
// result's bits.
func mix(x uint64) uint64 {
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	x *= 0xc4ceb9fe1a85ec53
	return x ^ x>>33
}

// Flow is what a packet's hash is made of, as the client sends it. The source port is 0
// where a Service has session affinity: then a client has one slot. In a range of ports the
// port of Frontend is 0 as well then.
type Flow struct {
	Proto            uint8 // IANA number: 6 TCP, 17 UDP
	Source, Frontend netip.AddrPort
}

// Hash is the flow's hash. Only the upper 32 bits name a slot.
func (s Seed) Hash(f Flow) uint64 {
	h := mix(uint64(s) ^ uint64(f.Proto)<<32 ^ uint64(f.Source.Port())<<16 ^ uint64(f.Frontend.Port()))
	h = hashAddr(h, f.Source.Addr())
	return hashAddr(h, f.Frontend.Addr())
}

func hashAddr(h uint64, a netip.Addr) uint64 {
	if a.Is4() {
		b := a.As4()
		return mix(h ^ uint64(binary.BigEndian.Uint32(b[:])))
	}
	b := a.As16()
	return mix(mix(h^binary.BigEndian.Uint64(b[:8])) ^ binary.BigEndian.Uint64(b[8:]))
}

// hashName is a node's part in every score.
func (s Seed) hashName(name string) uint64 {
	h := mix(uint64(s) + uint64(len(name)))
	for b := []byte(name); len(b) > 0; b = b[min(8, len(b)):] {
		var word [8]byte
		copy(word[:], b)
		h = mix(h ^ binary.BigEndian.Uint64(word[:]))
	}
	return h
}
