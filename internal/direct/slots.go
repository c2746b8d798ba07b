package direct

import (
	"encoding/binary"
	"time"

	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/proxy"
	"github.com/fairlead/fairlead/proxy/director"
)

// history is a table and what was before it. Frontends with the same past share one.
type history struct {
	table  *director.Table
	memory *director.Memory
	// changed is when each slot got its primary, in seconds; nil: long ago.
	changed []uint32
	slots   *director.Slots // without changed
	timed   *director.Slots
}

// step is one change of a Frontend's table.
type step struct {
	from *history // nil: it is new
	to   *director.Table
}

// place gives each Frontend of st its slots.
func (p *Planner) place(in Inputs, st *director.State) {
	tables, past, steps := map[string]*director.Table{}, map[proxy.Key]*history{}, map[step]*history{}
	stale := unsynced(in.View)
	for i := range st.Frontends {
		f := &st.Frontends[i]
		key := keyOf(*f)
		t := p.table(in, tables, members(in.Table.Frontend(key), st.Nodes, stale))
		was := p.history[key]
		now := was
		if was == nil || was.table != t {
			s := step{was, t}
			if now = steps[s]; now == nil {
				now = follow(was, t, in.Now)
				steps[s] = now
			}
		}
		past[key] = now
		if f.Slots = now.slots; key.Protocol == snapshot.UDP {
			f.Slots = now.timedSlots(in.Now)
		}
	}
	p.tables, p.history = tables, past
}

// members are the nodes with as many endpoints as count. What a node without its rules
// has counts only if no other has any.
func members(f *proxy.Frontend, nodes []director.Node, stale map[string]bool) []director.Member {
	out, some := make([]director.Member, len(nodes)), false
	for i, n := range nodes {
		out[i].Name = n.Name
	}
	for _, n := range f.Nodes {
		if i, ok := find(nodes, n.Node); ok && nodes[i].Part != director.AskedLast {
			out[i].Weight = n.Endpoints
			some = some || !stale[n.Node]
		}
	}
	for i := range out {
		if some && stale[out[i].Name] {
			out[i].Weight = 0
		}
	}
	return out
}

// table returns the Table of members. One that the last plan had is the same one.
func (p *Planner) table(in Inputs, tables map[string]*director.Table, list []director.Member) *director.Table {
	seed, _ := Seed(in.Snapshot)
	id := binary.BigEndian.AppendUint64(nil, uint64(seed))
	for _, m := range list {
		id = binary.AppendUvarint(append(append(id, m.Name...), 0), uint64(m.Weight))
	}
	t := tables[string(id)]
	if t == nil {
		t = p.tables[string(id)]
	}
	if t == nil {
		t = director.New(seed, list)
	}
	tables[string(id)] = t
	return t
}

// follow is the history of a Frontend that had was and has t now.
func follow(was *history, t *director.Table, now time.Duration) *history {
	h := &history{table: t}
	if was == nil {
		h.memory = (*director.Memory)(nil).Next(nil, t)
	} else {
		h.memory = was.memory.Next(was.table, t)
		h.changed = changed(was, t, uint32(now/time.Second))
	}
	h.slots = &director.Slots{Chains: t.Chains(h.memory)}
	return h
}

// changed is when the slots of t got their primaries. A slot whose hashes had another
// one has it since now.
func changed(was *history, t *director.Table, now uint32) []uint32 {
	old := was.table
	if len(old.Primary) == 0 || len(t.Primary) == 0 {
		return nil
	}
	out := make([]uint32, len(t.Primary))
	for slot := range out {
		name := t.Members[t.Primary[slot]].Name
		first, last := director.Overlap(slot, len(out), len(old.Primary))
		for at := first; at <= last; at++ {
			if old.Members[old.Primary[at]].Name != name {
				out[slot] = now
			} else if was.changed != nil {
				out[slot] = max(out[slot], was.changed[at])
			}
		}
	}
	return out
}

// timedSlots are the slots with the times that still matter.
func (h *history) timedSlots(now time.Duration) *director.Slots {
	since, latest := uint32(max(0, now-changedFor)/time.Second), uint32(0)
	for _, at := range h.changed {
		latest = max(latest, at)
	}
	if latest <= since {
		return h.slots
	}
	if h.timed == nil {
		h.timed = &director.Slots{Chains: h.slots.Chains, Changed: h.changed}
	}
	return h.timed
}
