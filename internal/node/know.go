package node

import (
	"net/netip"
	"time"

	"github.com/fairlead/fairlead/announcer"
	"github.com/fairlead/fairlead/internal/diff"
	"github.com/fairlead/fairlead/internal/snapshot"
)

// How fast agents learn of new Address objects, and tell each other how far they are. All of
// them tell it to all, so in a large cluster each does so less often.
const (
	lackAfter   = time.Second           // an agent may be that late
	tellForEach = 10 * time.Millisecond // how long an agent waits to tell more, for each node
	tellMost    = 10 * time.Second      // at most
)

// tellEvery is how long an agent in a cluster of some nodes waits to tell more.
func tellEvery(nodes int) time.Duration {
	return min(time.Duration(nodes)*tellForEach, tellMost)
}

// passOverAfter is how long an agent may lack an address: its next word has come by then.
func passOverAfter(nodes int) time.Duration { return lackAfter + 2*tellEvery(nodes) }

// following is how far the agents have followed the cluster's Address objects.
type following struct {
	began bool                // a decision was made
	told  announcer.Knowledge // what this node said last
	at    time.Time           // when
	lags  map[string]lag      // by node: those that lack something

	counted   bool                // the next two are known
	addresses []*snapshot.Address // of the last decision
	knows     announcer.Knowledge // announcer.KnowledgeOf these
}

// know returns announcer.KnowledgeOf the cluster's Address objects, which seldom change.
func (f *following) know(addresses []*snapshot.Address) announcer.Knowledge {
	if !f.counted || !diff.Same(f.addresses, addresses) {
		f.counted, f.addresses, f.knows = true, addresses, announcer.KnowledgeOf(addresses)
	}
	return f.knows
}

// lag is since when an agent lacks something. One that learns begins a new lag.
type lag struct {
	knows announcer.Knowledge
	since time.Time
}

// tell returns what to tell of this node, and when to tell more.
func (f *following) tell(in Inputs) (announcer.Knowledge, time.Time) {
	knows := f.know(in.Snapshot.Addresses)
	due := f.at.Add(tellEvery(len(in.Snapshot.Nodes)))
	switch {
	case knows == f.told:
		return knows, time.Time{}
	case in.Now.Before(due):
		return f.told, due
	}
	f.told, f.at = knows, in.Now
	return knows, time.Time{}
}

// lacking returns the addresses that the agents of other nodes have not heard of, by node,
// and when that is to be looked at again. An agent whose words come late does not count: all
// others would take for a moment what is that node's. When this agent starts, it cannot know
// how long others have lacked what they lack, and takes it for long.
func (f *following) lacking(in Inputs) (lacks map[string]map[netip.Addr]bool, until time.Time) {
	lags, all := map[string]lag{}, f.know(in.Snapshot.Addresses)
	by := map[announcer.Knowledge]map[netip.Addr]bool{} // most that lag have come equally far
	for _, m := range in.View.Members {
		if m.Report == nil || m.Node == in.Node || !m.Report.Knows.Behind(all) {
			continue
		}
		of, known := by[m.Report.Knows]
		if !known {
			of = m.Report.Knows.Lacks(in.Snapshot.Addresses)
			by[m.Report.Knows] = of
		}
		l, known := f.lags[m.Node]
		// It learns, so what it lacks now may be on its way.
		if !known || l.knows != m.Report.Knows {
			l = lag{knows: m.Report.Knows}
			if f.began {
				l.since = in.Now
			}
		}
		lags[m.Node] = l
		// An agent that is only late would lose the address and get it back.
		if end := l.since.Add(passOverAfter(len(in.Snapshot.Nodes))); in.Now.Before(end) {
			until = earliest(until, end)
			continue
		}
		if lacks == nil {
			lacks = map[string]map[netip.Addr]bool{}
		}
		lacks[m.Node] = of
	}
	f.began, f.lags = true, lags
	return lacks, until
}
