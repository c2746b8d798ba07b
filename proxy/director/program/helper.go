package program

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/internal/owntable"
	"github.com/fairlead/fairlead/proxy/director"
)

// Table is the name of the tables, of the families ip and ip6, by which nftables does its part
// for the program.
const Table = "fairlead-director"

// The priority of a packet that nftables is to look for, as the program writes it. The lower
// half says what nftables does if conntrack does not have the packet's connection.
const (
	asked   = 0xfa1d0000
	dropIt  = 0
	resetIt = 1
	nextOne = 2 // and the number of the node that gets it
)

// The chains of a table that look for connections, their map of nodes and their set of sources.
const (
	chainAsked = "asked"   // what the program asks about
	chainLook  = "look"    // in conntrack
	chainHere  = "here"    // this node has the connection
	chainPass  = "pass-on" // another node may have it
	mapNodes   = "nodes"
	setSources = "sources"
)

// chainClamp lowers what a VIP says that it takes in one segment, after the VIP has become the
// packet's source.
const (
	chainClamp = "clamp"
	setVIPs    = "vips"
	afterNAT   = 150
)

// afterConntrack is before the rules of others, which may change the mark.
const afterConntrack = -199

// sourcesFor is how long a source that is silent is remembered: its tokens are earned again
// long before.
const sourcesFor = 10 * time.Second

// looseFile says whether conntrack takes in a segment of a connection that it has not seen
// begin. Otherwise such a segment cannot be told from one outside of its connection's window.
const looseFile = "/proc/sys/net/netfilter/nf_conntrack_tcp_loose"

// helperVersion is of the rules that a helper is made to. It is raised when they change.
const helperVersion = 2

// sourceBuckets is how many buckets sources share, as in the program.
const sourceBuckets = 16384

// helper is the tables as they are to be.
type helper struct {
	marks   Marks
	seed    director.Seed
	sources Rate
	asked   bool // nftables looks for connections
	hops    map[uint32]directorNode
	content *content
}

// helperFamily is what differs between the two tables.
type helperFamily struct {
	nft    nftables.TableFamily
	proto  uint32
	flag   uint32 // of a node
	kind   nftables.SetDatatype
	saddr  uint32 // offsets in the network header
	daddr  uint32
	source uint32 // bytes of it that name a source
}

var helperFamilies = []helperFamily{
	{nftables.TableFamilyIPv4, unix.NFPROTO_IPV4, familyIPv4, nftables.TypeIPAddr, 12, 16, 4},
	{nftables.TableFamilyIPv6, unix.NFPROTO_IPV6, familyIPv6, nftables.TypeIP6Addr, 8, 24, 8},
}

func (f helperFamily) table() owntable.Table { return owntable.Table{Name: Table, Family: f.nft} }

// removeHelper removes the tables that are there.
func removeHelper() error {
	for _, f := range helperFamilies {
		own := f.table()
		c, err := own.Open()
		if err != nil {
			return err
		}
		none, err := own.Intact(c, nil, "")
		if err == nil && !none {
			err = own.Remove()
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// write makes the kernel hold both tables.
func (h helper) write() error {
	for _, f := range helperFamilies {
		if err := h.writeFamily(f); err != nil {
			return fmt.Errorf("the director's table of nftables: %w", err)
		}
	}
	if !h.asked {
		return nil
	}
	loose, err := os.ReadFile(looseFile)
	if err == nil && strings.TrimSpace(string(loose)) == "0" {
		err = errors.New("it must not be 0")
	}
	if err != nil {
		return fmt.Errorf("net.netfilter.nf_conntrack_tcp_loose, where nftables looks for connections: %w", err)
	}
	return nil
}

func (h helper) writeFamily(f helperFamily) error {
	own := f.table()
	c, err := own.Open()
	if err != nil {
		return err
	}
	list, counts := f.apart(h.content.apart), map[string]int{}
	vips, segment := h.vips(f), h.content.segment(f.flag)
	rules := h.rules(f, list)
	for _, r := range rules {
		counts[r.chain]++
	}
	nodes := h.nodes(f)
	mark := owntable.Mark(fmt.Append(nil, helperVersion, h.marks, h.seed, h.sources, h.asked, nodes, list, vips, segment))
	ours, err := own.Intact(c, counts, mark)
	if err != nil || ours {
		return err
	}
	own.Delete(c)
	if len(rules) == 0 {
		return c.Flush()
	}
	t := c.AddTable(own.Kernel())
	chains := map[string]*nftables.Chain{}
	for _, r := range rules {
		if chains[r.chain] == nil {
			chains[r.chain] = c.AddChain(chainOf(t, r.chain))
		}
	}
	if h.asked {
		err = f.addNodes(c, t, nodes)
	}
	if segment > 0 {
		err = errors.Join(err, addSet(c, &nftables.Set{Table: t, Name: setVIPs, KeyType: f.kind}, vips))
	}
	if err = errors.Join(err, f.addApart(c, t, list)); err != nil {
		return err
	}
	for _, r := range rules {
		c.AddRule(&nftables.Rule{Table: t, Chain: chains[r.chain], Exprs: r.exprs, UserData: []byte(mark)})
	}
	return c.Flush()
}

// chainOf is a chain of the table, which is hooked in if its name says so.
func chainOf(t *nftables.Table, name string) *nftables.Chain {
	ch := &nftables.Chain{Name: name, Table: t}
	switch name {
	case chainAsked:
		ch.Type, ch.Hooknum, ch.Priority = nftables.ChainTypeFilter, nftables.ChainHookPrerouting, nftables.ChainPriorityRef(afterConntrack)
	case chainApart:
		ch.Type, ch.Hooknum, ch.Priority = nftables.ChainTypeNAT, nftables.ChainHookPrerouting, nftables.ChainPriorityRef(beforeEngine)
	case chainClamp:
		ch.Type, ch.Hooknum, ch.Priority = nftables.ChainTypeFilter, nftables.ChainHookPostrouting, nftables.ChainPriorityRef(afterNAT)
	}
	return ch
}

func (f helperFamily) addNodes(c *nftables.Conn, t *nftables.Table, nodes []nftables.SetElement) error {
	return errors.Join(
		addSet(c, &nftables.Set{Table: t, Name: mapNodes, KeyType: nftables.TypeMark, DataType: f.kind, IsMap: true}, nodes),
		addSet(c, &nftables.Set{Table: t, Name: setSources, KeyType: nftables.TypeMark, Dynamic: true, HasTimeout: true, Timeout: sourcesFor, Size: sourceBuckets}, nil),
	)
}

// nodes are the elements of the map: the address of each node that has one of the family, by
// what the program writes as the priority.
func (h helper) nodes(f helperFamily) (out []nftables.SetElement) {
	if !h.asked {
		return nil
	}
	for _, id := range slices.Sorted(maps.Keys(h.hops)) {
		n := h.hops[id]
		if n.Families&f.flag == 0 {
			continue
		}
		to := addrOf(n.Ip)
		if f.flag == familyIPv4 {
			to = netip.AddrFrom4([4]byte(binary.NativeEndian.AppendUint32(nil, n.Ip4)))
		}
		out = append(out, nftables.SetElement{Key: host(asked | nextOne + id), Val: to.AsSlice()})
	}
	return out
}

// helperRule is one rule of a chain.
type helperRule struct {
	chain string
	exprs []expr.Any
}

// rules are those of one table. Each chain is there before a rule goes to it.
func (h helper) rules(f helperFamily, list []apartFrontend) []helperRule {
	var out []helperRule
	if h.asked {
		out = h.lookingRules(f)
	}
	return slices.Concat(out, h.apartRules(f, list), h.clampRules(f))
}

// clampRules have a client send segments that get to nodes of other subnets, whichever node
// it reaches first. Of larger ones it has to be told, and not all networks let that through.
func (h helper) clampRules(f helperFamily) []helperRule {
	segment := h.content.segment(f.flag)
	if segment == 0 {
		return nil
	}
	const maxseg = 2 // the option of TCP
	return []helperRule{{chainClamp, slices.Concat(protocol(unix.IPPROTO_TCP), tcpFlags(flagSYN|flagACK, flagSYN|flagACK), []expr.Any{
		&expr.Payload{DestRegister: unix.NFT_REG32_00, Base: expr.PayloadBaseNetworkHeader, Offset: f.saddr, Len: f.kind.Bytes},
		&expr.Lookup{SourceRegister: unix.NFT_REG32_00, SetName: setVIPs},
		&expr.Immediate{Register: 1, Data: binary.BigEndian.AppendUint16(nil, uint16(segment))},
		&expr.Exthdr{SourceRegister: 1, Type: maxseg, Offset: 2, Len: 2, Op: expr.ExthdrOpTcpopt}, // which never raises it
	})}}
}

// vips are the elements of the set of VIPs of a family, sorted.
func (h helper) vips(f helperFamily) (out []nftables.SetElement) {
	for ip := range h.content.vips {
		if a := addrOf(ip); a.Is4() == (f.flag == familyIPv4) {
			out = append(out, nftables.SetElement{Key: a.AsSlice()})
		}
	}
	slices.SortFunc(out, func(a, b nftables.SetElement) int { return slices.Compare(a.Key, b.Key) })
	return out
}

// lookingRules look for connections. What conntrack takes for invalid is of no connection here, if
// it is an ICMP error. So is a FIN or RST: both open none. Any other segment that is invalid
// is outside of its connection's window, and is left to the rules that drop it.
func (h helper) lookingRules(f helperFamily) (out []helperRule) {
	add := func(chain string, parts ...[]expr.Any) { out = append(out, helperRule{chain, slices.Concat(parts...)}) }
	add(chainAsked, priority(0xffff0000, asked), goTo(chainLook))

	add(chainLook, state(expr.CtStateBitESTABLISHED|expr.CtStateBitRELATED), goTo(chainHere))
	add(chainLook, protocol(unix.IPPROTO_UDP), confirmed(), goTo(chainHere))
	add(chainLook, protocol(unix.IPPROTO_TCP), tcpFlags(flagFIN|flagSYN|flagRST|flagACK, flagSYN), confirmed(), goTo(chainHere))
	add(chainLook, protocol(unix.IPPROTO_TCP), tcpFlags(flagFIN|flagRST, 0), state(expr.CtStateBitINVALID), goTo(chainHere))
	add(chainLook, priority(0xffffffff, asked|dropIt), drop())
	add(chainLook, priority(0xffffffff, asked|resetIt), protocol(unix.IPPROTO_TCP), state(expr.CtStateBitNEW), []expr.Any{&expr.Reject{Type: unix.NFT_REJECT_TCP_RST}})
	add(chainLook, priority(0xffffffff, asked|resetIt), drop())
	add(chainLook, notMarked(h.marks.Serve), goTo(chainPass))
	add(chainLook, h.afforded(f), goTo(chainPass))
	add(chainLook, drop())

	add(chainPass, passOn())
	add(chainPass, drop())

	add(chainHere, []expr.Any{
		&expr.Immediate{Register: 1, Data: host(0)}, &expr.Meta{Key: expr.MetaKeyPRIORITY, SourceRegister: true, Register: 1},
	})
	return out
}

// afforded matches while the source may have one more packet passed on.
func (h helper) afforded(f helperFamily) []expr.Any {
	return []expr.Any{
		&expr.Payload{DestRegister: unix.NFT_REG32_00, Base: expr.PayloadBaseNetworkHeader, Offset: f.saddr, Len: f.source},
		&expr.Hash{
			SourceRegister: unix.NFT_REG32_00, DestRegister: unix.NFT_REG32_04, Length: f.source, Modulus: sourceBuckets, Seed: uint32(h.seed) | 1, Type: expr.HashTypeJenkins,
		},
		&expr.Dynset{
			SrcRegKey: unix.NFT_REG32_04, SetName: setSources, Operation: unix.NFT_DYNSET_OP_UPDATE, Timeout: sourcesFor,
			Exprs: []expr.Any{&expr.Limit{Type: expr.LimitTypePkts, Rate: uint64(h.sources.PerSecond), Unit: expr.LimitTimeSecond, Burst: uint32(h.sources.Burst)}},
		},
	}
}

// passOn sends a copy of the packet to the node that its priority names, by the link that it
// came by.
func passOn() []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyPRIORITY, Register: unix.NFT_REG32_00},
		&expr.Lookup{SourceRegister: unix.NFT_REG32_00, SetName: mapNodes, IsDestRegSet: true, DestRegister: unix.NFT_REG32_00},
		&expr.Meta{Key: expr.MetaKeyIIF, Register: unix.NFT_REG32_04},
		&expr.Dup{RegAddr: unix.NFT_REG32_00, RegDev: unix.NFT_REG32_04, IsRegDevSet: true},
	}
}

// Flags of TCP.
const (
	flagFIN = 0x01
	flagSYN = 0x02
	flagRST = 0x04
	flagACK = 0x10
)

func tcpFlags(mask, want byte) []expr.Any {
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 13, Len: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 1, Mask: []byte{mask}, Xor: []byte{0}}, equal(want),
	}
}

func protocol(number byte) []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1}, equal(number)}
}

func priority(mask, want uint32) []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyPRIORITY, Register: 1}, masked(mask), equal(host(want)...)}
}

func notMarked(bit uint32) []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyMARK, Register: 1}, masked(bit), equal(host(0)...)}
}

// state matches a packet when conntrack says one of bits of it.
func state(bits uint32) []expr.Any {
	return []expr.Any{&expr.Ct{Key: expr.CtKeySTATE, Register: 1}, masked(bits), &expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: host(0)}}
}

// confirmed matches a packet whose connection conntrack has had before it, answered or not.
func confirmed() []expr.Any {
	const ipsConfirmed = 1 << 3 // IPS_CONFIRMED
	return []expr.Any{&expr.Ct{Key: expr.CtKeySTATUS, Register: 1}, masked(ipsConfirmed), &expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: host(0)}}
}

func masked(mask uint32) expr.Any {
	return &expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: host(mask), Xor: host(0)}
}

func equal(data ...byte) expr.Any { return &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: data} }

func drop() []expr.Any { return []expr.Any{&expr.Verdict{Kind: expr.VerdictDrop}} }

func goTo(chain string) []expr.Any {
	return []expr.Any{&expr.Verdict{Kind: expr.VerdictGoto, Chain: chain}}
}

func host(n uint32) []byte { return binary.NativeEndian.AppendUint32(nil, n) }
