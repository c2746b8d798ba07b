package bgp

import (
	"maps"
	"net/netip"
	"reflect"
	"slices"

	"github.com/fairlead/fairlead/announcer"
	"github.com/fairlead/fairlead/internal/snapshot"
)

// Decider is Decide with a memory: it returns the last Plan while nothing
// changed that Decide reads. The result never depends on the memory, and must
// not be changed.
type Decider struct {
	in   Input
	plan Plan
}

// Decide is like the function Decide.
func (d *Decider) Decide(in Input) Plan {
	if d.in.Snapshot == nil || !d.knows(in) {
		d.plan = Decide(in)
	}
	d.in = in
	d.in.Passwords = maps.Clone(in.Passwords)
	return d.plan
}

// knows reports whether in holds nothing new that Decide reads.
func (d *Decider) knows(in Input) bool {
	c := in.Changes.From(d.in.Snapshot, in.Snapshot)
	if c.Nodes || c.Pools || c.Announcements || c.BGPPeers || len(c.Addresses) > 0 || d.in.Node != in.Node || d.in.Retreating != in.Retreating {
		return false
	}
	// By identity, as it may have thousands of VIPs: a map is not changed once it was given.
	if reflect.ValueOf(d.in.Ready).Pointer() != reflect.ValueOf(in.Ready).Pointer() || !maps.Equal(d.in.Passwords, in.Passwords) {
		return false
	}
	if !slices.Equal(d.in.Routers, in.Routers) {
		return false
	}
	if d.in.Self.Draining != in.Self.Draining || d.in.Self.DrainsFor != in.Self.DrainsFor || !reflect.DeepEqual(d.in.Self.Links, in.Self.Links) || !slices.Equal(d.in.Self.Unforwarded, in.Self.Unforwarded) {
		return false
	}
	for _, ref := range c.Services {
		if !sameService(d.in.Snapshot.Service(ref), in.Snapshot.Service(ref), in.Node) {
			return false
		}
	}
	return true
}

// sameService reports whether Decide reads the same of two versions of a
// Service: pods that come and go change it only with the first and the last.
func sameService(a, b *snapshot.Service, node string) bool {
	if a == nil || b == nil {
		return a == b
	}
	if a.UID != b.UID || a.Type != b.Type || a.ExternalTrafficPolicy != b.ExternalTrafficPolicy || !maps.Equal(a.Labels, b.Labels) {
		return false
	}
	for _, of := range []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()} {
		x, y := []*snapshot.Service{a}, []*snapshot.Service{b}
		if announcer.HasEndpoint(x, of) != announcer.HasEndpoint(y, of) || announcer.LocalEndpoints(x, of, node) != announcer.LocalEndpoints(y, of, node) {
			return false
		}
	}
	return true
}
