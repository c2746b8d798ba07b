// Package gate keeps who may reach the agent's own ports, by an nftables table of ours:
// the other nodes reach the gossip, and routers reach BFD and BGP. What others send is
// dropped before a process wakes for it, and takes no place among the tracked connections.
// Answers pass: masquerading may choose a port of ours as the source of a pod's connection.
package gate

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/internal/owntable"
)

// Table is the name of the table, of family inet.
const Table = "fairlead-ports"

// Wants is who may reach what. Lists are sorted. An empty one means that the port is
// not kept, or for Peers that no router may reach it.
type Wants struct {
	Members  uint16       // the port of the gossip, TCP and UDP
	Nodes    []netip.Addr // who may reach it, at any of these addresses
	BFD      []uint16     // UDP
	Sessions []uint16     // of BGP, TCP
	Peers    []netip.Addr // who may reach these at any address of this node
}

// perSecond is how many packets of gossip one node may send. It sends about a hundred.
const (
	perSecond = 2000
	burst     = 2000
	// rateTimeout is how long a source is remembered.
	rateTimeout = time.Minute
)

// Gate acts on the kernel. It is used by one goroutine.
type Gate struct {
	table owntable.Table
}

// New makes a Gate of the network namespace netns, a file descriptor; 0: the caller's.
func New(netns int) *Gate { return &Gate{owntable.Table{Name: Table, Netns: netns}} }

// Sync makes the kernel hold w, in one transaction. After an error it holds what it held
// before. If it holds w already, nothing is written.
func (g *Gate) Sync(w Wants) error {
	c, err := g.table.Open()
	if err != nil {
		return err
	}
	ours, err := g.table.Intact(c, map[string]int{chain: len(w.rules())}, w.mark())
	if err != nil || ours {
		return err
	}
	g.table.Delete(c)
	t := c.AddTable(g.table.Kernel())
	if err := addSets(c, t, w); err != nil {
		return fmt.Errorf("table inet %s: %w", Table, err)
	}
	accept := nftables.ChainPolicyAccept
	ch := c.AddChain(&nftables.Chain{Name: chain, Table: t, Type: nftables.ChainTypeFilter,
		Hooknum: nftables.ChainHookPrerouting, Priority: nftables.ChainPriorityMangle, Policy: &accept})
	for _, r := range w.rules() {
		c.AddRule(&nftables.Rule{Table: t, Chain: ch, Exprs: r, UserData: []byte(w.mark())})
	}
	if err := c.Flush(); err != nil {
		return fmt.Errorf("table inet %s: %w", Table, err)
	}
	return nil
}

// Cleanup removes the table, if it is there.
func (g *Gate) Cleanup() error { return g.table.Remove() }

const chain = "prerouting"

// version is of the rules that a Wants is made to.
const version = 2

// mark names w.
func (w Wants) mark() string { return owntable.Mark(fmt.Append(nil, version, w)) }

// family is what differs between the two families.
type family struct {
	name         string
	proto        byte
	kind         nftables.SetDatatype
	saddr, daddr uint32 // offsets in the network header
	size         uint32
}

var families = []family{
	{"4", unix.NFPROTO_IPV4, nftables.TypeIPAddr, 12, 16, 4},
	{"6", unix.NFPROTO_IPV6, nftables.TypeIP6Addr, 8, 24, 16},
}

// addSets appends the sets of addresses: nodes, peers, and the rates of nodes.
func addSets(c *nftables.Conn, t *nftables.Table, w Wants) error {
	for _, f := range families {
		for name, addrs := range map[string][]netip.Addr{"nodes": w.Nodes, "peers": w.Peers} {
			var elems []nftables.SetElement
			for _, a := range addrs {
				if a.BitLen() == int(f.size)*8 {
					elems = append(elems, nftables.SetElement{Key: a.AsSlice()})
				}
			}
			s := &nftables.Set{Table: t, Name: name + f.name, KeyType: f.kind}
			if err := c.AddSet(s, nil); err != nil {
				return err
			}
			// A list in one message loses its tail beyond 64 KiB.
			for some := range slices.Chunk(elems, 500) {
				if err := c.SetAddElements(s, some); err != nil {
					return err
				}
			}
		}
		rates := &nftables.Set{Table: t, Name: "rates" + f.name, KeyType: f.kind, Dynamic: true, HasTimeout: true, Timeout: rateTimeout, Size: 4096}
		if err := c.AddSet(rates, nil); err != nil {
			return err
		}
	}
	return nil
}

// rules are the rules in their order.
func (w Wants) rules() [][]expr.Any {
	lo := append([]byte("lo"), make([]byte, 14)...)
	out := [][]expr.Any{{
		&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: 1}, is(lo...), &expr.Verdict{Kind: expr.VerdictAccept},
	}, {
		// "masquerade fully-random" takes one of 64,512 ports: in a lab, one connection of as many to a node
		// port had the gossip's as its source, and no answer of the pod's came to it.
		&expr.Ct{Key: expr.CtKeyDIRECTION, Register: 1}, is(ctReply), &expr.Verdict{Kind: expr.VerdictAccept},
	}}
	for _, f := range families {
		if w.Members != 0 && len(w.Nodes) > 0 {
			for _, proto := range []byte{unix.IPPROTO_TCP, unix.IPPROTO_UDP} {
				to := slices.Concat(f.to(proto, w.Members), f.in(f.daddr, "nodes", false))
				out = append(out, slices.Concat(to, f.in(f.saddr, "nodes", true), drop()))
				if proto == unix.IPPROTO_UDP {
					out = append(out, slices.Concat(to, f.tooFast(), drop()))
				}
			}
		}
		for _, port := range w.BFD {
			out = append(out, slices.Concat(f.to(unix.IPPROTO_UDP, port), local(), f.in(f.saddr, "peers", true), drop()))
		}
		for _, port := range w.Sessions {
			out = append(out, slices.Concat(f.to(unix.IPPROTO_TCP, port), local(), f.in(f.saddr, "peers", true), drop()))
		}
	}
	return out
}

// ctReply is the direction of answers: IP_CT_DIR_REPLY of linux/netfilter/nf_conntrack_tuple_common.h.
const ctReply = 1

func is(data ...byte) expr.Any { return &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: data} }

// to matches packets of the family to a port.
func (f family) to(proto byte, port uint16) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1}, is(f.proto),
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1}, is(proto),
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2}, is(binary.BigEndian.AppendUint16(nil, port)...),
	}
}

// in matches if an address is in a set, or not in it.
func (f family) in(at uint32, set string, not bool) []expr.Any {
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: at, Len: f.size},
		&expr.Lookup{SourceRegister: 1, SetName: set + f.name, Invert: not},
	}
}

// tooFast matches the packets of one source that are more than perSecond.
func (f family) tooFast() []expr.Any {
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: f.saddr, Len: f.size},
		&expr.Dynset{SrcRegKey: 1, SetName: "rates" + f.name, Operation: unix.NFT_DYNSET_OP_UPDATE, Exprs: []expr.Any{
			&expr.Limit{Type: expr.LimitTypePkts, Rate: perSecond, Burst: burst, Unit: expr.LimitTimeSecond, Over: true},
		}},
	}
}

// local matches packets to an address of this node.
func local() []expr.Any {
	return []expr.Any{
		&expr.Fib{Register: 1, ResultADDRTYPE: true, FlagDADDR: true}, is(binary.NativeEndian.AppendUint32(nil, unix.RTN_LOCAL)...),
	}
}

func drop() []expr.Any { return []expr.Any{&expr.Counter{}, &expr.Verdict{Kind: expr.VerdictDrop}} }
