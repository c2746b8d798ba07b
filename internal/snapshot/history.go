package snapshot

import (
	"net/netip"
	"slices"
)

// history is what the maker of a Snapshot notes in it, so that Diff does not have to
// look for what changed. It holds no other Snapshot.
type history struct {
	of     *Snapshot // whose it is: a copy of the Snapshot may have been changed
	line   *line
	number int       // of the Snapshot in its line
	recent []Changes // each from one Snapshot of the line to the next, up to this one
}

// line is the identity of Snapshots that follow each other.
type line struct{ _ byte }

// mostRecent is over how many Snapshots a history reaches back. A reader that has missed
// more walks.
const mostRecent = 32

// Follows notes that s was made from last, which may be nil, and that c names all that
// differs, or more. Makers of Snapshots call it before others see s.
func (s *Snapshot) Follows(last *Snapshot, c Changes) {
	c.Since = nil
	s.history = &history{of: s, line: &line{}}
	was := last.known()
	if was == nil {
		return
	}
	recent := was.recent[max(0, len(was.recent)+1-mostRecent):]
	s.history.line, s.history.number, s.history.recent = was.line, was.number+1, append(slices.Clip(recent), c)
}

// known returns the history of s, nil if it has none.
func (s *Snapshot) known() *history {
	if s == nil || s.history == nil || s.history.of != s {
		return nil
	}
	return s.history
}

// noted returns what changed from old to now as their maker noted it. It returns false
// if that is not known.
func noted(old, now *Snapshot) (c Changes, ok bool) {
	a, b := old.known(), now.known()
	if a == nil || b == nil || a.line != b.line || b.number < a.number || b.number-a.number > len(b.recent) {
		return c, false
	}
	steps := b.recent[len(b.recent)-(b.number-a.number):]
	for _, step := range steps {
		c.Services, c.Addresses = append(c.Services, step.Services...), append(c.Addresses, step.Addresses...)
	}
	slices.SortFunc(c.Services, Ref.Compare)
	slices.SortFunc(c.Addresses, netip.Addr.Compare)
	// What came and went again did not change.
	c.Services = slices.DeleteFunc(slices.Compact(c.Services), func(r Ref) bool { return old.Service(r) == now.Service(r) })
	c.Addresses = slices.DeleteFunc(slices.Compact(c.Addresses), func(a netip.Addr) bool { return old.Address(a) == now.Address(a) })
	return c, true
}
