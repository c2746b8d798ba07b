package nftables

import (
	"net/netip"
)

// clientBuckets is over how many slots the clients of a Frontend with AllPorts are hashed.
// An endpoint has several of them, and those of one that goes are divided among the others.
const clientBuckets = 64

// buckets gives each bucket the endpoint whose hash with it is the highest (rendezvous).
// The endpoints' addresses alone count, on every node alike: so a client has one pod at
// all ports, over all protocols and at all addresses of a Service whose pods serve all of
// its ports. Other pods that come or go leave it there.
func buckets(endpoints []netip.AddrPort) []netip.AddrPort {
	if len(endpoints) == 0 {
		return nil
	}
	hashes := make([]uint64, len(endpoints))
	for i, ep := range endpoints {
		hashes[i] = hashOf(ep.Addr())
	}
	out := make([]netip.AddrPort, clientBuckets)
	for b := range out {
		best, most := 0, uint64(0)
		for i, h := range hashes {
			if score := mix(h + uint64(b)); score > most { //nolint:gosec // an index
				best, most = i, score
			}
		}
		out[b] = endpoints[best]
	}
	return out
}

// hashOf is FNV-1a over the bytes of an address.
func hashOf(a netip.Addr) uint64 {
	h := uint64(14695981039346656037)
	for _, b := range a.AsSlice() {
		h = (h ^ uint64(b)) * 1099511628211
	}
	return mix(h)
}

// mix spreads the bits of x (the finalizer of MurmurHash3).
func mix(x uint64) uint64 {
	x = (x ^ x>>33) * 0xff51afd7ed558ccd
	x = (x ^ x>>33) * 0xc4ceb9fe1a85ec53
	return x ^ x>>33
}
