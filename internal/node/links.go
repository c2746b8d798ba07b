package node

import (
	"net/netip"
	"slices"
	"time"

	"github.com/fairlead/fairlead/announcer"
	"github.com/fairlead/fairlead/internal/snapshot"
)

// linkHealth is since when each link of this node, by index, has been there. The zero time
// is a link that need not prove itself any more.
type linkHealth map[int]time.Time

// next returns those of in.Links on which this node may be elected at layer 2, and when
// there may be more. A link that has come back is as a node that has: the others keep what
// they have taken over for announcer.SettleAfter. The port of a switch may not forward for
// half of that. A link on which others miss this node is not there. Where nobody else has such a link, nobody would answer meanwhile.
func (was linkHealth) next(in Inputs) (links []snapshot.Link, health linkHealth, until time.Time) {
	health = make(linkHealth, len(in.Links))
	for _, l := range in.Links {
		since, known := was[l.Index]
		lost := slices.Contains(in.Reach.Lost[in.Node], l.Name)
		if lost || !known && was != nil { // else the agent starts, and its node settles as a whole
			since = in.Now
		}
		// Where nobody else has such a link, nobody would answer for that minute.
		end := since.Add(announcer.SettleAfter)
		if since.IsZero() || !in.Now.Before(end) || !alsoElsewhere(l, in.View) {
			health[l.Index], links = time.Time{}, append(links, l)
			continue
		}
		health[l.Index], until = since, earliest(until, end)
	}
	if len(links) == len(in.Links) {
		links = in.Links // one list, so that the next decision sees that it is the same
	}
	return links, health, until
}

// alsoElsewhere reports whether another node that may be elected has a link with a prefix of l.
func alsoElsewhere(l snapshot.Link, v announcer.View) bool {
	return slices.ContainsFunc(v.Members, func(m announcer.Member) bool {
		return m.Node != v.Node && m.Candidate && m.Report != nil && slices.ContainsFunc(m.Report.Links, func(far snapshot.Link) bool {
			return slices.ContainsFunc(far.Prefixes, func(p netip.Prefix) bool { return slices.ContainsFunc(l.Prefixes, p.Overlaps) })
		})
	})
}

// takes returns what this node says of its director, without the links on which others miss
// it. The link by which its agent speaks stays: the others find out themselves, and the
// connections there are to go on as soon as the link does.
func takes(in Inputs) *snapshot.DirectorState {
	lost, me := in.Reach.Lost[in.Node], in.View.Member(in.Node)
	if in.Director == nil || len(lost) == 0 {
		return in.Director
	}
	out := *in.Director
	out.Links = slices.DeleteFunc(slices.Clone(out.Links), func(d snapshot.DirectorLink) bool {
		// For a minute after a link failed the others took the node for one that is not reached, and reset
		// its connections: 68 of 200 in the lab, after a tenth of a second without the other nodes.
		speaks := me != nil && slices.ContainsFunc(in.Links, func(l snapshot.Link) bool { return l.Name == d.Name && l.Contains(me.Addr.Addr()) })
		return slices.Contains(lost, d.Name) && !speaks
	})
	return &out
}
