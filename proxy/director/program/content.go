package program

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/fairlead/fairlead/proxy/director"
)

// What the maps have room for.
const (
	maxNodes  = 1024
	maxVIPs   = 4096
	maxTables = 16384
	ringCount = director.NumRings
	nobody    = 0xffff
)

// Bits of a frontend's flags.
const (
	flagEndpoints = 1 << iota
	flagByClient
	flagOnGrace
	flagOffGrace
	flagRanged
	flagApart
)

// Bits of a node's families.
const (
	familyIPv4 = 1 << iota
	familyIPv6
)

// digest names a table by its bytes: tables of equal bytes are one.
type digest [sha256.Size]byte

// content is what the maps hold. A table never changes: another one takes its place, so
// that a packet sees all of the one or all of the other.
type content struct {
	me        uint32
	gone      []uint16 // nodes that are asked last
	nodes     map[uint32]directorNode
	macs      map[MAC]uint32
	peers     map[directorAddress]uint32 // who sends from an address to other subnets
	rings     []directorRing
	tables    map[digest]table
	frontends map[directorKey]directorFrontend
	ranges    map[directorKey]directorPortRanges // of those frontends that have some
	vips      map[[4]uint32]uint32               // number of each VIP among the counters
	apart     []Frontend                         // that have endpoints of nodes that are apart
}

// table is a table and its place in the map of tables.
type table struct {
	at    uint32
	slots []directorSlot // nil: it is in the map
}

// next returns what the maps are to hold for s when they hold c. It keeps the numbers of
// nodes, tables and VIPs, by which the counters know them.
func (c *content) next(s *State, seed director.Seed) (*content, error) {
	ids, err := c.numberNodes(s.Nodes)
	if err != nil {
		return nil, err
	}
	takes := taking(s.Nodes, ids)
	me, known := slices.BinarySearchFunc(s.Nodes, s.Me, func(n Node, name string) int { return cmp.Compare(n.Name, name) })
	if !known {
		return nil, fmt.Errorf("%s is not one of the nodes", s.Me)
	}
	n := &content{
		me: ids[me], nodes: map[uint32]directorNode{}, macs: map[MAC]uint32{}, peers: map[directorAddress]uint32{}, tables: map[digest]table{},
		frontends: map[directorKey]directorFrontend{}, ranges: map[directorKey]directorPortRanges{}, vips: map[[4]uint32]uint32{},
		rings: ringsOf(s.Nodes, takes, seed),
	}
	for i, node := range s.Nodes {
		n.nodes[ids[i]] = nodeEntry(node)
		for _, mac := range node.MACs {
			n.macs[mac] = ids[i]
		}
		for _, a := range node.Addrs {
			n.peers[directorAddress{Ip: words(a)}] = ids[i]
		}
		if node.Part == director.AskedLast {
			n.gone = append(n.gone, uint16(ids[i]))
		}
	}
	return n, n.addFrontends(c, s.Frontends, takes)
}

// numberNodes gives each node the number that it has, or else one that no other had.
func (c *content) numberNodes(nodes []Node) ([]uint32, error) {
	has, used := map[uint64]uint32{}, map[uint32]bool{}
	for id, n := range c.nodes {
		has[n.Name], used[id] = id, true
	}
	ids, free := make([]uint32, len(nodes)), lowest(used)
	for i, n := range nodes {
		id, ok := has[nameHash(n.Name)]
		if !ok {
			id = free()
		}
		if ids[i] = id; id >= maxNodes {
			return nil, fmt.Errorf("more than %d nodes at once", maxNodes)
		}
	}
	return ids, nil
}

// taking are the numbers of those nodes that take what is passed on, and nobody for others.
func taking(nodes []Node, ids []uint32) []uint32 {
	out := slices.Clone(ids)
	for i, n := range nodes {
		if n.Part != director.Takes {
			out[i] = nobody
		}
	}
	return out
}

// lowest returns the lowest number that is not used, and uses it.
func lowest(used map[uint32]bool) func() uint32 {
	last := uint32(0)
	return func() uint32 {
		for used[last] {
			last++
		}
		used[last] = true
		return last
	}
}

func nameHash(name string) uint64 {
	sum := sha256.Sum256([]byte(name))
	return binary.BigEndian.Uint64(sum[:])
}

// nodeEntry is the node as the map has it. Its link is never 0 there: that is an entry of no
// node, and a link that leads nowhere is the highest number.
func nodeEntry(n Node) directorNode {
	e := directorNode{Name: nameHash(n.Name), Link: uint32(n.Link), Mtu: uint32(n.Way.MTU)}
	if n.Link == 0 {
		e.Link = 1<<32 - 1
	}
	if n.IPv4.Is4() {
		e.Families |= familyIPv4
		e.Ip4 = word(n.IPv4)
	}
	if n.IPv6.Is6() {
		e.Families |= familyIPv6
		e.Ip = words(n.IPv6)
	}
	if n.Way.IPv4.Is4() {
		e.Source4 = word(n.Way.IPv4)
	}
	if n.Way.IPv6.Is6() {
		e.Source = words(n.Way.IPv6)
	}
	return e
}

// word is an IPv4 address alone.
func word(a netip.Addr) uint32 {
	b := a.As4()
	return binary.NativeEndian.Uint32(b[:])
}

// words are an address as the maps have it: IPv4 as ::ffff:a.b.c.d.
func words(a netip.Addr) (w [4]uint32) {
	b := a.As16()
	for i := range w {
		w[i] = binary.NativeEndian.Uint32(b[4*i:])
	}
	return w
}

// far counts the addresses that nodes of other subnets send from.
func (c *content) far() (n uint32) {
	for _, node := range c.peers {
		if node != c.me {
			n++
		}
	}
	return n
}

// segment is the most bytes of TCP in a packet of the family that get to each node of another
// subnet; 0 if no way leads to another subnet.
func (c *content) segment(flag uint32) (least int) {
	over := director.Header4 + 20 + 20
	if flag == familyIPv6 {
		over = director.Header6 + 40 + 20
	}
	for _, n := range c.nodes {
		if size := int(n.Mtu) - over; n.Mtu != 0 && n.Families&flag != 0 && (least == 0 || size < least) {
			least = size
		}
	}
	return least
}

// ringsOf are the rings of the nodes that have a number.
func ringsOf(nodes []Node, numbers []uint32, seed director.Seed) []directorRing {
	var members []director.Member
	var ids []uint32
	for i, n := range nodes {
		if numbers[i] != nobody {
			members, ids = append(members, director.Member{Name: n.Name}), append(ids, numbers[i])
		}
	}
	rings := director.NewRings(seed, members)
	out := make([]directorRing, ringCount)
	for i := range out {
		r := &out[i]
		r.Members = uint32(len(ids))
		for id := range r.Place {
			r.Place[id] = nobody
		}
		for place, at := 0, 0; place < len(ids); place++ {
			r.Order[place] = uint16(ids[at])
			r.Place[ids[at]] = uint16(place)
			at = rings.Next(uint64(i), at)
		}
	}
	return out
}

// addFrontends adds the frontends, their tables and VIPs. What was in the maps keeps its
// place.
func (n *content) addFrontends(was *content, list []Frontend, ids []uint32) error {
	usedTables, usedVIPs := map[uint32]bool{}, map[uint32]bool{0: true} // 0 counts what has no number of its own
	for _, t := range was.tables {
		usedTables[t.at] = true
	}
	for _, at := range was.vips {
		usedVIPs[at] = true
	}
	freeTable, freeVIP := lowest(usedTables), lowest(usedVIPs)
	seen := map[*Slots]table{} // the frontends of a Service have the same
	for _, f := range list {
		key, value := frontendEntry(f)
		if f.Slots != nil && len(f.Slots.Chains) > 0 {
			t, ok := seen[f.Slots]
			if !ok {
				t = n.addTable(was, rowsOf(f.Slots, ids), freeTable)
				seen[f.Slots] = t
			}
			value.Table, value.Slots = t.at, uint32(len(t.slots))
		}
		if value.Table >= maxTables {
			return fmt.Errorf("more than %d tables at once", maxTables)
		}
		if _, ok := n.vips[key.Ip]; !ok {
			at, ok := was.vips[key.Ip]
			if !ok {
				at = freeVIP()
			}
			if at >= maxVIPs {
				at = 0
			}
			n.vips[key.Ip] = at
		}
		value.Vip = n.vips[key.Ip]
		n.frontends[key] = value
		if len(f.Apart) > 0 {
			n.apart = append(n.apart, f)
		}
		if f.VIP.Port() != 0 {
			continue
		}
		var fits bool
		if n.ranges[key], fits = rangesEntry(f.Ranges); !fits {
			return fmt.Errorf("%s has %d ranges of ports, more than %d", f.VIP.Addr(), len(f.Ranges), director.MaxRanges)
		}
	}
	return nil
}

// addTable adds a table if there is none with these slots.
func (n *content) addTable(was *content, rows []directorSlot, free func() uint32) table {
	d := digestOf(rows)
	t, ok := n.tables[d]
	if ok {
		return t
	}
	if t, ok = was.tables[d]; !ok {
		t.at = free()
	}
	t.slots = rows
	n.tables[d] = t
	return t
}

// frontendEntry is the frontend as the map has it, without a table.
func frontendEntry(f Frontend) (directorKey, directorFrontend) {
	var port [2]byte
	binary.BigEndian.PutUint16(port[:], f.VIP.Port())
	key := directorKey{Ip: words(f.VIP.Addr()), Port: binary.NativeEndian.Uint16(port[:]), Protocol: f.Proto}
	var flags uint32
	for _, bit := range []struct {
		set  bool
		flag uint32
	}{{f.HasEndpoints, flagEndpoints}, {f.ByClient, flagByClient}, {f.Grace == OnGrace, flagOnGrace}, {f.Grace == OffGrace, flagOffGrace}, {f.VIP.Port() == 0, flagRanged}, {len(f.Apart) > 0, flagApart}} {
		if bit.set {
			flags |= bit.flag
		}
	}
	return key, directorFrontend{Flags: flags}
}

// rangesEntry is the ranges as the map has them; false if they are too many.
func rangesEntry(list []director.Ports) (r directorPortRanges, ok bool) {
	if len(list) > len(r.Of) {
		return r, false
	}
	r.Count = uint32(len(list))
	for i, p := range list {
		r.Of[i] = directorPortRange{First: p.First, Last: p.Last}
	}
	return r, true
}

// heldFrontend is the inverse of frontendEntry, but for the ranges.
func heldFrontend(key directorKey, value directorFrontend) Frontend {
	var port [2]byte
	binary.NativeEndian.PutUint16(port[:], key.Port)
	f := Frontend{
		VIP: netip.AddrPortFrom(addrOf(key.Ip), binary.BigEndian.Uint16(port[:])), Proto: key.Protocol,
		HasEndpoints: value.Flags&flagEndpoints != 0, ByClient: value.Flags&flagByClient != 0,
	}
	switch {
	case value.Flags&flagOnGrace != 0:
		f.Grace = OnGrace
	case value.Flags&flagOffGrace != 0:
		f.Grace = OffGrace
	}
	return f
}

// rowsOf are the slots with the nodes' numbers. A node that takes nothing is nobody.
func rowsOf(s *Slots, ids []uint32) []directorSlot {
	rows := make([]directorSlot, len(s.Chains)/director.Places)
	for i := range rows {
		for j, member := range s.Chains[i*director.Places:][:director.Places] {
			rows[i].Chain[j] = nobody
			if int(member) < len(ids) {
				rows[i].Chain[j] = uint16(ids[member])
			}
		}
		if s.Changed != nil {
			rows[i].Changed = s.Changed[i]
		}
	}
	return rows
}

func digestOf(rows []directorSlot) digest {
	b := make([]byte, 0, len(rows)*20)
	for _, r := range rows {
		for _, node := range r.Chain {
			b = binary.NativeEndian.AppendUint16(b, node)
		}
		b = binary.NativeEndian.AppendUint32(b, r.Changed)
	}
	return sha256.Sum256(b)
}

// dropSlots drops what is only in the kernel from now on: a table is known by its digest.
func (n *content) dropSlots() {
	for d, t := range n.tables {
		n.tables[d] = table{at: t.at}
	}
}

// going is what has to be in the maps before nftables is told what goes: no frontend has
// endpoints here or apart that c does not have, and none is there that c does not have.
func (n *content) going(c *content) map[directorKey]directorFrontend {
	out := map[directorKey]directorFrontend{}
	for key, value := range c.frontends {
		want, ok := n.frontends[key]
		if !ok {
			continue
		}
		value.Flags &= want.Flags | ^uint32(flagEndpoints|flagApart)
		out[key] = value
	}
	return out
}

// changed are the entries of want that have differs from, and the keys of have that want
// does not have.
func changed[K comparable, V comparable](have, want map[K]V) (put map[K]V, gone []K) {
	put = maps.Clone(want)
	maps.DeleteFunc(put, func(k K, v V) bool {
		is, ok := have[k]
		return ok && is == v
	})
	for k := range have {
		if _, ok := want[k]; !ok {
			gone = append(gone, k)
		}
	}
	return put, gone
}
