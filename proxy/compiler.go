package proxy

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"go4.org/netipx"

	"github.com/fairlead/fairlead/internal/diff"
	"github.com/fairlead/fairlead/internal/snapshot"
)

// Compiler is Compile with a memory: its work is that of what changed since the
// last time, but for a walk over pointers. The result never depends on the
// memory: a Snapshot that shares no value with the last one is compiled from scratch.
type Compiler struct {
	last   *memory // nil at first
	made   *id     // of the last Table; nil if the next one cannot note what changed since
	traces traces  // of the node's pods
	known  Known   // by these traces
	pods   []netip.Prefix
}

// memory is what the last Compile left.
type memory struct {
	cluster  cluster
	looked   int // how many Services were looked at
	walked   int // how many were looked through for an address
	snap     *snapshot.Snapshot
	held     map[snapshot.Ref][]*snapshot.Address // by holder
	reserved reserved
	// clusterIPs counts the Services that have each: before Kubernetes 1.33, their range
	// may not be known.
	clusterIPs map[netip.Addr]int
	done       map[snapshot.Ref]compiled
	sorted     []*Frontend   // of all Services, also those that clash
	packets    map[match]int // how many of sorted match them
	clashes    int           // of packets with more than one
	hairpin    tally[Target]
	kept       tally[Target]
	here       tally[netip.Addr]
	counts     counts                // of sorted
	troubled   map[snapshot.Ref]bool // Services with problems
	moving     map[snapshot.Ref]bool // Services that are on their way: see after
}

// tally is what the Services have, each entry once, while Services come and go.
type tally[T comparable] struct {
	compare func(a, b T) int
	n       map[T]int  // how many Services have it
	touched map[T]bool // since the last settle: whether it was in sorted
	sorted  []T        // the entries as of the last settle
}

func newTally[T comparable](compare func(a, b T) int) tally[T] {
	return tally[T]{compare: compare, n: map[T]int{}, touched: map[T]bool{}}
}

// add counts the entries of one Service n times.
func (t *tally[T]) add(items []T, n int) {
	for _, it := range items {
		if _, ok := t.touched[it]; !ok {
			t.touched[it] = t.n[it] > 0
		}
		if t.n[it] += n; t.n[it] == 0 {
			delete(t.n, it)
		}
	}
}

// settle brings sorted up to date.
func (t *tally[T]) settle() {
	var gone, come []T
	for it, was := range t.touched {
		switch is := t.n[it] > 0; {
		case was && !is:
			gone = append(gone, it)
		case is && !was:
			come = append(come, it)
		}
	}
	clear(t.touched)
	t.sorted = replaced(t.sorted, gone, come, t.compare)
}

// cluster is what the frontends of all Services depend on.
type cluster struct {
	node      *nodeFacts
	ranges    []netipx.IPRange // of all pools; their counters change with each allocation
	services  []netip.Prefix   // the ranges of ClusterIPs
	external  bool
	listening []Target       // Options.Listening
	direct    []snapshot.Ref // Options.Direct
}

// equal reports whether c and o are the same to every Service. It leaves out which nodes are
// quarantined, which concerns only Services with endpoints there, and which are directed.
func (c cluster) equal(o cluster) bool {
	node := *c.node
	node.quarantined = o.node.quarantined
	return node.equal(o.node) && (diff.Same(c.ranges, o.ranges) || slices.Equal(c.ranges, o.ranges)) && slices.Equal(c.services, o.services) && c.external == o.external && slices.Equal(c.listening, o.listening)
}

// match says which packets a Frontend takes: its Key without the Kind.
type match struct {
	family snapshot.Family
	addr   netip.Addr
	proto  snapshot.Protocol
	port   uint16
}

func (f *Frontend) match() match { return match{f.Family, f.Addr, f.Protocol, f.Port} }

// Compile is like the function Compile.
func (c *Compiler) Compile(s *snapshot.Snapshot, name string, nodePortAddrs []netip.Addr, opt Options) *Table {
	facts := &nodeFacts{name: name, quarantined: opt.Quarantined, refused: opt.Refused}
	t := &Table{NodePortAddrs: sorted(slices.Clone(nodePortAddrs)), ServiceCIDRs: serviceCIDRs(s, opt)}
	node := s.Node(name)
	if node == nil {
		node = opt.Self
	}
	facts.own = Own(s, node, opt.Own)
	if node != nil {
		facts.zone, facts.addrs = node.Zone, node.InternalIPs
	}
	if c.last != nil && c.last.cluster.node.equal(facts) {
		// One value: the inputs of all Services share it.
		facts = c.last.cluster.node
	}
	now := cluster{node: facts, services: t.ServiceCIDRs, external: opt.ExternalIPs, listening: opt.Listening, direct: opt.Direct}
	// The ranges, not the pools: each allocation changes a pool's counters, and had all of 50,000
	// Services compiled again, for 317 ms.
	if c.last != nil && diff.Same(c.last.snap.Pools, s.Pools) {
		now.ranges = c.last.cluster.ranges
	} else {
		for _, p := range s.Pools {
			now.ranges = append(now.ranges, p.Ranges...)
		}
	}
	var gone, come []*Frontend
	since := c.made
	if c.last == nil || !c.last.cluster.equal(now) {
		c.last, since = compileAll(s, now, c.last), nil
	} else {
		clashed := c.last.clashes > 0
		if gone, come = c.last.update(s, now); clashed {
			since = nil // other Frontends may show now, which did not change
		}
	}
	t.Frontends = c.last.frontends()
	if c.made = t.note(since, gone, come); c.last.clashes > 0 {
		// A Frontend that was hidden by another may show in the next Table without a change of its own.
		t.history, c.made = nil, nil
	}
	t.Hairpin, t.KeepPorts = c.last.hairpin.sorted, c.last.kept.sorted
	// With 500 routes to pods, each Compile took milliseconds for them.
	if now := (traces{opt.Local, node, opt.Routed, c.last.here.sorted, opt.Own}); !c.traces.equal(now) {
		c.traces, c.known = now, now.known()
		c.pods = c.known.sources()
	}
	t.LocalPods, t.LocalLinks, t.Uplinks = c.pods, c.known.Links, uplinks(opt.Uplinks, c.last.here.sorted)
	t.Ways = opt.Ways
	t.OwnClusterIPs = sorted(slices.DeleteFunc(slices.Clone(opt.Own), func(a netip.Addr) bool { return !t.HasAddr(ClusterIP, a) }))
	return t
}

// Summary returns the Summary of the Table that Compile returned last.
func (c *Compiler) Summary() Summary {
	if c.last == nil {
		return Summary{}
	}
	if c.last.clashes > 0 { // some Frontends are not in the Table
		return Summarize(&Table{Frontends: c.last.frontends()})
	}
	return c.last.counts.summary()
}

// Known returns what the pods are known by in the Table that Compile returned last.
func (c *Compiler) Known() Known { return c.known }

// compileAll compiles every Service, but for those whose inputs are what they
// were in old, which may be nil.
func compileAll(s *snapshot.Snapshot, now cluster, old *memory) *memory {
	m := &memory{
		cluster: now, snap: s, held: map[snapshot.Ref][]*snapshot.Address{}, done: make(map[snapshot.Ref]compiled, len(s.Services)),
		packets: make(map[match]int, len(s.Services)), hairpin: newTally(Target.Compare), kept: newTally(Target.Compare), here: newTally(netip.Addr.Compare), troubled: map[snapshot.Ref]bool{}, moving: map[snapshot.Ref]bool{},
		clusterIPs: make(map[netip.Addr]int, len(s.Services)),
	}
	for _, a := range s.Addresses {
		m.noteHolders(a)
	}
	for _, a := range s.NodeAddresses {
		// Another node forwards its own addresses.
		if a.Node == now.node.name {
			m.noteHolders(a)
		}
	}
	if old != nil {
		m.reserved = old.reserved
	}
	m.reserved = m.reserved.of(s, now.services)
	for _, svc := range s.Services {
		for _, ip := range svc.ClusterIPs {
			m.clusterIPs[ip]++
		}
	}
	for _, svc := range s.Services {
		if !svc.Served() {
			continue
		}
		in := m.inputs(svc)
		one, ok := compiled{}, false
		if old != nil {
			one, ok = old.done[svc.Ref]
		}
		if !ok || !one.in.equal(in) {
			one = compileService(in)
		} else if one.next != nil {
			one = one.next.after(one)
		}
		m.keep(svc.Ref, one)
		m.count(one)
		m.sorted = append(m.sorted, one.frontends...)
	}
	slices.SortFunc(m.sorted, compareFrontends)
	m.hairpin.settle()
	m.kept.settle()
	m.here.settle()
	return m
}

func compareFrontends(a, b *Frontend) int {
	if c := a.Key.Compare(b.Key); c != 0 {
		return c
	}
	return cmp.Or(cmp.Compare(a.created, b.created), a.Service.Compare(b.Service), cmp.Compare(a.PortName, b.PortName))
}

func (m *memory) inputs(svc *snapshot.Service) inputs {
	m.looked++
	_, direct := slices.BinarySearchFunc(m.cluster.direct, svc.Ref, snapshot.Ref.Compare)
	return inputs{svc: svc, addrs: m.capture(svc), node: m.cluster.node, direct: direct}
}

// noteHolders notes that a has its holders.
func (m *memory) noteHolders(a *snapshot.Address) {
	for _, h := range a.Holders {
		if !slices.Contains(m.held[h.Ref], a) {
			m.held[h.Ref] = append(m.held[h.Ref], a)
		}
	}
}

func (m *memory) forgetHolders(a *snapshot.Address) {
	for _, h := range a.Holders {
		left := slices.DeleteFunc(m.held[h.Ref], func(b *snapshot.Address) bool { return a == b })
		if m.held[h.Ref] = left; len(left) == 0 {
			delete(m.held, h.Ref)
		}
	}
}

// keep notes what a Service was compiled to.
func (m *memory) keep(ref snapshot.Ref, one compiled) {
	m.done[ref] = one
	if len(one.problems) > 0 {
		m.troubled[ref] = true
	}
	if one.next != nil {
		m.moving[ref] = true
	}
}

// count adds what is known of one Service.
func (m *memory) count(one compiled) {
	m.counts.add(one.frontends, 1)
	m.tally(one.frontends, 1)
	m.hairpin.add(one.hairpin, 1)
	m.kept.add(one.keep, 1)
	m.here.add(one.here, 1)
}

// exchange counts now in the place of old. It returns the Frontends that differ.
func (m *memory) exchange(old, now compiled) (gone, come []*Frontend) {
	gone, come = differing(old.frontends, now.frontends)
	// What comes is first: what stays is never counted as gone.
	m.counts.add(now.frontends, 1)
	m.counts.add(old.frontends, -1)
	m.tally(come, 1)
	m.tally(gone, -1)
	if !diff.Same(old.hairpin, now.hairpin) {
		m.hairpin.add(now.hairpin, 1)
		m.hairpin.add(old.hairpin, -1)
	}
	if !diff.Same(old.keep, now.keep) {
		m.kept.add(now.keep, 1)
		m.kept.add(old.keep, -1)
	}
	if !diff.Same(old.here, now.here) {
		m.here.add(now.here, 1)
		m.here.add(old.here, -1)
	}
	return gone, come
}

// tally counts Frontends n times by the packets that they take.
func (m *memory) tally(fs []*Frontend, n int) {
	for _, f := range fs {
		k := f.match()
		was := m.packets[k]
		if m.packets[k] = was + n; was+n == 0 {
			delete(m.packets, k)
		}
		switch {
		case was <= 1 && was+n > 1:
			m.clashes++
		case was > 1 && was+n <= 1:
			m.clashes--
		}
	}
}

// update compiles the Services that changed since the last Snapshot, and those
// whose addresses or whose endpoints' nodes did. It returns their Frontends, sorted.
func (m *memory) update(s *snapshot.Snapshot, now cluster) (gone, come []*Frontend) {
	dirty := m.dirty(s)
	m.quarantine(s, now.node.quarantined, dirty)
	for was, is := range diff.Changed(m.cluster.direct, now.direct, snapshot.Ref.Compare) {
		dirty[*cmp.Or(was, is)] = true
	}
	// A Service of 8,000 ports whose 30 pods flapped held all others up for half a minute for each
	// flap. So a large one changes in steps, one for each update.
	for ref := range m.moving {
		dirty[ref] = true
	}
	m.snap, m.cluster = s, now
	for ref := range dirty {
		old := m.done[ref]
		delete(m.done, ref)
		delete(m.troubled, ref)
		delete(m.moving, ref)
		now := compiled{}
		if svc := s.Service(ref); svc != nil && svc.Served() {
			now = old
			if in := m.inputs(svc); old.in.svc == nil || !old.in.equal(in) {
				now = compileService(in)
				// Another Service of that name, or another state of the node, is not a step on the way: it
				// takes effect as a whole.
				if old.in.svc != nil && old.in.svc.UID == svc.UID && old.in.node.equal(in.node) {
					now = now.after(old)
				}
			} else if old.next != nil {
				now = old.next.after(old)
			}
			m.keep(ref, now)
		}
		less, more := m.exchange(old, now)
		gone, come = append(gone, less...), append(come, more...)
	}
	m.sorted = replaced(m.sorted, gone, come, compareFrontends)
	m.hairpin.settle()
	m.kept.settle()
	m.here.settle()
	return gone, come
}

// dirty are the Services that changed since the last Snapshot, and those whose
// addresses may have.
func (m *memory) dirty(s *snapshot.Snapshot) map[snapshot.Ref]bool {
	dirty, changes := map[snapshot.Ref]bool{}, snapshot.Diff(m.snap, s)
	for _, ref := range changes.Services {
		dirty[ref] = true
	}
	changed := map[netip.Addr]bool{}
	for _, addr := range changes.Addresses {
		changed[addr] = true
		// An Address that changed hands concerns its holders of before and of now.
		for _, a := range []*snapshot.Address{m.snap.Address(addr), s.Address(addr)} {
			if a != nil {
				markHolders(a, dirty)
			}
		}
	}
	m.ownChanged(s, dirty)
	m.clusterIPsChanged(s, changes.Services, changed)
	was := m.reserved
	m.reserved = was.of(s, m.cluster.services)
	if was.ranges == nil || was.ranges != m.reserved.ranges { // else it is the same
		was.differ(m.reserved, changed)
	}
	if was.ranges != nil && was.ranges != m.reserved.ranges && !was.ranges.Equal(m.reserved.ranges) {
		for _, svc := range s.Services {
			for _, in := range svc.Ingress {
				// A range of pods or Services that comes or goes has too many addresses to mark each.
				if in.IP.IsValid() && was.ranges.Contains(in.IP) != m.reserved.ranges.Contains(in.IP) {
					changed[in.IP] = true
				}
			}
		}
	}
	if len(changed) > 0 {
		m.holders(s, changed, dirty)
	}
	return dirty
}

// ownChanged brings held up to date with the records of the node's own addresses, and
// marks the Services dirty that have one, or had it.
func (m *memory) ownChanged(s *snapshot.Snapshot, dirty map[snapshot.Ref]bool) {
	if diff.Same(m.snap.NodeAddresses, s.NodeAddresses) {
		return
	}
	own := func(a **snapshot.Address) bool { return a != nil && (*a).Node == m.cluster.node.name }
	for was, is := range diff.Changed(m.snap.NodeAddresses, s.NodeAddresses, func(a, b *snapshot.Address) int { return a.Addr.Compare(b.Addr) }) {
		if own(was) {
			m.forgetHolders(*was)
			markHolders(*was, dirty)
		}
		if own(is) {
			m.noteHolders(*is)
			markHolders(*is, dirty)
		}
	}
}

func markHolders(a *snapshot.Address, dirty map[snapshot.Ref]bool) {
	for _, h := range a.Holders {
		dirty[h.Ref] = true
	}
}

// clusterIPsChanged brings clusterIPs up to date with the Services that changed, and
// marks the addresses that are a ClusterIP now and were none, or the other way round.
func (m *memory) clusterIPsChanged(s *snapshot.Snapshot, services []snapshot.Ref, changed map[netip.Addr]bool) {
	before := map[netip.Addr]bool{} // whether it was one
	add := func(svc *snapshot.Service, n int) {
		if svc == nil {
			return
		}
		for _, ip := range svc.ClusterIPs {
			was := m.clusterIPs[ip]
			if _, noted := before[ip]; !noted {
				before[ip] = was > 0
			}
			if m.clusterIPs[ip] = was + n; was+n == 0 {
				delete(m.clusterIPs, ip)
			}
		}
	}
	for _, ref := range services {
		add(m.snap.Service(ref), -1)
		add(s.Service(ref), 1)
	}
	for ip, was := range before {
		// The count goes down and up again with each change of the Service. Taken for a change of hands,
		// it had all Services and records walked through: a tenth of what a change costs with 10,000.
		if was != (m.clusterIPs[ip] > 0) {
			changed[ip] = true
		}
	}
}

// quarantine marks the Services dirty that have endpoints on nodes that are quarantined
// now and were not, or the other way round.
func (m *memory) quarantine(s *snapshot.Snapshot, nodes []string, dirty map[snapshot.Ref]bool) {
	var differ []string
	for was, is := range diff.Changed(m.cluster.node.quarantined, nodes, strings.Compare) {
		differ = append(differ, *cmp.Or(was, is))
	}
	if len(differ) == 0 {
		return
	}
	for _, svc := range s.Services {
		// For a lost node of 500, compiling all Services took 25 ms; those with an endpoint there take 2.
		if slices.ContainsFunc(svc.Endpoints, func(ep snapshot.Endpoint) bool { return slices.Contains(differ, ep.Node) }) {
			dirty[svc.Ref] = true
		}
	}
}

// holders brings held up to date. It marks the Services dirty that mention an
// address that became ours or reserved, or no longer is.
func (m *memory) holders(s *snapshot.Snapshot, changed map[netip.Addr]bool, dirty map[snapshot.Ref]bool) {
	for _, addr := range slices.SortedFunc(maps.Keys(changed), netip.Addr.Compare) {
		if a := m.snap.Address(addr); a != nil {
			m.forgetHolders(a)
		}
		if a := s.Address(addr); a != nil {
			m.noteHolders(a)
		}
	}
	m.walked += len(s.Services)
	for _, svc := range s.Services {
		for _, in := range svc.Ingress {
			if changed[in.IP] {
				dirty[svc.Ref] = true
			}
		}
		for _, ip := range svc.ExternalIPs {
			if changed[ip] {
				dirty[svc.Ref] = true
			}
		}
	}
}

// replaced returns all without gone and with come, which it sorts.
func replaced[T any](all, gone, come []T, compare func(a, b T) int) []T {
	slices.SortFunc(gone, compare)
	slices.SortFunc(come, compare)
	return diff.Apply(all, gone, come, compare)
}

// frontends returns those that packets reach: of the ones that the same packets
// would match (a VIP that is also a cluster IP, two external IPs) the first. The
// order of Keys, then of the Services' ages, then of their names, is the order of
// precedence. By name alone, a tenant could take another's address with a namespace
// that sorts first.
func (m *memory) frontends() []*Frontend {
	if m.clashes == 0 {
		return m.sorted
	}
	seen := make(map[match]bool, m.clashes)
	return slices.DeleteFunc(slices.Clone(m.sorted), func(f *Frontend) bool {
		k := f.match()
		if m.packets[k] == 1 {
			return false
		}
		was := seen[k]
		seen[k] = true
		return was
	})
}
