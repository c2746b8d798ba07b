package announcer

import (
	"net/netip"

	"github.com/fairlead/fairlead/internal/snapshot"
)

// Knowledge is how far an agent has followed the cluster's Address objects: up to the newest.
// The zero value is an agent that does not say it.
type Knowledge struct {
	Newest uint64 // when the newest was made, in seconds since 1970 by the API server's clock; 0: there is none
	Count  uint64 // one more than how many were made in that second
}

// KnowledgeOf returns what an agent knows that follows addresses.
func KnowledgeOf(addresses []*snapshot.Address) Knowledge {
	k := Knowledge{Count: 1}
	for _, a := range addresses {
		switch made := madeAt(a); {
		case made > k.Newest:
			k = Knowledge{made, 2}
		case made == k.Newest && made > 0:
			k.Count++
		}
	}
	return k
}

// Behind reports whether an agent that knows k lacks some of what one knows that knows all.
func (k Knowledge) Behind(all Knowledge) bool {
	// An agent of version 0.1 does not say what it knows (Count 0). It counts as one that knows all.
	return k.Count > 0 && (k.Newest < all.Newest || k.Newest == all.Newest && k.Count < all.Count)
}

// Lacks returns those of addresses that an agent may not know which knows k, and that are all
// there are; nil if it knows them all. Two that were made in one second cannot be told apart.
func (k Knowledge) Lacks(addresses []*snapshot.Address) (lacks map[netip.Addr]bool) {
	if !k.Behind(KnowledgeOf(addresses)) {
		return nil
	}
	same := uint64(1)
	for _, a := range addresses {
		if made := madeAt(a); made > 0 && made == k.Newest {
			same++
		}
	}
	for _, a := range addresses {
		if made := madeAt(a); made > k.Newest || made > 0 && made == k.Newest && k.Count < same {
			if lacks == nil {
				lacks = map[netip.Addr]bool{}
			}
			lacks[a.Addr] = true
		}
	}
	return lacks
}

// madeAt returns when an Address object was made; 0 if that is not known.
func madeAt(a *snapshot.Address) uint64 {
	// Without a creationTimestamp, as in files, this is the year 1.
	if a.Created.Unix() < 0 {
		return 0
	}
	return uint64(a.Created.Unix())
}
