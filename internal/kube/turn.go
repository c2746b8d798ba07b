package kube

import (
	"slices"

	"github.com/fairlead/fairlead/internal/snapshot"
)

// perTurn is how much of the Services that changed one Snapshot takes in, in units of the
// pace: some 4,000 ordinary Services. perService is what each costs beside its size.
const (
	perTurn    = 1 << 16
	perService = 16
)

// turn divides what changed, in the order in which it did: what the next Snapshot takes
// in, and what waits for the one after it. Each namespace has the same number of Services
// in a turn, as far as it has so many. A tenant whose Services all change all the time
// delays those of others by one turn, and nothing is left out.
func turn(dirty []*entry) (now, later []*entry) {
	type place struct {
		*entry
		inNamespace int // how many of its namespace are before it
	}
	seen, places, total := map[string]int{}, make([]place, len(dirty)), 0
	for i, e := range dirty {
		places[i] = place{e, seen[e.ref.Namespace]}
		seen[e.ref.Namespace]++
		total += e.cost()
	}
	if total <= perTurn {
		return dirty, nil
	}
	slices.SortStableFunc(places, func(a, b place) int { return a.inNamespace - b.inNamespace })
	taken, spent := map[snapshot.Ref]bool{}, 0
	for _, p := range places {
		if spent += p.cost(); spent > perTurn && len(taken) > 0 {
			break
		}
		taken[p.ref] = true
	}
	for _, e := range dirty {
		if taken[e.ref] {
			now = append(now, e)
		} else {
			later = append(later, e)
		}
	}
	return now, later
}

// cost is about how long it takes to take e in.
func (e *entry) cost() int {
	total := 0
	for _, p := range e.parts {
		total += p.total
	}
	n := perService + min(total, mostEndpoints)
	if e.service != nil {
		n += len(e.service.value.Ports)
	}
	return n
}
