package apitest

import (
	"maps"
	"slices"

	"k8s.io/client-go/tools/cache"

	"github.com/fairlead/fairlead/internal/kube"
)

// kind is all objects of one kind, whichever it is.
type kind interface {
	name() string
	current() map[string]any
	restore(map[string]any)
}

func (s *objects[T, L]) name() string { return s.kind.Resource }

func (s *objects[T, L]) current() map[string]any {
	out := make(map[string]any, len(s.all))
	for id, o := range s.all {
		out[id] = o
	}
	return out
}

func (s *objects[T, L]) restore(all map[string]any) {
	clear(s.all)
	for id, o := range all {
		s.all[id] = o.(T)
	}
}

// Follower brings the changes of the server to a Store when it is told to: each kind
// of object at its own pace, as informers do.
type Follower struct {
	api   *API
	store *kube.Store
	known map[string]map[string]any // what it has brought, by kind and key
	queue map[string][]event
}

// event is a change of one object, or a new list of all of them.
type event struct {
	id   string
	obj  any // nil: deleted
	list map[string]any
}

// Follow makes a Follower that has brought nothing so far.
func (a *API) Follow(store *kube.Store) *Follower {
	f := &Follower{api: a, store: store, known: map[string]map[string]any{}, queue: map[string][]event{}}
	a.followers = append(a.followers, f)
	f.Relist()
	return f
}

// tell brings a change to the Store of the server, and notes it for the followers.
func (a *API) tell(kind, id string, obj any) {
	if a.Store != nil && obj != nil {
		a.Store.OnUpdate(nil, obj)
	}
	for _, f := range a.followers {
		f.queue[kind] = append(f.queue[kind], event{id: id, obj: obj})
	}
}

// Relist forgets what is under way and notes lists of all kinds instead, as after a
// lost connection.
func (f *Follower) Relist() {
	clear(f.queue)
	for _, k := range f.api.kinds {
		f.queue[k.name()] = []event{{list: k.current()}}
	}
}

// Behind lists the kinds with changes that have not been brought yet.
func (f *Follower) Behind() []string {
	return slices.Sorted(maps.Keys(f.queue))
}

// Bring brings up to n changes of one kind.
func (f *Follower) Bring(kind string, n int) {
	for range min(n, len(f.queue[kind])) {
		e := f.queue[kind][0]
		if f.queue[kind] = f.queue[kind][1:]; len(f.queue[kind]) == 0 {
			delete(f.queue, kind)
		}
		if f.known[kind] == nil {
			f.known[kind] = map[string]any{}
		}
		if e.list == nil {
			f.one(f.known[kind], e.id, e.obj, false)
			continue
		}
		for _, id := range slices.Sorted(maps.Keys(f.known[kind])) {
			if e.list[id] == nil {
				f.one(f.known[kind], id, nil, true)
			}
		}
		for _, id := range slices.Sorted(maps.Keys(e.list)) {
			f.one(f.known[kind], id, e.list[id], true)
		}
	}
}

// one tells the Store of one object as an informer does.
func (f *Follower) one(known map[string]any, id string, obj any, listed bool) {
	old := known[id]
	switch {
	case obj == nil && old == nil:
	case obj == nil && !listed:
		delete(known, id)
		f.store.OnDelete(old)
	case obj == nil:
		delete(known, id)
		f.store.OnDelete(cache.DeletedFinalStateUnknown{Key: id, Obj: old})
	case old == nil:
		known[id] = obj
		f.store.OnAdd(obj, false)
	default:
		known[id] = obj
		f.store.OnUpdate(old, obj)
	}
}

// BringAll brings everything.
func (f *Follower) BringAll() {
	for _, k := range f.Behind() {
		f.Bring(k, len(f.queue[k]))
	}
}

// Backup is what the server held at one moment.
type Backup struct{ kinds map[string]map[string]any }

// Backup returns what the server holds.
func (a *API) Backup() *Backup {
	b := &Backup{kinds: map[string]map[string]any{}}
	for _, k := range a.kinds {
		b.kinds[k.name()] = k.current()
	}
	return b
}

// Restore makes the server hold what it held then, in the resource versions of then;
// later versions get numbers that have not been used. The followers list everything
// again.
func (a *API) Restore(b *Backup) {
	for _, k := range a.kinds {
		k.restore(b.kinds[k.name()])
	}
	for _, f := range a.followers {
		f.Relist()
	}
}
