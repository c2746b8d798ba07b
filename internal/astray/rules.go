package astray

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// version is of the rules that a Wants is made to.
const version = 1

// hops is the TTL of what is passed on. What comes with no more is not passed on again, so an
// error is copied once, wherever it comes from. Errors that come from far away have more: most
// hosts begin with 64 or 255.
const hops = 24

// perSecond is how many errors one node passes on: as many copies as there are nodes, each.
const (
	perSecond = 250
	burst     = 250
)

const (
	setVIPs  = "vips"
	setNodes = "nodes"
)

// The chains. chainTake comes before connection tracking, and before the rules of others for
// packets that are not tracked. chainPass comes behind it, and before the engine drops what
// belongs to no connection.
const (
	chainTake    = "take"
	chainRestore = "restore"
	chainPass    = "pass"
	chainOthers  = "others"
)

var chains = []struct {
	name     string
	kind     nftables.ChainType
	hook     *nftables.ChainHook
	priority *nftables.ChainPriority
}{
	{chainTake, nftables.ChainTypeFilter, nftables.ChainHookPrerouting, nftables.ChainPriorityRef(-310)},
	{chainPass, nftables.ChainTypeFilter, nftables.ChainHookPrerouting, nftables.ChainPriorityRef(-112)},
	{chainRestore, "", nil, nil},
	{chainOthers, "", nil, nil},
}

// family is what differs between the two tables. Offsets are in the network header.
type family struct {
	name         string
	nft          nftables.TableFamily
	kind         nftables.SetDatatype
	saddr, daddr uint32
	size         uint32 // of an address
	next         uint32 // where the number of the protocol is
	icmp         byte
	hops         uint32 // where the TTL or hop limit is
	// sum is where the checksum is that covers the addresses: the header's own for IPv4, and
	// for IPv6 that of ICMP, which follows the header.
	sum   uint32
	inner uint32 // where, behind the start of ICMP, an error has the source of the packet that it is about
	// An error's type is most; if below is set, it may be lower. Those that tell a sender what to do are
	// passed on: the destination cannot be reached, or a packet is too big.
	most  byte
	below bool
}

var families = []family{
	{name: "ip", nft: nftables.TableFamilyIPv4, kind: nftables.TypeIPAddr, saddr: 12, daddr: 16, size: 4,
		next: 9, icmp: unix.IPPROTO_ICMP, hops: 8, sum: 10, inner: 20, most: 3},
	{name: "ip6", nft: nftables.TableFamilyIPv6, kind: nftables.TypeIP6Addr, saddr: 8, daddr: 24, size: 16,
		next: 6, icmp: unix.IPPROTO_ICMPV6, hops: 7, sum: 42, inner: 16, most: 2, below: true},
}

func (f family) table() *nftables.Table { return &nftables.Table{Name: Table, Family: f.nft} }

func (f family) set(name string) *nftables.Set {
	return &nftables.Set{Table: f.table(), Name: name, KeyType: f.kind}
}

// rules are the rules of each chain.
func (f family) rules(w Wants) map[string][][]expr.Any {
	others := [][]expr.Any{f.setHops(), f.setAddr(f.saddr, w.Own[0])}
	for _, n := range w.Nodes {
		// The other node's own address leads there through any network. A copy does not pass
		// the rules of this node for what it forwards, where others drop what is not tracked.
		others = append(others, append(f.setAddr(f.daddr, n), &expr.Dup{RegAddr: 1}))
	}
	return map[string][][]expr.Any{
		chainTake: {slices.Concat(f.isError(), f.in(f.saddr, setNodes), f.compareHops(expr.CmpOpLte), local(), verdict(expr.VerdictGoto, chainRestore))},
		chainRestore: {
			f.restore(),
			slices.Concat(f.in(f.daddr, setVIPs), []expr.Any{&expr.Counter{}}, verdict(expr.VerdictAccept, "")),
			// An error about a packet of this node's own is as it was.
			slices.Concat(local(), verdict(expr.VerdictAccept, "")),
			verdict(expr.VerdictDrop, ""),
		},
		chainPass:   {slices.Concat(invalid(), f.isError(), f.in(f.daddr, setVIPs), f.compareHops(expr.CmpOpGt), limit(), verdict(expr.VerdictGoto, chainOthers))},
		chainOthers: append(others, append([]expr.Any{&expr.Counter{}}, verdict(expr.VerdictDrop, "")...)),
	}
}

// count is how many rules each chain has. Without VIPs there is no chain.
func (f family) count(w Wants) map[string]int {
	if len(w.VIPs) == 0 {
		return nil
	}
	out := map[string]int{}
	for name, rules := range f.rules(w) {
		out[name] = len(rules)
	}
	return out
}

func compare(op expr.CmpOp, data ...byte) expr.Any {
	return &expr.Cmp{Op: op, Register: 1, Data: data}
}

func host(n uint32) []byte { return binary.NativeEndian.AppendUint32(nil, n) }

func verdict(kind expr.VerdictKind, chain string) []expr.Any {
	return []expr.Any{&expr.Verdict{Kind: kind, Chain: chain}}
}

// load reads n bytes of the network header.
func load(at, n uint32) expr.Any {
	return &expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: at, Len: n}
}

// store writes n bytes of the network header. The kernel changes the checksum at f.sum by the
// difference, if it covers them.
func (f family) store(at, n uint32, covered bool) expr.Any {
	p := &expr.Payload{OperationType: expr.PayloadWrite, SourceRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: at, Len: n}
	if covered {
		p.CsumType, p.CsumOffset = expr.CsumTypeInet, f.sum
	}
	return p
}

// isError matches ICMP errors right behind a header without extensions.
func (f family) isError() []expr.Any {
	op := expr.CmpOpEq
	if f.below {
		op = expr.CmpOpLte
	}
	return []expr.Any{
		load(f.next, 1), compare(expr.CmpOpEq, f.icmp),
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Len: 1}, compare(op, f.most),
	}
}

func (f family) in(at uint32, set string) []expr.Any {
	return []expr.Any{load(at, f.size), &expr.Lookup{SourceRegister: 1, SetName: set}}
}

func (f family) compareHops(op expr.CmpOp) []expr.Any {
	return []expr.Any{load(f.hops, 1), compare(op, hops)}
}

// setHops writes two bytes, as a checksum is over pairs of them.
func (f family) setHops() []expr.Any {
	at := f.hops &^ 1
	mask, xor := []byte{0xff, 0xff}, []byte{0, 0}
	mask[f.hops-at], xor[f.hops-at] = 0, hops
	return []expr.Any{load(at, 2), &expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 2, Mask: mask, Xor: xor}, f.store(at, 2, f.size == 4)}
}

// setAddr writes an address.
func (f family) setAddr(at uint32, a netip.Addr) []expr.Any {
	return []expr.Any{&expr.Immediate{Register: 1, Data: a.AsSlice()}, f.store(at, f.size, true)}
}

// restore has the error be for the source of the packet that it is about, as it was for when
// it came to the first node.
func (f family) restore() []expr.Any {
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: f.inner, Len: f.size}, f.store(f.daddr, f.size, true),
	}
}

// local matches packets to an address of this node.
func local() []expr.Any {
	return []expr.Any{&expr.Fib{Register: 1, ResultADDRTYPE: true, FlagDADDR: true}, compare(expr.CmpOpEq, host(unix.RTN_LOCAL)...)}
}

// invalid matches what belongs to no connection that the kernel tracks.
func invalid() []expr.Any {
	return []expr.Any{
		&expr.Ct{Key: expr.CtKeySTATE, Register: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: host(expr.CtStateBitINVALID), Xor: host(0)}, compare(expr.CmpOpNeq, host(0)...),
	}
}

func limit() []expr.Any {
	return []expr.Any{&expr.Limit{Type: expr.LimitTypePkts, Rate: perSecond, Burst: burst, Unit: expr.LimitTimeSecond}}
}
