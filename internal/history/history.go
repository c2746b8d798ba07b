// Package history keeps what happened to addresses and nodes: a bounded list of entries
// that people read after the fact. Following a cluster is a function of what was seen
// before and of the cluster now.
package history

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/fairlead/fairlead/internal/plain"
	"github.com/fairlead/fairlead/internal/snapshot"
)

// Kind is what happened.
type Kind string

// The kinds. Each that is a fault has its end.
const (
	Announced   Kind = "Announced"   // nobody announced the address before
	Moved       Kind = "Moved"       // another node announces it
	Withdrawn   Kind = "Withdrawn"   // nobody announces it any longer
	Conflict    Kind = "Conflict"    // a foreign host answers for it
	NoConflict  Kind = "NoConflict"  // and stopped
	NodeSilent  Kind = "NodeSilent"  // the other agents do not hear a node's agent
	NodeHeard   Kind = "NodeHeard"   // and hear it again
	NotInSync   Kind = "NotInSync"   // a node's engine does not hold its table
	InSyncAgain Kind = "InSyncAgain" // and does again
)

// Fault reports whether the kind is one that somebody should look at.
func (k Kind) Fault() bool {
	return k == Withdrawn || k == Conflict || k == NodeSilent || k == NotInSync
}

// Entry is one thing that happened at time At: that an address is announced, by the clock
// of the node that announces it; else by that of the controller that saw it.
type Entry struct {
	At      time.Time `json:"at"`
	Kind    Kind      `json:"kind"`
	Address string    `json:"address,omitempty"`
	Service string    `json:"service,omitempty"` // one of its holders, as namespace/name
	From    string    `json:"from,omitempty"`    // the node that announced it before
	Node    string    `json:"node,omitempty"`    // the node that announces it now, or that it is about
	Cause   string    `json:"cause,omitempty"`
	// Gap is how long nobody announced the address at least, as far as the nodes' words
	// show it; 0 if the former announcer handed it over, nil if nothing shows it.
	Gap *time.Duration `json:"gap,omitempty"`
	// Within is how long nobody announced it at most, as the node measured that took the
	// address from one that died; 0 if none did.
	Within time.Duration `json:"within,omitempty"`
}

// String says it in a sentence.
func (e Entry) String() string {
	text := ""
	switch e.Kind {
	case Announced:
		text = fmt.Sprintf("%s announces %s", e.Node, e.Address)
	case Moved:
		text = fmt.Sprintf("%s moved from %s to %s", e.Address, e.From, e.Node)
	case Withdrawn:
		text = fmt.Sprintf("nobody announces %s; %s did", e.Address, e.From)
	case Conflict:
		text = fmt.Sprintf("a foreign host answers for %s", e.Address)
	case NoConflict:
		text = fmt.Sprintf("no foreign host answers for %s any longer", e.Address)
	case NodeSilent:
		text = fmt.Sprintf("the other agents do not hear %s", e.Node)
	case NodeHeard:
		text = fmt.Sprintf("the other agents hear %s again", e.Node)
	case NotInSync:
		text = fmt.Sprintf("the engine of %s is not in sync", e.Node)
	case InSyncAgain:
		text = fmt.Sprintf("the engine of %s is in sync again", e.Node)
	}
	if e.Cause != "" {
		text += ": " + e.Cause
	}
	return text
}

// Measured returns the gap in words; "" if none was measured.
func (e Entry) Measured() string {
	switch {
	case e.Within > 0:
		return "gap of at most " + e.Within.Round(time.Millisecond).String()
	case e.Gap == nil:
		return ""
	case *e.Gap <= 0:
		return "no gap"
	}
	return "gap of at least " + e.Gap.Round(time.Millisecond).String()
}

// Most is how many entries a Record has at most: about 200 bytes each.
const Most = 500

// Record is the list, oldest first, and what Follow saw last.
type Record struct {
	Entries []Entry         `json:"entries,omitempty"`
	Seen    map[string]Seen `json:"seen,omitempty"` // by address
	Nodes   map[string]Node `json:"nodes,omitempty"`
}

// Seen is what was seen of one address.
type Seen struct {
	Node     string    `json:"node,omitempty"` // that announced it last
	Since    time.Time `json:"since,omitzero"` // when that node began
	Until    time.Time `json:"until,omitzero"` // when it was seen to have stopped; zero: it announces
	Conflict string    `json:"conflict,omitempty"`
}

// Node is what was seen of one node; none is kept of one in order.
type Node struct {
	Silent    bool `json:"silent,omitempty"`
	NotInSync bool `json:"notInSync,omitempty"`
}

// Read returns the Record in data, and an empty one if it cannot be read.
func Read(data string) *Record {
	r := &Record{}
	if json.Unmarshal([]byte(data), r) != nil {
		r = &Record{}
	}
	return r
}

// mostBytes is what a Record may have as text; an object of the API server has a MiB.
const mostBytes = 700_000

// Write is the reverse of Read. What was seen of so many addresses that an object has no
// room for it is left out: then moves that nobody saw are not known after a restart.
func (r *Record) Write() (string, error) {
	data, err := json.Marshal(r)
	if err == nil && len(data) > mostBytes {
		data, err = json.Marshal(&Record{Entries: r.Entries})
	}
	if err != nil {
		return "", fmt.Errorf("history: %w", err)
	}
	return string(data), nil
}

// Follow takes in what s shows at time now, and reports whether the record changed. Who
// announces an address counts only once it was seen to differ: the first Follow of an
// empty Record adds no entries.
func (r *Record) Follow(s *snapshot.Snapshot, now time.Time) bool {
	f := following{Record: r, snapshot: s, now: now, first: r.Seen == nil, silent: silent(s)}
	if f.first {
		r.Seen, r.Nodes = map[string]Seen{}, map[string]Node{}
	}
	if r.Nodes == nil {
		r.Nodes = map[string]Node{}
	}
	f.nodes()
	f.addresses()
	slices.SortStableFunc(r.Entries, func(a, b Entry) int { return a.At.Compare(b.At) })
	if n := len(r.Entries) - Most; n > 0 {
		r.Entries = slices.Delete(r.Entries, 0, n)
	}
	return f.changed
}

// following is one Follow under way.
type following struct {
	*Record
	snapshot *snapshot.Snapshot
	now      time.Time
	first    bool
	silent   map[string]string // verdict, by node
	changed  bool
}

// silent returns the nodes that more than half of the witnesses, or the only one, do not hear.
func silent(s *snapshot.Snapshot) map[string]string {
	by, verdict := map[string]int{}, map[string]string{}
	for _, a := range s.NodeStates {
		for _, m := range a.Silent {
			by[m.Node]++
			verdict[m.Node] = cmp.Or(m.Verdict, verdict[m.Node])
		}
	}
	most := min(2, len(s.NodeStates)-1) // two witnesses, where there are two
	out := map[string]string{}
	for node, n := range by {
		if n >= max(1, most) {
			out[node] = verdict[node]
		}
	}
	return out
}

func (f *following) add(e Entry) {
	f.changed = true
	if f.first {
		return
	}
	e.Cause = plain.Cut(e.Cause, 200)
	f.Entries = append(f.Entries, e)
}

func (f *following) nodes() {
	there := map[string]bool{}
	for _, a := range f.snapshot.NodeStates {
		there[a.Node] = true
		verdict, gone := f.silent[a.Node]
		was, is := f.Nodes[a.Node], Node{Silent: gone, NotInSync: !a.InSync}
		switch {
		case is.Silent && !was.Silent:
			f.add(Entry{At: f.now, Kind: NodeSilent, Node: a.Node, Cause: verdict})
		case !is.Silent && was.Silent:
			f.add(Entry{At: f.now, Kind: NodeHeard, Node: a.Node})
		}
		switch {
		case is.Silent:
			is.NotInSync = was.NotInSync // nobody knows
		case is.NotInSync && !was.NotInSync:
			f.add(Entry{At: f.now, Kind: NotInSync, Node: a.Node, Cause: a.Engine.Message})
		case !is.NotInSync && was.NotInSync:
			f.add(Entry{At: f.now, Kind: InSyncAgain, Node: a.Node})
		}
		if is == (Node{}) {
			delete(f.Nodes, a.Node)
		} else {
			f.Nodes[a.Node] = is
		}
	}
	for node := range f.Nodes {
		if !there[node] {
			delete(f.Nodes, node)
			f.changed = true
		}
	}
}

// word is what the nodes say of one address.
type word struct {
	node    string
	since   time.Time
	gap     time.Duration // that the node measured
	leaving []string      // nodes that hand it over
}

// words collects what nodes that are heard say. Of several, the one that began last
// counts: the others withdraw.
func (f *following) words() map[netip.Addr]word {
	out := map[netip.Addr]word{}
	for _, a := range f.snapshot.NodeStates {
		if _, gone := f.silent[a.Node]; gone {
			continue
		}
		for _, v := range a.Announces {
			w := out[v.Addr]
			switch {
			case v.Leaving:
				w.leaving = append(w.leaving, a.Node)
			case w.node == "" || v.Since.After(w.since):
				w.node, w.since, w.gap = a.Node, v.Since, v.Gap
			}
			out[v.Addr] = w
		}
	}
	return out
}

func (f *following) addresses() {
	words := f.words()
	held := map[string]bool{}
	for _, a := range f.snapshot.Addresses {
		if len(a.Holders) == 0 {
			continue // it cools down: as if there were no record
		}
		key := a.Addr.String()
		held[key] = true
		e := Entry{Address: key, Service: a.Holders[0].Ref.String()}
		was, known := f.Seen[key]
		is := f.announcer(was, words[a.Addr], e)
		f.conflict(&is, a.Conflict, e)
		if is != was || !known {
			f.Seen[key], f.changed = is, true
		}
	}
	for key := range f.Seen {
		if !held[key] {
			delete(f.Seen, key)
			f.changed = true
		}
	}
}

// announcer adds an entry if another node announces the address than before.
func (f *following) announcer(was Seen, now word, e Entry) Seen {
	is := was
	switch {
	case now.node == "" && was.Node != "" && was.Until.IsZero() && !slices.Contains(now.leaving, was.Node):
		is.Until = f.now
		e.At, e.Kind, e.From, e.Cause = is.Until, Withdrawn, was.Node, f.cause(was.Node)
		f.add(e)
	case now.node == "" || now.node == was.Node && was.Until.IsZero():
	default:
		is.Node, is.Since, is.Until = now.node, now.since, time.Time{}
		e.At, e.Kind, e.From, e.Node = f.now, Moved, was.Node, now.node
		// A node that had the address all the while, beside was, began and measured
		// long ago.
		if now.since.After(was.Since) {
			e.At, e.Within = now.since, now.gap
		}
		switch was.Node {
		case "":
			e.Kind = Announced
		case now.node:
			e.Kind, e.From, e.Gap = Announced, "", between(was.Until, e.At)
		default:
			e.Cause, e.Gap = f.cause(was.Node), gap(was, now, e.At)
		}
		f.add(e)
	}
	return is
}

// gap returns how long nobody announced the address, from when the withdrawal was seen.
// A node that is replaced before it says anything leaves no time behind: then nothing is
// measured.
func gap(was Seen, now word, at time.Time) *time.Duration {
	switch {
	case slices.Contains(now.leaving, was.Node):
		return new(time.Duration)
	case was.Until.IsZero():
		return nil
	}
	return between(was.Until, at)
}

func between(from, to time.Time) *time.Duration {
	d := max(0, to.Sub(from))
	return &d
}

// cause says why node does not announce any longer.
func (f *following) cause(node string) string {
	a := f.snapshot.NodeState(node)
	verdict, gone := f.silent[node]
	switch {
	case gone:
		return node + " is not heard (" + verdict + ")"
	case a == nil:
		return node + " is no longer in the cluster"
	case a.Draining:
		if why := a.DrainsFor.String(); why != "" {
			return node + " is draining (" + why + ")"
		}
		return node + " is draining"
	case !a.InSync:
		return "the engine of " + node + " is not in sync"
	}
	return "another node is preferred"
}

// conflict adds an entry if a foreign host begins or ends to answer.
func (f *following) conflict(is *Seen, mac string, e Entry) {
	if is.Conflict == mac {
		return
	}
	e.At, e.Kind, e.Cause = f.now, Conflict, "its MAC address is "+mac
	if mac == "" {
		e.Kind, e.Cause = NoConflict, ""
	}
	is.Conflict = mac
	f.add(e)
}
