// Package direct plans which VIPs are directed and among which nodes: what the eBPF
// program of proxy/director/program is to know. It is pure.
//
// What has its slot at a node that is not able is served by the VIP's owner, as without a
// director. No change between both ways ends a connection: it has a grace, in which the
// connections of before go on.
package direct

import (
	"net/netip"
	"slices"
	"time"

	"github.com/fairlead/fairlead/announcer"
	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/proxy"
	"github.com/fairlead/fairlead/proxy/director"
)

// Inputs are all that a plan depends on.
type Inputs struct {
	// Now is the monotonic clock, whose seconds director.Slots count.
	Now      time.Duration
	Node     string // who plans
	Snapshot *snapshot.Snapshot
	Links    []snapshot.Link // of this node
	View     announcer.View  // who the other nodes are
	Table    *proxy.Table    // what the engine is to hold
	Left     Left
	// Alone says that the network does not let this node pass packets on: it serves what it
	// receives itself.
	Alone bool
	// Ways lead to addresses of nodes of other subnets, as far as these nodes have answered by
	// them. Other such nodes are apart. nil: this node has nothing to do with other subnets, as
	// where nftables looks for connections, which cannot write the header that packets get.
	Ways map[netip.Addr]Way
	// Asking says that some of them have not been asked often enough to know.
	Asking bool
}

// Left is what a listing of conntrack showed of connections to VIPs: the Frontends that
// have some.
type Left struct {
	Began time.Duration // when the listing began, by Inputs.Now; 0: there was none
	// Owned are those that this node passes on to endpoints as the VIP's owner, Kept those
	// that it serves with their source kept.
	Owned, Kept map[proxy.Key]bool
}

// The times of a plan.
const (
	// MeetFor is how long an agent that starts waits for what the others can do.
	MeetFor = 10 * time.Second
	// GoneFor is how long the end of a walk asks a node that was declared gone, which may be
	// false, and drops packets if it cannot.
	GoneFor = 10 * time.Second
	// OffFor is how long a Frontend's connections are looked for at least after it is no
	// longer directed. This node cannot see which of them others have. TCP's is the time
	// that conntrack keeps a connection that is silent.
	OffFor    = 5 * 24 * time.Hour
	OffForUDP = 10 * time.Minute
	// changedFor is how long a slot's change matters to UDP: longer than any conntrack
	// keeps a flow that is silent.
	changedFor = 10 * time.Minute
)

// Planner plans one time after the other. The zero value is an agent that starts.
type Planner struct {
	asking  snapshot.Picked // Services whose annotation asks for it
	modes   map[proxy.Key]mode
	began   time.Duration                      // the first plan
	known   map[string]*snapshot.DirectorState // what each node said last that it can do
	here    map[string]director.Node           // those that were not gone at the last plan
	gone    map[string]absence
	tables  map[string]*director.Table
	history map[proxy.Key]*history
}

// mode is how a Frontend's packets are treated, and since when.
type mode struct {
	grace director.Grace
	since time.Duration
	// part says that nodes with endpoints are apart: the VIP's owner has new connections
	// for as long as they are.
	part bool
}

// Seed is the seed of a cluster. It is made of what lasts as long as the cluster does,
// and nobody outside knows: no keys, which change.
func Seed(s *snapshot.Snapshot) (seed director.Seed, ok bool) {
	ns := s.Namespace("kube-system")
	if ns == nil || ns.UID == "" {
		return 0, false
	}
	return director.SeedOf(ns.UID), true
}

// Wanted returns the Services of s to direct, sorted.
func (p *Planner) Wanted(s *snapshot.Snapshot) (out []snapshot.Ref) {
	p.asking.Pick = func(svc *snapshot.Service) bool { return svc.Forwarding == snapshot.Direct }
	may := p.asking.Of(s)
	if slices.ContainsFunc(s.Announcements, func(a *snapshot.Announcement) bool { return a.Forwarding == snapshot.Direct }) {
		may = s.Services // which of them an Announcement selects depends on more than the Service
	}
	for _, svc := range may {
		if s.Forwarding(svc.Ref) == snapshot.Direct {
			out = append(out, svc.Ref)
		}
	}
	return out
}

// Services are proxy.Options.Direct: the wanted ones, and those of the last Table that are
// in a grace.
func (p *Planner) Services(wanted []snapshot.Ref, last *proxy.Table) []snapshot.Ref {
	if last == nil || len(p.modes) == 0 {
		return wanted
	}
	out := slices.Clone(wanted)
	for key := range p.modes {
		if f := last.Frontend(key); f != nil {
			out = append(out, f.Service)
		}
	}
	slices.SortFunc(out, snapshot.Ref.Compare)
	return slices.Compact(out)
}

// Adopt takes over the graces that the maps have. An agent that starts asks for it once.
func (p *Planner) Adopt(held []director.Frontend, now time.Duration) {
	p.modes = map[proxy.Key]mode{}
	for _, f := range held {
		p.modes[keyOf(f)] = mode{grace: f.Grace, since: now}
	}
}

func keyOf(f director.Frontend) proxy.Key {
	return proxy.Key{
		Kind: proxy.VIP, Family: snapshot.FamilyOf(f.VIP.Addr()), Addr: f.VIP.Addr(),
		Protocol: snapshot.Protocol(f.Proto), Port: f.VIP.Port(),
	}
}

// Plan returns what the program has to know. It is nil while the nodes are not known, and
// just after the start, while it is not known what they can do and which ways lead to them. What an
// earlier agent left knows both, and an open connection would end with a node that is apart.
func (p *Planner) Plan(in Inputs) *director.State {
	if in.View.Member(in.Node) == nil {
		return nil
	}
	if p.began == 0 {
		p.began, p.known = in.Now, map[string]*snapshot.DirectorState{}
	}
	silent := p.hear(in.View)
	if delete(silent, in.Node); (len(silent) > 0 || in.Asking) && in.Now-p.began < MeetFor {
		return nil
	}
	st := &director.State{Me: in.Node, Nodes: p.nodes(in)}
	st.Hold = p.hold(in.Now)
	modes := map[proxy.Key]mode{}
	for _, f := range in.Table.Frontends {
		was, had := p.modes[f.Key]
		if f.Kind != proxy.VIP || f.Protocol == snapshot.SCTP || !f.Directed && !had {
			continue
		}
		m, stays := next(was, had, wants(in.Snapshot, f), inPart(f, st.Nodes), in, f.Key)
		if !stays {
			continue
		}
		modes[f.Key] = m
		st.Frontends = append(st.Frontends, director.Frontend{
			VIP: netip.AddrPortFrom(f.Addr, f.Port), Proto: uint8(f.Protocol), Ranges: ranges(f), HasEndpoints: f.Directed && len(f.Local) > 0,
			ByClient: f.Affinity > 0, Grace: m.grace, Apart: apart(f, st.Nodes),
		})
	}
	p.modes = modes
	p.place(in, st)
	return st
}

// ranges are the ranges of ports of f.
func ranges(f *proxy.Frontend) (out []director.Ports) {
	for _, r := range f.Ranges {
		out = append(out, director.Ports{First: r.First, Last: r.Last})
	}
	return out
}

func wants(s *snapshot.Snapshot, f *proxy.Frontend) bool {
	return f.Directed && s.Forwarding(f.Service) == snapshot.Direct
}

// hear takes in what the nodes say that they can do. An agent that starts does not say it
// at once, and its node goes on as before. It returns the nodes that never said it: their
// agents are of an earlier version, or they and this one have started just now.
func (p *Planner) hear(v announcer.View) (silent map[string]bool) {
	silent, known := map[string]bool{}, map[string]*snapshot.DirectorState{}
	for _, m := range v.Members {
		st := p.known[m.Node]
		if m.Report != nil && m.Report.Director != nil {
			st = m.Report.Director
		}
		if known[m.Node] = st; st == nil {
			silent[m.Node] = true
		}
	}
	p.known = known
	return silent
}

// inPart reports whether nodes that are apart have endpoints of f.
func inPart(f *proxy.Frontend, nodes []director.Node) bool {
	return slices.ContainsFunc(f.Nodes, func(n proxy.NodeEndpoints) bool {
		i, known := find(nodes, n.Node)
		return known && nodes[i].Part == director.Apart
	})
}

// apart are the endpoints of nodes that are apart. A client that stays with its endpoint, and
// what has ranges of ports, take the usual way.
func apart(f *proxy.Frontend, nodes []director.Node) (out []netip.AddrPort) {
	if f.Affinity > 0 || f.Ranged() {
		return nil
	}
	for _, n := range f.Nodes {
		if i, known := find(nodes, n.Node); known && nodes[i].Part == director.Apart {
			out = append(out, n.At...)
		}
	}
	return out
}

// next returns the mode after was, and whether the program has to know the Frontend. What
// is directed in part has a grace that does not end.
func next(was mode, had, wanted, part bool, in Inputs, key proxy.Key) (mode, bool) {
	listed := in.Left.Began > was.since
	switch {
	// This node may have connections of it as the VIP's owner, until a listing shows none.
	case wanted && (!had || was.grace == director.OffGrace || was.part != part):
		return mode{director.OnGrace, in.Now, part}, true
	case wanted && !part && was.grace == director.OnGrace && listed && !in.Left.Owned[key]:
		return mode{director.NoGrace, in.Now, false}, true
	case wanted:
		return was, true
	case !had:
		return mode{}, false
	// Other nodes may have its connections, which this node cannot see: keep it for as long as
	// conntrack keeps a silent one.
	case was.grace != director.OffGrace:
		return mode{director.OffGrace, in.Now, false}, true
	}
	lasts := OffFor
	if key.Protocol == snapshot.UDP {
		lasts = OffForUDP
	}
	return was, in.Now-was.since < lasts || !listed || in.Left.Kept[key]
}

// Listing reports whether a listing of conntrack may end a grace now.
func (p *Planner) Listing(now time.Duration) bool {
	for _, m := range p.modes {
		if m.grace == director.OnGrace && !m.part || m.grace == director.OffGrace && now-m.since >= OffForUDP {
			return true
		}
	}
	return false
}
