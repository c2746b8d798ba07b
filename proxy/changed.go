package proxy

import (
	"iter"
	"slices"

	"github.com/fairlead/fairlead/internal/diff"
)

// history is what a Compiler notes in a Table, so that those who make it true do not
// have to look for what changed. It holds no other Table.
type history struct {
	of      *Table // whose it is: a copy of the Table may have been changed
	id      *id
	since   *id // of the Table before
	changed []pair
}

// id is the identity of a Table that a Compiler made.
type id struct{ _ byte }

// pair is a Frontend before and after; nil if it was not there, or is not.
type pair struct{ was, is *Frontend }

// Changed iterates over the Frontends that are not the same pointer in old and t, in the
// order of a Table, as pairs by Key: the first is nil if the Frontend came, the second if
// it went. It yields what the Compiler noted if it made t right after old. Otherwise it
// walks.
func (t *Table) Changed(old *Table) iter.Seq2[*Frontend, *Frontend] {
	return func(yield func(was, is *Frontend) bool) {
		if noted, ok := t.noted(old); ok {
			for _, p := range noted {
				if !yield(p.was, p.is) {
					return
				}
			}
			return
		}
		for was, is := range diff.Changed(old.Frontends, t.Frontends, byKey) {
			if !yield(deref(was), deref(is)) {
				return
			}
		}
	}
}

func (t *Table) noted(old *Table) ([]pair, bool) {
	a, b := old.history, t.history
	if a == nil || b == nil || a.of != old || b.of != t || b.since != a.id {
		return nil, false
	}
	return b.changed, true
}

func byKey(a, b *Frontend) int { return a.Key.Compare(b.Key) }

func deref(f **Frontend) *Frontend {
	if f == nil {
		return nil
	}
	return *f
}

// note notes in t that gone and come, both sorted, are what changed since the Table
// that left last, which may be nil. It returns what the next Table needs.
func (t *Table) note(last *id, gone, come []*Frontend) *id {
	t.history = &history{of: t, id: &id{}, since: last}
	for was, is := range diff.Sorted(gone, come, byKey) {
		if p := (pair{deref(was), deref(is)}); p.was != p.is {
			t.history.changed = append(t.history.changed, p)
		}
	}
	t.history.changed = slices.Clip(t.history.changed)
	return t.history.id
}
