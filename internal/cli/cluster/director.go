package cluster

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/fairlead/fairlead/internal/snapshot"
)

// Directed returns the Services for which Direct is asked, in their order.
func (s *State) Directed() (out []*snapshot.Service) {
	for _, svc := range s.Services {
		if s.Snapshot.Forwarding(svc.Ref) == snapshot.Direct {
			out = append(out, svc)
		}
	}
	return out
}

// Undirected says why the node called name neither passes packets on nor takes those that
// others pass on, "" if it does both.
func (s *State) Undirected(name string) string {
	a := s.NodeState(name)
	switch {
	case a == nil:
		return "it has no agent"
	case a.Director == nil: // it is of an earlier version, or has just started
		return "its agent, of version " + cmp.Or(a.Version, "(none)") + ", does not say that it can"
	case !a.Director.Able:
		return cmp.Or(a.Director.Why, "it did not say why")
	}
	return ""
}

// DirectsWithout says what the director of the node called name does without, "" if nothing.
func (s *State) DirectsWithout(name string) string {
	if a := s.NodeState(name); a != nil && a.Director != nil && a.Director.Able {
		return a.Director.Why
	}
	return ""
}

// Unreached says why the node called to does not get packets of a family that the node
// called from passes on, "" if it gets them.
func (s *State) Unreached(from, to string, family snapshot.Family) string {
	if why := s.Undirected(to); why != "" || from == to {
		return why
	}
	near, far := s.NodeState(from), s.NodeState(to)
	if near != nil && near.Director != nil && slices.Contains(near.Director.Reaches, to) {
		return ""
	}
	if near != nil && slices.ContainsFunc(far.Links, func(l snapshot.Link) bool {
		takes := slices.ContainsFunc(far.Director.Links, func(d snapshot.DirectorLink) bool { return d.Name == l.Name })
		return takes && slices.ContainsFunc(near.Links, func(n snapshot.Link) bool { return shared(n, l, family) })
	}) {
		return ""
	}
	why := "it has no link in an " + family.String() + " network of " + from
	if says := s.DirectsWithout(from); says != "" {
		why += ", whose director says: " + says
	}
	return why
}

// shared reports whether each of two links of different nodes has an address of the family
// in a prefix of the other.
func shared(near, far snapshot.Link, family snapshot.Family) bool {
	return slices.ContainsFunc(near.Prefixes, func(n netip.Prefix) bool {
		return snapshot.FamilyOf(n.Addr()) == family && slices.ContainsFunc(far.Prefixes, func(f netip.Prefix) bool {
			return n.Addr() != f.Addr() && n.Masked().Contains(f.Addr()) && f.Masked().Contains(n.Addr())
		})
	})
}
