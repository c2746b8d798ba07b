package program

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/cilium/ebpf"
)

// Counters are what the program has counted since its maps were made.
type Counters struct {
	Served   uint64 // left to the stack for an endpoint of this node
	Directed uint64 // passed on to the primary
	Diverted uint64 // passed on because this node does not have the connection
	Reset    uint64 // left to nftables for a reset: nobody has the connection
	Asked    uint64 // left to nftables, which looks for the connection
	Limited  uint64 // dropped: the source had too many diverted
	Dropped  uint64 // dropped at the end of a walk
	Left     uint64 // left to the stack as if they were not directed
	Forged   uint64 // dropped: they have the header of other subnets, and no node sends such
	TooBig   uint64 // dropped: their senders were told that the way to another subnet does not take them
	// Hops are the packets served here by how often they were passed on before.
	// The last is all above 16, which tables that differ do not explain.
	Hops [18]uint64
	// VIPs and Nodes are the packets from outside: for which VIP, and for which node. The
	// address 0.0.0.0 is all VIPs beyond the 4,095th.
	VIPs  map[netip.Addr]Count
	Nodes map[string]Count
	// DivertedTo are the diverted packets, by node.
	DivertedTo map[string]uint64
}

// Count is packets, and how many of them open a TCP connection.
type Count struct{ Packets, Opened uint64 }

// Counters reads the counters. The names of nodes and VIPs are those of s, the State of
// the last Sync.
func (p *Program) Counters(s *State) (*Counters, error) {
	var per []directorCounts
	if err := p.objects.Counters.Lookup(uint32(0), &per); err != nil {
		return nil, fmt.Errorf("read the director's counters: %w", err)
	}
	var sum directorCounts
	for _, c := range per {
		for i, n := range c.Events {
			sum.Events[i] += n
		}
		for i, n := range c.Hops {
			sum.Hops[min(i, len(Counters{}.Hops)-1)] += n
		}
	}
	e := sum.Events
	out := &Counters{
		Served: e[0], Directed: e[1], Diverted: e[2], Reset: e[3], Asked: e[4], Limited: e[5], Dropped: e[6], Left: e[7], Forged: e[8], TooBig: e[9],
		Hops: [18]uint64(sum.Hops[:18]), VIPs: map[netip.Addr]Count{}, Nodes: map[string]Count{}, DivertedTo: map[string]uint64{},
	}
	if p.held == nil {
		return out, nil
	}
	return out, p.readCounts(s, out)
}

func (p *Program) readCounts(s *State, out *Counters) error {
	for ip, at := range p.held.vips {
		c, err := sumCounts(p.objects.Vips, at)
		if err != nil {
			return err
		}
		if at == 0 {
			ip = words(netip.IPv4Unspecified())
		}
		out.VIPs[addrOf(ip)] = c
	}
	names := map[uint64]string{}
	for _, n := range s.Nodes {
		names[nameHash(n.Name)] = n.Name
	}
	for id, n := range p.held.nodes {
		c, err := sumCounts(p.objects.Chosen, id)
		if err != nil {
			return err
		}
		var per []uint64
		if err := p.objects.Diverted.Lookup(id, &per); err != nil {
			return fmt.Errorf("read the director's counters: %w", err)
		}
		name := names[n.Name]
		out.Nodes[name] = c
		for _, n := range per {
			out.DivertedTo[name] += n
		}
	}
	return nil
}

func addrOf(w [4]uint32) netip.Addr {
	var b [16]byte
	for i := range w {
		binary.NativeEndian.PutUint32(b[4*i:], w[i])
	}
	return netip.AddrFrom16(b).Unmap()
}

func sumCounts(m *ebpf.Map, at uint32) (c Count, err error) {
	var per []directorCount
	if err := m.Lookup(at, &per); err != nil {
		return c, fmt.Errorf("read the director's counters: %w", err)
	}
	for _, n := range per {
		c.Packets += n.Packets
		c.Opened += n.Opened
	}
	return c, nil
}

// clearCounts sets a counter to 0 on each processor.
func clearCounts[T any](m *ebpf.Map, at uint32) error {
	cpus, err := ebpf.PossibleCPU()
	if err != nil {
		return err
	}
	if err := m.Put(at, make([]T, cpus)); err != nil {
		return fmt.Errorf("clear a counter of the director: %w", err)
	}
	return nil
}
