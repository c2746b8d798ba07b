package program

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
)

// read returns what the maps hold.
func (m *directorMaps) read() (*content, error) {
	c := &content{
		nodes: map[uint32]directorNode{}, macs: map[MAC]uint32{}, peers: map[directorAddress]uint32{}, tables: map[digest]table{},
		frontends: map[directorKey]directorFrontend{}, ranges: map[directorKey]directorPortRanges{}, vips: map[[4]uint32]uint32{},
		rings: make([]directorRing, ringCount),
	}
	var key directorKey
	var value directorFrontend
	for each := m.Frontends.Iterate(); each.Next(&key, &value); {
		c.frontends[key] = value
		c.vips[key.Ip] = value.Vip
	}
	var ranges directorPortRanges
	for each := m.Ranges.Iterate(); each.Next(&key, &ranges); {
		c.ranges[key] = ranges
	}
	var mac directorMac
	var id uint32
	for each := m.Macs.Iterate(); each.Next(&mac, &id); {
		c.macs[mac.Address] = id
	}
	var peer directorAddress
	for each := m.Peers.Iterate(); each.Next(&peer, &id); {
		c.peers[peer] = id
	}
	for i := range c.rings {
		if err := m.Rings.Lookup(uint32(i), &c.rings[i]); err != nil {
			return nil, fmt.Errorf("ring %d: %w", i, err)
		}
	}
	for id := range uint32(maxNodes) {
		var n directorNode
		if err := m.Nodes.Lookup(id, &n); err != nil {
			return nil, fmt.Errorf("node %d: %w", id, err)
		}
		if n.Link != 0 {
			c.nodes[id] = n
		}
	}
	return c, m.readTables(c)
}

// readTables reads the tables that frontends use. Others are left of an agent that died
// while it wrote: they are read too, so that they are removed.
func (m *directorMaps) readTables(c *content) error {
	for at := range uint32(maxTables) {
		var inner *ebpf.Map
		err := m.Tables.Lookup(at, &inner)
		if errors.Is(err, ebpf.ErrKeyNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("table %d: %w", at, err)
		}
		d, err := readTable(inner)
		_ = inner.Close()
		if err != nil {
			return fmt.Errorf("table %d: %w", at, err)
		}
		if _, twice := c.tables[d]; twice {
			if err := m.Tables.Delete(at); err != nil {
				return fmt.Errorf("table %d: %w", at, err)
			}
			continue
		}
		c.tables[d] = table{at: at}
	}
	return nil
}

func readTable(inner *ebpf.Map) (digest, error) {
	rows := make([]directorSlot, inner.MaxEntries())
	for i := range rows {
		if err := inner.Lookup(uint32(i), &rows[i]); err != nil {
			return digest{}, err
		}
	}
	return digestOf(rows), nil
}

// putFrontends makes the map of frontends, which holds have, hold want.
func (m *directorMaps) putFrontends(have, want map[directorKey]directorFrontend) error {
	if err := replace(m.Frontends, have, want); err != nil {
		return fmt.Errorf("frontends: %w", err)
	}
	return nil
}

// replace makes a map, which holds have, hold want.
func replace[K, V comparable](m *ebpf.Map, have, want map[K]V) error {
	put, gone := changed(have, want)
	for key, value := range put {
		if err := m.Put(key, value); err != nil {
			return fmt.Errorf("write: %w", err)
		}
	}
	for _, key := range gone {
		if err := m.Delete(key); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("delete: %w", err)
		}
	}
	return nil
}

// write makes the maps, which hold have, hold want. What names something is written
// after it, and deleted before it.
func (p *Program) write(have, want *content) error {
	m := p.objects
	nodes, goneNodes := changed(have.nodes, want.nodes)
	macs, goneMACs := changed(have.macs, want.macs)
	for id, n := range nodes {
		if err := p.putNode(id, n, have.nodes[id].Name != n.Name); err != nil {
			return err
		}
	}
	for i := range want.rings {
		if have.rings[i] == want.rings[i] {
			continue
		}
		if err := m.Rings.Put(uint32(i), &want.rings[i]); err != nil {
			return fmt.Errorf("write ring %d: %w", i, err)
		}
	}
	for mac, id := range macs {
		if err := m.Macs.Put(directorMac{Address: mac}, id); err != nil {
			return fmt.Errorf("write a MAC: %w", err)
		}
	}
	if err := replace(m.Peers, have.peers, want.peers); err != nil {
		return fmt.Errorf("addresses of nodes: %w", err)
	}
	if err := p.addTables(have, want); err != nil {
		return err
	}
	if err := p.clearVIPs(have, want); err != nil {
		return err
	}
	if err := replace(m.Ranges, have.ranges, want.ranges); err != nil {
		return fmt.Errorf("ranges of ports: %w", err)
	}
	if err := m.putFrontends(have.frontends, want.frontends); err != nil {
		return err
	}
	return p.remove(have, want, goneMACs, goneNodes)
}

// putNode writes a node. The counters of a number that another node had begin at 0.
func (p *Program) putNode(id uint32, n directorNode, fresh bool) error {
	m := p.objects
	if fresh {
		if err := clearCounts[directorCount](m.Chosen, id); err != nil {
			return err
		}
		if err := clearCounts[uint64](m.Diverted, id); err != nil {
			return err
		}
		for _, index := range []uint32{id, maxNodes + id} { // over IPv4, and IPv6
			if err := m.Paths.Put(index, &directorPath{}); err != nil {
				return fmt.Errorf("forget the way to node %d: %w", id, err)
			}
		}
	}
	if err := m.Nodes.Put(id, &n); err != nil {
		return fmt.Errorf("write node %d: %w", id, err)
	}
	return nil
}

func (p *Program) addTables(have, want *content) error {
	for d, t := range want.tables {
		if _, ok := have.tables[d]; ok {
			continue
		}
		if err := p.addTable(t); err != nil {
			return fmt.Errorf("write a table of %d slots: %w", len(t.slots), err)
		}
	}
	return nil
}

func (p *Program) addTable(t table) error {
	spec := p.inner.Copy()
	spec.MaxEntries = uint32(len(t.slots))
	inner, err := ebpf.NewMap(spec)
	if err != nil {
		return err
	}
	defer func() { _ = inner.Close() }()
	keys := make([]uint32, len(t.slots))
	for i := range keys {
		keys[i] = uint32(i)
	}
	if _, err := inner.BatchUpdate(keys, t.slots, nil); err != nil {
		return err
	}
	return p.objects.Tables.Put(t.at, inner)
}

// clearVIPs has the counters of VIPs that come begin at 0.
func (p *Program) clearVIPs(have, want *content) error {
	for ip, at := range want.vips {
		if _, ok := have.vips[ip]; ok || at == 0 {
			continue
		}
		if err := clearCounts[directorCount](p.objects.Vips, at); err != nil {
			return err
		}
	}
	return nil
}

// remove removes what want does not have.
func (p *Program) remove(have, want *content, macs []MAC, nodes []uint32) error {
	m := p.objects
	for d, t := range have.tables {
		if _, ok := want.tables[d]; ok {
			continue
		}
		if err := m.Tables.Delete(t.at); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("delete table %d: %w", t.at, err)
		}
	}
	for _, mac := range macs {
		if err := m.Macs.Delete(directorMac{Address: mac}); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("delete a MAC: %w", err)
		}
	}
	for _, id := range nodes {
		if err := m.Nodes.Put(id, &directorNode{}); err != nil {
			return fmt.Errorf("delete node %d: %w", id, err)
		}
	}
	return nil
}
