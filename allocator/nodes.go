package allocator

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/fairlead/fairlead/internal/snapshot"
)

// nodeLedger is who holds which of the nodes' own addresses while one decision is made.
// It is apart from the ledger of the pools' ranges: each Service has all nodes of its
// pool, and the Services share a node by port.
type nodeLedger struct {
	nodes     map[string]*poolNode
	slots     map[netip.Addr]*nodeSlot
	nodePorts map[snapshot.HeldPort]bool // of all Services
	gone      map[string]*pool           // pools that are no more, and whose nodes are those of their records
}

// poolNode is a node that some pool gives the addresses of.
type poolNode struct {
	*snapshot.Node
	up    bool                           // it takes connections, as far as the API server knows
	ports map[snapshot.HeldPort]*service // who has them
	users int                            // Services that have ports of it
}

// nodeSlot is one own address of a node.
type nodeSlot struct {
	addr    netip.Addr
	node    *poolNode
	record  *snapshot.Address // nil if there is none
	blocked bool              // somebody has it from a range, or its record is on the way out
	holders []*service
}

// newNodeLedger returns nil if no pool gives the addresses of nodes, and none did.
func newNodeLedger(s *snapshot.Snapshot, pools *pools) *nodeLedger {
	ofNodes := slices.DeleteFunc(slices.Clone(pools.all), func(p *pool) bool { return p.Nodes == nil })
	if len(ofNodes) == 0 && len(s.NodeAddresses) == 0 {
		return nil
	}
	l := &nodeLedger{nodes: map[string]*poolNode{}, slots: map[netip.Addr]*nodeSlot{}, nodePorts: map[snapshot.HeldPort]bool{}, gone: map[string]*pool{}}
	for _, n := range s.Nodes {
		// A lost node's address answers nobody, and clients may try it first.
		up := n.Ready && !n.Unheard && !n.NetworkUnavail && !n.Deleting
		l.nodes[n.Name] = &poolNode{Node: n, up: up, ports: map[snapshot.HeldPort]*service{}}
	}
	for _, p := range ofNodes {
		l.fill(s, p)
	}
	for _, a := range s.NodeAddresses {
		if n := l.nodes[a.Node]; n != nil {
			l.slot(s, n, a.Addr) // of a pool that is gone
		}
	}
	for _, svc := range s.Services {
		// A node port answers at the nodes' addresses already.
		for _, p := range svc.Ports {
			l.nodePorts[snapshot.HeldPort{Protocol: p.Protocol, Port: p.NodePort}] = true
		}
		l.nodePorts[snapshot.HeldPort{Protocol: snapshot.TCP, Port: svc.HealthCheckNodePort}] = true
	}
	return l
}

// partAddresses keeps the addresses that pools of nodes give, or gave, from pools with
// ranges, and those that are held from a range from pools of nodes: there is one record
// for each address.
func (d *decision) partAddresses() {
	for _, a := range d.snap.NodeAddresses {
		d.block(d.slot(a.Addr))
	}
	for addr, s := range d.nodes.slots {
		ranges := d.slot(addr)
		// The range's holder was there first: there is one record for each address.
		if s.blocked = s.blocked || len(ranges.holders) > 0; !s.blocked {
			d.block(ranges)
		}
	}
}

// fill finds the nodes of p, and the addresses that it gives: of each family the
// ExternalIPs if one of the nodes has any, and otherwise the InternalIPs.
func (l *nodeLedger) fill(s *snapshot.Snapshot, p *pool) {
	var selected []*poolNode
	external := map[snapshot.Family]bool{}
	for _, n := range s.Nodes {
		if !p.Nodes.Matches(n.Labels) || n.Excluded() {
			continue
		}
		selected = append(selected, l.nodes[n.Name])
		for _, a := range n.ExternalIPs {
			external[snapshot.FamilyOf(a)] = true
		}
	}
	for _, n := range selected {
		for _, f := range families {
			from := n.InternalIPs
			if external[f] {
				from = n.ExternalIPs
			}
			for _, a := range from {
				if snapshot.FamilyOf(a) != f {
					continue
				}
				if slot := l.slot(s, n, a.Unmap().WithZone("")); slot.node == n {
					p.slots = append(p.slots, slot)
				}
			}
		}
	}
}

// slot returns the slot of addr, and makes it one of n if there is none. Of two nodes
// with one address the first by name has it.
func (l *nodeLedger) slot(s *snapshot.Snapshot, n *poolNode, addr netip.Addr) *nodeSlot {
	if slot := l.slots[addr]; slot != nil {
		return slot
	}
	slot := &nodeSlot{addr: addr, node: n, record: s.NodeAddress(addr)}
	for _, a := range []*snapshot.Address{s.Address(addr), slot.record} {
		slot.blocked = slot.blocked || a != nil && a.Deleting
	}
	l.slots[addr] = slot
	return slot
}

// nodePool returns the pool called name, or what is left of it if it gives no addresses of
// nodes any more: the nodes of its records.
func (d *decision) nodePool(name string) *pool {
	if p := d.pools.named(name); p != nil && p.Nodes != nil {
		return p
	}
	p := d.nodes.gone[name]
	if p == nil {
		p = &pool{Pool: &snapshot.Pool{Name: name}, off: PoolNotFound}
		for _, a := range d.snap.NodeAddresses {
			slot := d.nodes.slots[a.Addr]
			had := slices.ContainsFunc(a.Holders, func(h snapshot.Holder) bool { return h.Pool == name })
			if had && slot != nil && slot.record == a {
				p.slots = append(p.slots, slot)
			}
		}
		d.nodes.gone[name] = p
	}
	return p
}

// keepNodes lets the Services that have nodes' addresses keep them: first those that a
// record names, then those whose status alone names one.
func (d *decision) keepNodes() {
	if d.nodes == nil {
		return
	}
	d.partAddresses()
	for _, a := range d.snap.NodeAddresses {
		for _, h := range a.Holders {
			if svc := d.byRef[h.Ref]; svc != nil && svc.UID == h.UID {
				svc.nodesBefore, svc.poolBefore = append(svc.nodesBefore, a.Addr), h.Pool
			}
		}
	}
	for _, svc := range d.ranked {
		switch {
		case len(svc.nodesBefore) == 0:
		case len(svc.held) > 0 && svc.req.pool != svc.poolBefore:
			// It has moved away, and the last step is missing.
		default:
			d.keepNodesOf(svc, d.nodePool(svc.poolBefore))
		}
	}
	for _, svc := range d.ranked {
		if svc.nodePool == nil && len(svc.held) == 0 && len(svc.nodesBefore) == 0 && svc.broken == nil && len(svc.req.addrs) == 0 && !svc.req.several() {
			d.adoptNodes(svc)
		}
	}
}

// keepNodesOf lets svc keep the nodes of p. One that now wants the port of another loses
// them, and waits as any other.
func (d *decision) keepNodesOf(svc *service, p *pool) {
	if d.takeNodes(svc, p) != nil {
		return
	}
	for _, s := range slices.Clone(svc.held) {
		d.release(svc, s)
	}
	svc.refusal = svc.broken
}

// adoptNodes gives svc the nodes that its status names.
func (d *decision) adoptNodes(svc *service) {
	for _, p := range d.pools.order {
		named := func(s *nodeSlot) bool {
			return slices.ContainsFunc(svc.Ingress, func(in snapshot.Ingress) bool { return in.IP.Unmap() == s.addr })
		}
		if p.Nodes == nil || !slices.ContainsFunc(p.slots, named) {
			continue
		}
		// A pool that is disabled keeps those who were there.
		if why := d.reject(svc, p); (why == "" || why == PoolDisabled) && d.takeNodes(svc, p) == nil {
			svc.adopted = true
			return
		}
	}
}

// moveToNodes lets Services that hold an address of a range, and now name a pool of
// nodes, have what they ask for.
func (d *decision) moveToNodes() {
	for _, svc := range d.ranked {
		if p := d.namesNodes(svc); p != nil && len(svc.held) > 0 && svc.broken == nil {
			// It keeps the address of the range until it has the nodes.
			if svc.notOfNodes = d.joinNodes(svc, p); svc.notOfNodes != nil {
				continue
			}
			for _, s := range slices.Clone(svc.held) {
				d.release(svc, s)
			}
		}
	}
}

// moveFromNodes lets Services that have nodes' addresses, and now ask for something
// else, have that.
func (d *decision) moveFromNodes() {
	for _, svc := range d.ranked {
		was := svc.nodePool
		if was == nil || svc.broken != nil || len(svc.req.addrs) == 0 && !svc.req.several() && (svc.req.pool == "" || svc.req.pool == was.Name) {
			continue
		}
		if p := d.namesNodes(svc); p != nil {
			d.leaveNodes(svc)
			// It goes back to what it had: nothing is lost by a request that cannot be met.
			if svc.refusal = d.joinNodes(svc, p); svc.refusal != nil {
				d.takeNodes(svc, was)
			}
			continue
		}
		addrs, why := d.choose(svc)
		if svc.refusal = why; why == nil {
			d.leaveNodes(svc)
			d.takeAll(svc, addrs)
		}
	}
}

// namesNodes returns the pool of nodes that svc names and asks for; nil if it does not.
func (d *decision) namesNodes(svc *service) *pool {
	if d.nodes == nil || svc.req.pool == "" || len(svc.req.addrs) > 0 {
		return nil
	}
	if p := d.pools.named(svc.req.pool); p != nil && p.Nodes != nil {
		return p
	}
	return nil
}

// serveNodes gives svc, which holds nothing, the addresses of nodes, if it is to have such
// ones: it names their pool, or no pool of ranges that is asked before has an address. If
// done is false, the ranges are left, and why is what the nodes lack.
func (d *decision) serveNodes(svc *service) (why *snapshot.Refusal, done bool) {
	if d.nodes == nil || len(svc.req.addrs) > 0 || svc.req.several() {
		return nil, false
	}
	if p := d.namesNodes(svc); p != nil {
		return d.joinNodes(svc, p), true
	}
	for _, p := range d.pools.order {
		switch {
		case d.reject(svc, p) != "":
		case p.Nodes == nil:
			// A pool of ranges that is asked before has an address: pools are asked in one order.
			if d.pickFamilies(svc, []*pool{p}, svc.families) != nil {
				return nil, false
			}
		default:
			no := d.joinNodes(svc, p)
			if no == nil {
				return nil, true
			}
			why = cmp.Or(why, no)
		}
	}
	return why, false
}

// joinNodes gives svc the nodes of p, if p lets it in, and returns why not.
func (d *decision) joinNodes(svc *service, p *pool) *snapshot.Refusal {
	switch {
	case p.off != "":
		return refuse(p.off, "%s", p.why())
	case !p.serves(svc.Service, svc.ns):
		return refuse(NotSelected, "pool %s does not select this Service", p.Name)
	case len(svc.ranges) > 0:
		return noRanges()
	}
	return d.takeNodes(svc, p)
}

// takeNodes gives svc those nodes of p on which nobody else has one of its ports, and
// returns why not if there is none.
func (d *decision) takeNodes(svc *service, p *pool) *snapshot.Refusal {
	slots, why := d.nodesFor(svc, p)
	if why != nil {
		return why
	}
	for _, s := range slots {
		if n := s.node; !n.has(svc) {
			n.users++
			for _, port := range svc.ports {
				n.ports[port] = svc
			}
		}
	}
	svc.nodePool, svc.nodeSlots = p, svc.reachedAt(slots)
	for _, s := range svc.nodeSlots {
		s.holders = append(s.holders, svc)
	}
	return nil
}

// leaveNodes is the reverse of takeNodes.
func (d *decision) leaveNodes(svc *service) {
	for _, n := range d.nodes.nodes {
		if n.has(svc) {
			n.users--
			maps.DeleteFunc(n.ports, func(_ snapshot.HeldPort, o *service) bool { return o == svc })
		}
	}
	for _, s := range svc.nodeSlots {
		s.holders = slices.DeleteFunc(s.holders, func(o *service) bool { return o == svc })
	}
	svc.nodePool, svc.nodeSlots = nil, nil
}

// has reports whether svc has ports of n.
func (n *poolNode) has(svc *service) bool {
	return len(svc.ports) > 0 && n.ports[svc.ports[0]] == svc
}

// nodesFor returns the slots that svc may have of p, also of nodes that are not up: they
// come back. Otherwise it returns why there is none that svc could be reached at.
func (d *decision) nodesFor(svc *service, p *pool) ([]*nodeSlot, *snapshot.Refusal) {
	if why := d.nodes.portOfNode(svc); why != nil {
		return nil, why
	}
	var out []*nodeSlot
	var taken *snapshot.Refusal
	has := map[snapshot.Family]bool{}
	for _, s := range p.slots {
		f := snapshot.FamilyOf(s.addr)
		if !svc.wants(f) || s.blocked {
			continue
		}
		has[f] = true
		// Only that node is taken: where pools overlap, the younger Service has the other nodes.
		if why := s.node.refuses(svc); why != nil {
			taken = cmp.Or(taken, why)
			continue
		}
		out = append(out, s)
	}
	switch {
	case len(p.slots) == 0:
		return nil, refuse(PoolExhausted, "pool %s selects no node", p.Name)
	case len(has) == 0, len(has) < len(svc.families) && !svc.prefer:
		return nil, refuse(WrongFamily, "the nodes of pool %s have no %s addresses", p.Name, familyText(svc))
	case len(svc.reachedAt(out)) > 0:
		return out, nil
	case taken != nil:
		return nil, taken
	}
	return nil, refuse(PoolExhausted, "no node of pool %s is ready", p.Name)
}

// refuses returns why svc cannot have n beside those that do; nil if it can.
func (n *poolNode) refuses(svc *service) *snapshot.Refusal {
	for _, p := range svc.ports {
		o := n.ports[p]
		switch {
		case o == nil || o == svc:
			continue
		case o.Namespace == svc.Namespace:
			return refuse(PortInUse, "%s has port %d/%s of the nodes", o.Ref, p.Port, p.Protocol)
		}
		// What another tenant runs is not this one's business.
		return refuse(PortInUse, "a Service of another namespace has port %d/%s of the nodes", p.Port, p.Protocol)
	}
	// The record of a node's address has to fit into etcd.
	if n.users >= holdersMax || len(n.ports)+len(svc.ports) > sharedPortsMax {
		return refuse(PortInUse, "the nodes have no room: %d Services with %d ports can share a node", holdersMax, sharedPortsMax)
	}
	return nil
}

// reachedAt returns those of slots at which svc is reached, in the order of its status.
// While no node is up the Service keeps what it has: the nodes' word may be what is
// missing, and not the nodes. Of a Service with externalTrafficPolicy Local they are the
// nodes with ready endpoints, as long as there are any.
func (svc *service) reachedAt(slots []*nodeSlot) []*nodeSlot {
	out := slices.DeleteFunc(slices.Clone(slots), func(s *nodeSlot) bool { return !s.node.up })
	if svc.ExternalTrafficPolicy == snapshot.PolicyLocal {
		if local := slices.DeleteFunc(slices.Clone(out), func(s *nodeSlot) bool { return !svc.readyOn(s) }); len(local) > 0 {
			out = local
		}
	}
	if len(out) == 0 {
		out = slices.DeleteFunc(slices.Clone(slots), func(s *nodeSlot) bool { return !slices.Contains(svc.nodesBefore, s.addr) })
	}
	slices.SortFunc(out, func(a, b *nodeSlot) int {
		return cmp.Or(cmp.Compare(slices.Index(svc.families, snapshot.FamilyOf(a.addr)), slices.Index(svc.families, snapshot.FamilyOf(b.addr))), a.addr.Compare(b.addr))
	})
	return out
}

// readyOn reports whether svc has a ready endpoint on the node of s, of its family, or one
// that is on no node.
func (svc *service) readyOn(s *nodeSlot) bool {
	return slices.ContainsFunc(svc.Endpoints, func(e snapshot.Endpoint) bool {
		return e.Ready && (e.Node == s.node.Name || e.Node == "") && snapshot.FamilyOf(e.Addr.Addr()) == snapshot.FamilyOf(s.addr)
	})
}

// ownPorts are the ports on which programs of a node usually listen. The agents find the
// others, and those that are elsewhere: but a proxy beside fairlead takes packets to any
// port that a Service has, and a node without SSH is hard to repair.
var ownPorts = []struct {
	protocol snapshot.Protocol
	from, to uint16
	what     string
}{
	{snapshot.TCP, 22, 22, "SSH"},
	{snapshot.UDP, 67, 68, "DHCP"},
	{snapshot.TCP, 179, 179, "BGP"},
	{snapshot.UDP, 500, 500, "IPsec"},
	{snapshot.UDP, 546, 547, "DHCP"},
	{snapshot.TCP, 2379, 2381, "etcd"},
	{snapshot.UDP, 3784, 3785, "BFD"},
	{snapshot.UDP, 4500, 4500, "IPsec"},
	{snapshot.UDP, 4789, 4789, "VXLAN"},
	{snapshot.UDP, 6081, 6081, "Geneve"},
	{snapshot.TCP, 6443, 6444, "the API server"},
	{snapshot.TCP, 7947, 7947, "fairlead"},
	{snapshot.UDP, 7947, 7947, "fairlead"},
	{snapshot.UDP, 7949, 7949, "fairlead"},
	{snapshot.UDP, 8472, 8472, "VXLAN"},
	{snapshot.TCP, 9345, 9345, "RKE2"},
	{snapshot.TCP, 9809, 9811, "fairlead"},
	{snapshot.TCP, 10248, 10260, "Kubernetes"},
	{snapshot.TCP, 16443, 16443, "the API server"},
	{snapshot.TCP, 30000, 32767, "node ports of Services"},
	{snapshot.UDP, 30000, 32767, "node ports of Services"},
	{snapshot.SCTP, 30000, 32767, "node ports of Services"},
	{snapshot.UDP, 51820, 51821, "WireGuard"},
}

// portOfNode returns a refusal if svc has a port that nodes have for themselves.
func (l *nodeLedger) portOfNode(svc *service) *snapshot.Refusal {
	for _, p := range svc.ports {
		if l.nodePorts[p] {
			return refuse(PortOfNode, "port %d/%s is a node port of a Service, which answers at the nodes' addresses", p.Port, p.Protocol)
		}
		for _, own := range ownPorts {
			if p.Protocol == own.protocol && own.from <= p.Port && p.Port <= own.to {
				return refuse(PortOfNode, "port %d/%s of the nodes is for %s", p.Port, p.Protocol, own.what)
			}
		}
	}
	return nil
}

// nodeAddrs returns the addresses that svc has of nodes.
func (svc *service) nodeAddrs() []netip.Addr {
	out := make([]netip.Addr, len(svc.nodeSlots))
	for i, s := range svc.nodeSlots {
		out[i] = s.addr
	}
	return out
}

// planNodes adds to p the records of nodes' addresses, and who loses one.
func (d *decision) planNodes(p *Plan) {
	if d.nodes == nil {
		return
	}
	for _, addr := range slices.SortedFunc(maps.Keys(d.nodes.slots), netip.Addr.Compare) {
		if s := d.nodes.slots[addr]; len(s.holders) > 0 {
			p.Addresses = append(p.Addresses, s.want())
		}
	}
	slices.SortFunc(p.Addresses, func(a, b AddressWant) int { return a.Addr.Compare(b.Addr) })
	for _, a := range d.snap.NodeAddresses {
		s := d.nodes.slots[a.Addr]
		for _, h := range a.Holders {
			if s == nil || s.record != a || !slices.ContainsFunc(s.holders, func(o *service) bool { return o.Ref == h.Ref && o.UID == h.UID }) {
				p.Releases = append(p.Releases, Release{a.Addr, h})
			}
		}
	}
}

// want returns the record of s.
func (s *nodeSlot) want() AddressWant {
	w := AddressWant{Addr: s.addr, Node: s.node.Name}
	for _, svc := range s.holders {
		w.Holders = append(w.Holders, snapshot.Holder{Ref: svc.Ref, UID: svc.UID, Pool: svc.nodePool.Name, Ports: svc.ports[:min(len(svc.ports), portsMax)]})
	}
	slices.SortFunc(w.Holders, func(a, b snapshot.Holder) int { return a.Ref.Compare(b.Ref) })
	w.Pool = w.Holders[0].Pool
	return w
}

// countNodes returns the counters of one family of p, whose addresses all Services share:
// those of nodes that are ready are free.
func (p *pool) countNodes(f snapshot.Family) (c snapshot.PoolCount) {
	for _, s := range p.slots {
		if snapshot.FamilyOf(s.addr) != f || s.blocked {
			continue
		}
		c.Total++
		if s.node.up && p.off == "" {
			c.Free++
		}
		if slices.ContainsFunc(s.holders, func(o *service) bool { return o.nodePool == p }) {
			c.Assigned++
		}
	}
	return c
}

// nodeWarnings says what is wrong with the nodes' addresses that svc keeps.
func (svc *service) nodeWarnings() []snapshot.Refusal {
	switch p := svc.nodePool; {
	case p.Nodes == nil:
		return []snapshot.Refusal{{Reason: OutsidePools, Message: fmt.Sprintf("the nodes' addresses are kept, but pool %s is gone", p.Name)}}
	case !p.serves(svc.Service, svc.ns):
		return []snapshot.Refusal{{Reason: NotSelected, Message: fmt.Sprintf("the nodes' addresses are kept, but pool %s no longer selects this Service", p.Name)}}
	}
	return nil
}

// considerNodes is consider for a pool of nodes.
func (d *decision) considerNodes(svc *service, p *pool) Considered {
	out := Considered{Pool: p.Name, Reason: d.reject(svc, p)}
	switch {
	case svc.nodePool == p:
		out.Reason, out.Gives, out.Message = "", true, "gives the nodes' own addresses "+join(svc.nodeAddrs())
	case out.Reason != "":
		out.Message = p.explain(out.Reason, svc)
	case len(svc.req.addrs) > 0:
		out.Reason, out.Message = OutsidePools, "gives all its nodes' own addresses, and none on request"
	case svc.req.several():
		out.Reason, out.Message = ConflictingRequest, "gives its nodes' own addresses, and is not one of several pools"
	case len(svc.ranges) > 0:
		out.Reason, out.Message = PortOfNode, "does not give: "+noRanges().Message
	default:
		out.Message = "could give its nodes' own addresses"
		if _, why := d.nodesFor(svc, p); why != nil {
			out.Reason, out.Message = why.Reason, "does not give: "+why.Message
		}
	}
	return out
}

// nodeOutcome completes o, the outcome of a Service that has nodes' addresses.
func (svc *service) nodeOutcome(o Outcome) Outcome {
	o.Addrs, o.OfNodes = svc.nodeAddrs(), true
	if svc.nodePool.Nodes != nil {
		o.Pool = svc.nodePool.Name
	}
	before, now := slices.Clone(svc.nodesBefore), slices.Clone(o.Addrs)
	slices.SortFunc(before, netip.Addr.Compare)
	slices.SortFunc(now, netip.Addr.Compare)
	o.Kept = len(svc.before) == 0 && svc.poolBefore == svc.nodePool.Name && slices.Equal(before, now)
	o.Adopted = svc.adopted && !o.Kept
	o.Warnings = append(slices.Clip(o.Warnings), svc.nodeWarnings()...)
	return o
}
