package kube

import (
	"cmp"
	"math"
	"slices"

	"github.com/fairlead/fairlead/internal/snapshot"
)

// bytesPerEndpoint is what an agent may take of memory for one endpoint of a Service, its
// Table and its garbage included. It is more than was measured with 50,000 Services of five
// endpoints: an agent under the chart's limit has room for 272,000 of them.
const bytesPerEndpoint = 1180

// EndpointsWithin returns for how many endpoints an agent has room that may take so many
// bytes of memory; 0 for any number.
func EndpointsWithin(bytes int64) int {
	if bytes <= 0 || bytes == math.MaxInt64 {
		return 0
	}
	return int(bytes / bytesPerEndpoint)
}

// room is what the Services of each namespace take of the endpoints that there is room
// for. As long as there is room for all, a namespace may have any number.
type room struct {
	most  int // of all Services; 0: any number
	total int
	taken map[string]int  // by namespace
	cut   map[string]bool // namespaces that have more than their share
}

// share is how many endpoints one namespace may have.
func (r *room) share() int {
	if r.most == 0 || r.total <= r.most {
		return math.MaxInt
	}
	return r.most / 2
}

func (r *room) add(namespace string, n int) {
	r.total += n
	if r.taken[namespace] += n; r.taken[namespace] == 0 {
		delete(r.taken, namespace)
	}
}

// weigh brings up to date what each namespace takes. It has those Services built that are
// beyond the share of their namespace from now on, or are not any more.
func (b *Builder) weigh() {
	changed := map[string]bool{}
	for _, e := range b.dirty {
		e.beyond = e.beyond && e.service != nil // one of the same name may come
		if n := e.weight(); n != e.weighed {
			b.room.add(e.ref.Namespace, n-e.weighed)
			e.weighed, changed[e.ref.Namespace] = n, true
		}
	}
	share := b.room.share()
	for namespace := range b.room.cut {
		if b.room.taken[namespace] <= share {
			b.cutTo(namespace, share)
		}
	}
	if share == math.MaxInt {
		return
	}
	for namespace, n := range b.room.taken {
		if n > share && (changed[namespace] || !b.room.cut[namespace]) {
			b.cutTo(namespace, share)
		}
	}
}

// weight is how many endpoints of a Service are read.
func (e *entry) weight() int {
	if e.service == nil {
		return 0
	}
	return min(totalOf(e.parts), mostEndpoints)
}

// cutTo leaves the endpoints out of the youngest Services of a namespace, so that the
// others have share together.
func (b *Builder) cutTo(namespace string, share int) {
	var all []*entry
	for _, e := range b.services {
		if e.ref.Namespace == namespace && e.service != nil {
			all = append(all, e)
		}
	}
	slices.SortFunc(all, func(x, y *entry) int {
		return cmp.Or(x.service.value.Created.Compare(y.service.value.Created), x.ref.Compare(y.ref))
	})
	taken := 0
	delete(b.room.cut, namespace)
	for _, e := range all {
		taken += e.weighed
		beyond := taken > share
		if beyond {
			b.room.cut[namespace] = true
		}
		if e.beyond != beyond {
			e.beyond = beyond
			b.touch(e)
		}
	}
}

// endpoints returns the endpoints of a Service, and what is left out: "" for nothing.
func (e *entry) endpoints(ports []snapshot.Port) ([]snapshot.Endpoint, string) {
	if e.beyond {
		return nil, snapshot.NoRoom
	}
	return boundedUnion(ports, e.parts)
}
