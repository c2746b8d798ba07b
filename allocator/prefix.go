package allocator

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/fairlead/fairlead/internal/snapshot"
)

// settle is how long more than half of the nodes must see another prefix before a pool
// follows it, and how long a pool stays with a prefix at least. Nodes hear a router at
// different times, and write what they heard within 10 s in a small cluster.
const settle = 10 * time.Second

// mostLeaving bounds how many prefixes of a pool are Leaving at a time: a router that
// announces another one every minute must not fill the statuses of all Services.
const mostLeaving = 4

// following is what a pool that follows a prefix makes of what the nodes see.
type following struct {
	pool      *snapshot.Pool
	now       time.Time
	known     []snapshot.PoolPrefix
	votes     votes
	condition snapshot.Condition
	again     time.Time // zero: nothing changes with time alone
}

// follow brings the pools of s that follow a prefix to where they are at opt.Now, and
// returns what each of them makes of it. Without a time, they stay as they are recorded.
func follow(s *snapshot.Snapshot, opt Options) (*snapshot.Snapshot, map[string]*following) {
	var all map[string]*following
	out := s
	for i, p := range s.Pools {
		if p.FromPrefix == nil || !p.FromPrefix.Host.IsValid() {
			continue
		}
		f := &following{pool: p, now: opt.Now.Truncate(time.Second), known: slices.Clone(p.Prefixes), votes: count(s, p.FromPrefix)}
		f.decide(s.Addresses)
		if all == nil {
			all = map[string]*following{}
			next := *s
			out, next.Pools = &next, slices.Clone(s.Pools)
		}
		all[p.Name], out.Pools[i] = f, p.WithPrefixes(f.known)
	}
	return out, all
}

func (f *following) decide(records []*snapshot.Address) {
	current := f.find(snapshot.PrefixCurrent)
	choice := f.votes.choose(current.Prefix)
	f.condition = f.say(current.Prefix, choice)
	if f.now.IsZero() {
		return
	}
	f.expire(records)
	f.turn(current, choice)
	f.crowd()
	for _, k := range f.known {
		if k.State == snapshot.PrefixLeaving {
			f.wake(k.Until)
		}
	}
	slices.SortFunc(f.known, func(a, b snapshot.PoolPrefix) int { return a.Prefix.Compare(b.Prefix) })
}

// find returns the first prefix in that state, or none.
func (f *following) find(state snapshot.PrefixState) snapshot.PoolPrefix {
	for _, k := range f.known {
		if k.State == state {
			return k
		}
	}
	return snapshot.PoolPrefix{}
}

// set gives prefix a state from now on.
func (f *following) set(prefix netip.Prefix, state snapshot.PrefixState) {
	k := snapshot.PoolPrefix{Prefix: prefix, State: state, Since: f.now}
	if state == snapshot.PrefixLeaving {
		k.Until = f.now.Add(f.pool.FromPrefix.Grace).Truncate(time.Second)
	}
	f.drop(func(o snapshot.PoolPrefix) bool { return o.Prefix == prefix })
	f.known = append(f.known, k)
}

func (f *following) drop(which func(snapshot.PoolPrefix) bool) {
	f.known = slices.DeleteFunc(f.known, which)
}

// wake has the decision made again at a time, if not earlier.
func (f *following) wake(at time.Time) {
	if f.again.IsZero() || at.Before(f.again) {
		f.again = at
	}
}

// expire ends the grace of what has been leaving for long enough. A prefix stays Former
// while a record has an address of it: otherwise its Services could keep them for ever,
// as those that no pool contains.
func (f *following) expire(records []*snapshot.Address) {
	f.drop(func(k snapshot.PoolPrefix) bool {
		return k.State == snapshot.PrefixFormer && !slices.ContainsFunc(records, func(a *snapshot.Address) bool { return a.Pool == f.pool.Name && k.Prefix.Contains(a.Addr) })
	})
	for _, k := range slices.Clone(f.known) {
		if k.State == snapshot.PrefixLeaving && !f.now.Before(k.Until) {
			f.set(k.Prefix, snapshot.PrefixFormer)
		}
	}
}

// turn makes choice the current prefix once that is due.
func (f *following) turn(current snapshot.PoolPrefix, choice netip.Prefix) {
	was := f.find(snapshot.PrefixCandidate)
	if was.Prefix.IsValid() && was.Prefix != choice {
		f.drop(func(k snapshot.PoolPrefix) bool { return k.State == snapshot.PrefixCandidate })
	}
	if !choice.IsValid() || choice == current.Prefix {
		return
	}
	since := f.now
	switch i := slices.IndexFunc(f.known, func(k snapshot.PoolPrefix) bool { return k.Prefix == choice }); {
	// The first prefix need not wait: nobody has an address to lose.
	case !current.Prefix.IsValid():
		since = f.now.Add(-settle)
	case i < 0:
		f.set(choice, snapshot.PrefixCandidate)
	case f.known[i].State == snapshot.PrefixFormer:
		// Its Services are losing its addresses: it can come back once they have.
		f.wake(f.now.Add(time.Second))
		return
	case f.known[i].State == snapshot.PrefixLeaving:
		since = current.Since // it came back: no Service gets another address
	default:
		since = f.known[i].Since
	}
	if due := since.Add(settle); f.now.Before(due) {
		f.wake(due)
		return
	}
	if current.Prefix.IsValid() {
		f.set(current.Prefix, snapshot.PrefixLeaving)
	}
	f.set(choice, snapshot.PrefixCurrent)
	f.condition = f.say(choice, choice)
}

// crowd ends the grace of the prefixes that have been leaving the longest, if there are
// too many.
func (f *following) crowd() {
	var leaving []snapshot.PoolPrefix
	for _, k := range f.known {
		if k.State == snapshot.PrefixLeaving {
			leaving = append(leaving, k)
		}
	}
	slices.SortFunc(leaving, func(a, b snapshot.PoolPrefix) int {
		return cmp.Or(a.Since.Compare(b.Since), a.Prefix.Compare(b.Prefix))
	})
	for _, k := range leaving[:max(0, len(leaving)-mostLeaving)] {
		f.set(k.Prefix, snapshot.PrefixFormer)
	}
}

// votes is what the nodes see on the link of a pool.
type votes struct {
	asked  int                  // ready nodes with such a link
	fresh  map[netip.Prefix]int // how many of them see the prefix
	old    map[netip.Prefix]int // how many see that the router lets it go
	others []netip.Prefix       // of another scope, sorted
}

// uniqueLocal has the prefixes that the Internet does not route (RFC 4193).
var uniqueLocal = netip.MustParsePrefix("fc00::/7")

// count asks the nodes. Those that are not ready say what was true when they were.
func count(s *snapshot.Snapshot, from *snapshot.FromPrefix) votes {
	v := votes{fresh: map[netip.Prefix]int{}, old: map[netip.Prefix]int{}}
	for _, st := range s.NodeStates {
		n := s.Node(st.Node)
		if n == nil || !n.Ready || n.Unheard || n.Deleting || !from.Nodes.Matches(n.Labels) {
			continue
		}
		// A node that has the link and sees no prefix there counts against it.
		has := slices.ContainsFunc(st.Links, func(l snapshot.Link) bool { return l.Name == from.Interface })
		for _, l := range st.Prefixes {
			if l.Link != from.Interface {
				continue
			}
			has = true
			switch {
			// A router may announce a prefix of each scope at once (RFC 4193).
			case uniqueLocal.Contains(l.Prefix.Addr()) != from.UniqueLocal:
				v.others = append(v.others, l.Prefix)
			case l.Deprecated:
				v.old[l.Prefix]++
			default:
				v.fresh[l.Prefix]++
			}
		}
		if has {
			v.asked++
		}
	}
	slices.SortFunc(v.others, netip.Prefix.Compare)
	v.others = slices.Compact(v.others)
	return v
}

// choose returns a prefix that more than half of the nodes see: current if they see it,
// else the one that most of them see. It returns the zero Prefix if they see no such one.
func (v votes) choose(current netip.Prefix) (best netip.Prefix) {
	if 2*v.fresh[current] > v.asked {
		return current
	}
	for _, p := range slices.SortedFunc(maps.Keys(v.fresh), netip.Prefix.Compare) {
		if 2*v.fresh[p] > v.asked && (!best.IsValid() || v.fresh[p] > v.fresh[best]) {
			best = p
		}
	}
	return best
}

// say is the condition of a pool that gives addresses of current and is to give those of
// choice.
func (f *following) say(current, choice netip.Prefix) snapshot.Condition {
	from, v := f.pool.FromPrefix, f.votes
	keeps := ""
	if current.IsValid() {
		keeps = "keeps " + current.String() + ": "
	}
	no := func(reason snapshot.Reason, format string, args ...any) snapshot.Condition {
		return snapshot.Condition{Status: "False", Reason: string(reason), Message: keeps + fmt.Sprintf(format, args...) + v.rest(current, choice)}
	}
	switch {
	case choice.IsValid() && choice == current:
		return snapshot.Condition{Status: "True", Reason: string(PrefixAgreed), Message: fmt.Sprintf("%d of %d nodes see %s on %s", v.fresh[current], v.asked, current, from.Interface) + v.rest(current, choice)}
	case choice.IsValid():
		return no(PrefixChanging, "%d of %d nodes see %s on %s, which the pool follows in a moment", v.fresh[choice], v.asked, choice, from.Interface)
	case len(v.fresh) > 0:
		return no(PrefixDisputed, "no prefix is seen by more than half of the %d nodes with %s. %s", v.asked, from.Interface, v.tally())
	case v.old[current] > 0:
		return no(PrefixDeprecated, "the router on %s lets it go and announces no other one", from.Interface)
	case v.asked == 0:
		return no(PrefixUnseen, "no node that is ready and selected has a link %s", from.Interface)
	}
	return no(PrefixUnseen, "none of %d nodes sees a %s prefix of a router on %s. A node that forwards takes one in only with net.ipv6.conf.%s.accept_ra=2", v.asked, scopeText(from), from.Interface, from.Interface)
}

func scopeText(from *snapshot.FromPrefix) string {
	if from.UniqueLocal {
		return "unique local"
	}
	return "global"
}

// tally says how many nodes see which prefix.
func (v votes) tally() string {
	var out []string
	for _, p := range slices.SortedFunc(maps.Keys(v.fresh), netip.Prefix.Compare) {
		out = append(out, fmt.Sprintf("%s is seen by %d", p, v.fresh[p]))
	}
	if len(out) > namesMax {
		out = append(out[:namesMax], fmt.Sprintf("and %d more", len(out)-namesMax))
	}
	return strings.Join(out, ", ")
}

// rest names the prefixes that are there and that the pool does not follow.
func (v votes) rest(current, choice netip.Prefix) string {
	rest := slices.Clone(v.others)
	for p := range v.fresh {
		if p != current && choice.IsValid() && p != choice {
			rest = append(rest, p)
		}
	}
	if len(rest) == 0 {
		return ""
	}
	slices.SortFunc(rest, netip.Prefix.Compare)
	texts := make([]string, len(rest))
	for i, p := range rest {
		texts[i] = p.String()
	}
	return "; not followed: " + strings.Join(texts[:min(len(rest), namesMax)], ", ")
}
