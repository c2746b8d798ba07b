package allocator

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/fairlead/fairlead/internal/snapshot"
)

// severalGroups is the ShareGroup of an address whose holders do not all have the same
// one: some node has had endpoints of all of those with externalTrafficPolicy Local.
const severalGroups = "several"

// Shares reports whether svc may come to share an address: it has a share key.
func Shares(svc *snapshot.Service) bool {
	return slices.ContainsFunc(shareKeys, func(key string) bool { return strings.TrimSpace(svc.Annotations[key]) != "" })
}

// together reports whether svc may share s as far as externalTrafficPolicy goes. A node
// attracts an address for all its holders, so that one has to serve all of those with
// policy Local. While one of them has no endpoints, nothing speaks against that. Holders
// that share already (staying) are not parted when their pods move: see the Announcer.
func (s *slot) together(svc *service, staying bool) bool {
	return s.group == svc.group || staying && s.record != nil && s.record.ShareGroup == severalGroups || s.common(svc)
}

// common reports whether some node has endpoints of svc and of all holders, as far as
// their policy is Local and they have endpoints.
func (s *slot) common(svc *service) bool {
	f := snapshot.FamilyOf(s.addr)
	nodes := svc.servedOn(f)
	for _, o := range s.holders {
		nodes = intersection(nodes, o.servedOn(f))
	}
	// Where no node has endpoints of all, the elected node would drop what is for the others.
	return nodes == nil || len(nodes) > 0
}

// servedOn returns the nodes that have endpoints of svc, of family f; nil if that binds
// the address to no node.
func (svc *service) servedOn(f snapshot.Family) map[string]bool {
	if svc.ExternalTrafficPolicy != snapshot.PolicyLocal {
		return nil
	}
	var nodes map[string]bool
	for _, e := range svc.Endpoints {
		// As the announcer has it: a node is elected by the same endpoints.
		if !e.Ready && !e.Serving || snapshot.FamilyOf(e.Addr.Addr()) != f {
			continue
		}
		if e.Node == "" {
			return nil // it counts for every node
		}
		if nodes == nil {
			nodes = map[string]bool{}
		}
		nodes[e.Node] = true
	}
	return nodes
}

// intersection returns the nodes in both of a and b; nil stands for all nodes.
func intersection(a, b map[string]bool) map[string]bool {
	switch {
	case a == nil:
		return b
	case b == nil:
		return a
	}
	out := map[string]bool{}
	for n := range a {
		if b[n] {
			out[n] = true
		}
	}
	return out
}

// apart says why svc and the holders of s are not together.
func (s *slot) apart(svc *service) string {
	f := snapshot.FamilyOf(s.addr)
	for _, o := range s.holders {
		if nodes := intersection(svc.servedOn(f), o.servedOn(f)); nodes != nil && len(nodes) == 0 {
			return fmt.Sprintf("and with externalTrafficPolicy Local no node has ready endpoints of %s, which selects %s, and of this Service, which selects %s", o.Ref, selects(o), selects(svc))
		}
	}
	return "and with externalTrafficPolicy Local no node has ready endpoints of all its holders and of this Service"
}

// selects prints the selector of svc.
func selects(svc *service) string {
	if len(svc.Selector) == 0 {
		return "nothing"
	}
	terms := make([]string, 0, len(svc.Selector))
	for _, k := range slices.Sorted(maps.Keys(svc.Selector)) {
		terms = append(terms, k+"="+svc.Selector[k])
	}
	return strings.Join(terms, ",")
}

// groupOf returns what holders have in common: their group, or severalGroups.
func groupOf(holders []*service) string {
	for _, o := range holders[1:] {
		if o.group != holders[0].group {
			// The record says it, or the next decision would part them when their pods move.
			return severalGroups
		}
	}
	return holders[0].group
}
