package storytest

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/fairlead/fairlead/internal/snapshot"
)

// World is a cluster in memory, made and changed by lines: see the package's
// documentation.
type World struct {
	clock   time.Time
	things  map[thing]*item
	made    map[thing]int // how often it was created
	options map[string]string
	built   *snapshot.Snapshot  // nil: something changed since
	last    []*snapshot.Service // of the last Snapshot
}

// thing is what a line names: an endpoint by Service and address.
type thing struct {
	kind       int // in kinds
	name, more string
}

func (t thing) compare(o thing) int {
	return cmp.Or(cmp.Compare(t.kind, o.kind), cmp.Compare(t.name, o.name), cmp.Compare(t.more, o.more))
}

// item is what lines said of a thing.
type item struct {
	values map[string]string
	born   time.Time
	made   int // 1 for the first thing of this name
	lines  int // how many named it
}

// uid returns the UID of the thing: another one each time that it is created.
func (i *item) uid(name string) string {
	if i.made == 1 {
		return name
	}
	return name + "#" + strconv.Itoa(i.made)
}

// beginning is when a story begins, for created=N.
var beginning = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// NewWorld returns an empty cluster.
func NewWorld() *World {
	return &World{clock: beginning, things: map[thing]*item{}, made: map[thing]int{}, options: map[string]string{}}
}

// kind builds a thing from its attributes.
type kind struct {
	name   string
	second string // the attribute that the second word is, if that word has a "." or ":" and no "="
	build  func(*snapshot.Snapshot, string, *attrs)
}

// kinds are in the order in which they are built.
var kinds = slices.Concat([]kind{
	{"node", "", node},
	{"namespace", "", namespace},
	{"agent", "", agent},
	{"pool", "ranges", pool},
	{"address", "", address},
	{"announcement", "", announcement},
	{"bgppeer", "addr", bgpPeer},
	{"servicecidr", "cidrs", serviceCIDR},
	{"service", "", service},
	{"endpoint", "addr", endpoint},
}, said)

func kindOf(name string) int {
	return slices.IndexFunc(kinds, func(k kind) bool { return k.name == name })
}

// Do runs every line of text.
func (w *World) Do(text string) error {
	for line := range strings.Lines(text) {
		ws, err := words(line)
		if err == nil && len(ws) > 0 && !strings.HasPrefix(ws[0], "#") {
			w.clock = w.clock.Add(time.Second)
			err = w.do(ws)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", strings.TrimSpace(line), err)
		}
	}
	_, err := w.Snapshot()
	return err
}

func (w *World) do(ws []string) error {
	w.built = nil
	verb, rest := ws[0], ws[1:]
	switch at := kindOf(verb); {
	case verb == "delete":
		return w.remove(rest)
	case verb == "recreate":
		return w.recreate(rest)
	case verb == "option":
		maps.Copy(w.options, valuesOf(rest))
		return nil
	case at >= 0 && len(rest) > 0:
		return w.edit(at, rest[0], rest[1:])
	}
	return errors.New("want a kind and a name")
}

func (w *World) edit(at int, name string, ws []string) error {
	given := map[string]string{}
	if second := kinds[at].second; second != "" && len(ws) > 0 && strings.ContainsAny(ws[0], ".:") && !strings.Contains(ws[0], "=") {
		given[second], ws = ws[0], ws[1:]
	}
	maps.Copy(given, valuesOf(ws))
	id := thing{kind: at, name: name}
	if kinds[at].name == "endpoint" {
		id.more = given["addr"] + given["port"] + given["proto"]
	}
	held := given["held"]
	delete(given, "held")
	maps.Copy(w.at(id).values, given)
	w.at(id).lines++
	return w.addHolder(id, held)
}

// at returns the item of a thing, which it creates if there is none.
func (w *World) at(id thing) *item {
	w.built = nil
	if w.things[id] == nil {
		w.made[id]++
		w.things[id] = &item{values: map[string]string{}, born: w.clock, made: w.made[id]}
	}
	return w.things[id]
}

// valuesOf reads NAME=VALUE words; a word alone has the value "true".
func valuesOf(ws []string) map[string]string {
	out := map[string]string{}
	for _, word := range ws {
		name, value, ok := strings.Cut(word, "=")
		if !ok {
			value = "true"
		}
		out[name] = value
	}
	return out
}

func (w *World) remove(ws []string) error {
	found := w.find(ws)
	if len(found) == 0 {
		return fmt.Errorf("there is no %s", strings.Join(ws, " "))
	}
	w.built = nil
	for _, id := range found {
		delete(w.things, id)
	}
	return nil
}

func (w *World) recreate(ws []string) error {
	found := w.find(ws)
	if len(found) != 1 {
		return fmt.Errorf("there is no %s", strings.Join(ws, " "))
	}
	values := w.things[found[0]].values
	delete(values, "status")
	delete(w.things, found[0])
	w.at(found[0]).values = values
	return nil
}

// find returns the things of a kind and name; of a Service's endpoints those
// with an address that begins with the third word.
func (w *World) find(ws []string) []thing {
	var out []thing
	for id := range w.things {
		if len(ws) >= 2 && kinds[id.kind].name == ws[0] && id.name == ws[1] && (len(ws) == 2 || strings.HasPrefix(id.more, ws[2])) {
			out = append(out, id)
		}
	}
	return out
}

// Has reports whether a thing of that kind and name is in the cluster.
func (w *World) Has(kind, name string) bool { return len(w.find([]string{kind, name})) > 0 }

// Snapshot returns what a decision sees, sorted. A Service that did not change
// since the last one keeps its pointer.
func (w *World) Snapshot() (*snapshot.Snapshot, error) {
	if w.built != nil {
		return w.built, nil
	}
	s := &snapshot.Snapshot{}
	for _, id := range slices.SortedFunc(maps.Keys(w.things), thing.compare) {
		a := &attrs{item: w.things[id], read: map[string]bool{}}
		kinds[id.kind].build(s, id.name, a)
		if err := a.done(); err != nil {
			return nil, fmt.Errorf("%s %s: %w", kinds[id.kind].name, id.name, err)
		}
	}
	s.Sort()
	for i, svc := range s.Services {
		for _, old := range w.last {
			if old.Ref == svc.Ref && reflect.DeepEqual(old, svc) {
				s.Services[i] = old
			}
		}
	}
	w.built, w.last = s, s.Services
	return s, nil
}

// Alive returns the nodes with agents; the value is false for those that are
// dead.
func (w *World) Alive() map[string]bool {
	out := map[string]bool{}
	w.agents(func(node string, a *attrs) { out[node] = !a.flag("dead") })
	return out
}

// Lacks returns the addresses that the engine of the named node does not hold
// yet.
func (w *World) Lacks(name string) []netip.Addr {
	var out []netip.Addr
	w.agents(func(node string, a *attrs) {
		if node == name {
			out = a.addrs("lacks")
		}
	})
	return out
}

func (w *World) agents(do func(string, *attrs)) {
	for id, it := range w.things {
		if kinds[id.kind].name == "agent" {
			do(id.name, &attrs{item: it, read: map[string]bool{}})
		}
	}
}
