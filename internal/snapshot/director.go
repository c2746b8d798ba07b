package snapshot

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Forwarding is how connections to a VIP reach pods on other nodes than the VIP's owner.
type Forwarding string

// The ways of forwarding, spelled as the API does.
const (
	// Masquerade: the owner translates a connection, and the pod sees the owner's address.
	Masquerade Forwarding = "Masquerade"
	// Direct: the owner passes packets on unchanged. The pod's node translates them, and
	// answers the client directly.
	Direct Forwarding = "Direct"
)

// AnnotationForwarding is a Service's annotation that names its Forwarding.
const AnnotationForwarding = "fairlead.io/forwarding"

// ParseForwarding reads the value of a Service's annotation. A blank value is "", which
// leaves the choice to the Announcements. It returns false for a word that is not a way.
func ParseForwarding(text string) (Forwarding, bool) {
	switch f := Forwarding(strings.TrimSpace(text)); f {
	case "", Masquerade, Direct:
		return f, true
	}
	return "", false
}

// Forwarding returns what is asked for the Service that ref names. Its annotation counts
// before the Announcements. Without one it is Direct if an Announcement says so that
// selects one of its addresses. A Service with externalTrafficPolicy Local is never
// directed: all its connections stay on the node that they reach.
func (s *Snapshot) Forwarding(ref Ref) Forwarding {
	svc := s.Service(ref)
	switch {
	case svc == nil, svc.Type != LoadBalancer, svc.ExternalTrafficPolicy == PolicyLocal, svc.AllPorts:
		return Masquerade
	case svc.Forwarding != "":
		return svc.Forwarding
	}
	if an := s.DirectBy(svc); an != nil {
		return Direct
	}
	return Masquerade
}

// DirectBy returns the first Announcement that says Direct and selects an address of svc,
// nil if none does.
func (s *Snapshot) DirectBy(svc *Service) *Announcement {
	for _, an := range s.Announcements {
		if an.Forwarding != Direct {
			continue
		}
		for _, in := range svc.Ingress {
			if a := s.Address(in.IP); a != nil && a.Held(svc.Ref, svc.UID) && s.selects(an, a) {
				return an
			}
		}
	}
	return nil
}

// selects reports whether an selects the pool of a, and all Services that hold a.
func (s *Snapshot) selects(an *Announcement, a *Address) bool {
	var pool map[string]string
	if p := s.Pool(a.Pool); p != nil {
		pool = p.Labels
	}
	return an.PoolSelector.Matches(pool) && !slices.ContainsFunc(a.Holders, func(h Holder) bool {
		svc := s.Service(h.Ref)
		return svc != nil && svc.UID == h.UID && !an.ServiceSelector.Matches(svc.Labels)
	})
}

// DirectorState is what a node can do as a part of the director. An agent that has none
// is of an earlier version, which is not able.
type DirectorState struct {
	// Able reports whether the node takes packets that other nodes pass on, and passes on
	// packets itself.
	Able bool
	// Why says why the node is not able, in at most MaxDirectorWhy bytes, or what it does
	// without. Agents do not tell it to each other.
	Why   string
	Links []DirectorLink // that take packets which other nodes pass on, sorted by name
	// Reaches are the nodes of other subnets to which the node passes packets on, sorted: the
	// first MaxDirectorReaches. Agents do not tell it to each other.
	Reaches []string
}

// MaxDirectorReaches is how many names DirectorState.Reaches has at most.
const MaxDirectorReaches = 256

// MaxDirectorWhy is the length of the longest DirectorState.Why, in bytes.
const MaxDirectorWhy = 256

// DirectorLink is a link that takes packets which other nodes pass on.
type DirectorLink struct {
	Name  string
	MAC   string       // lower case with colons
	Addrs []netip.Addr // of the node on that link, those that are not link-local first
}

// String prints all that decisions read of d.
func (d *DirectorState) String() string {
	if d == nil {
		return "no director"
	}
	text := "director"
	if !d.Able {
		text = "unable director"
	}
	for _, l := range d.Links {
		text += fmt.Sprintf(" %s=%s%v", l.Name, l.MAC, l.Addrs)
	}
	return text
}

// DirectorLinks returns those of links that names lists, as a DirectorState has them.
func DirectorLinks(links []Link, names []string) []DirectorLink {
	var out []DirectorLink
	for _, l := range links {
		if l.MAC == "" || !slices.Contains(names, l.Name) {
			continue
		}
		to := DirectorLink{Name: l.Name, MAC: l.MAC}
		for _, p := range l.Prefixes {
			to.Addrs = append(to.Addrs, p.Addr())
		}
		slices.SortStableFunc(to.Addrs, func(a, b netip.Addr) int { return last(a.IsLinkLocalUnicast(), b.IsLinkLocalUnicast()) })
		out = append(out, to)
	}
	slices.SortFunc(out, func(a, b DirectorLink) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// last sorts what is link-local behind what is not.
func last(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	}
	return -1
}
