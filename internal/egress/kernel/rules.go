package kernel

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/internal/egress"
)

// Table is the name of the tables, of the families ip and ip6.
const Table = "fairlead-egress"

// The chains, and where they are hooked in. A connection is marked before anybody
// translates its destination, and gets its source before the rules of others that
// masquerade.
const (
	chainMark   = "prerouting"
	chainSource = "postrouting"

	chainLeaving = "leaving"
	chainRefuse  = "refuse"
	chainNAT     = "translate"

	beforeDNAT       = -145
	beforeMasquerade = 95
)

// The sets. Those of ports are in setPorts.
const (
	setOpens  = "opens"  // pods whose new connections count
	setInside = "inside" // destinations that keep their usual way
	setVia    = "via"    // pods whose packets go to another node
	setOwn    = "own"    // pods whose packets get a source here
	mapVIPs   = "vips"   // the source that they get
)

// setPorts are the pods whose connections get a port of p.
func setPorts(p egress.Ports) string { return "ports-" + p.String() }

// The counters, by the comment of their rule.
const (
	countOwn  = "connections that get the address here"
	countVia  = "connections that go to the owner"
	countHeld = "packets that wait for an owner"
)

// family is what differs between the two tables.
type family struct {
	nft          nftables.TableFamily
	proto        uint32
	kind         nftables.SetDatatype
	saddr, daddr uint32 // offsets in the network header
	size         uint32
}

var families = []family{
	{nftables.TableFamilyIPv4, unix.NFPROTO_IPV4, nftables.TypeIPAddr, 12, 16, 4},
	{nftables.TableFamilyIPv6, unix.NFPROTO_IPV6, nftables.TypeIP6Addr, 8, 24, 16},
}

func (f family) table() *nftables.Table { return &nftables.Table{Name: Table, Family: f.nft} }

// sets are all sets of a table, empty.
func (f family) sets() []*nftables.Set {
	t := f.table()
	out := []*nftables.Set{
		{Table: t, Name: setOpens, KeyType: f.kind},
		{Table: t, Name: setInside, KeyType: f.kind, Interval: true},
		{Table: t, Name: setVia, KeyType: f.kind},
		{Table: t, Name: setOwn, KeyType: f.kind},
		{Table: t, Name: mapVIPs, KeyType: f.kind, DataType: f.kind, IsMap: true},
	}
	for _, p := range egress.Ranges {
		out = append(out, &nftables.Set{Table: t, Name: setPorts(p), KeyType: f.kind})
	}
	return out
}

// rule is one rule of a chain. The comment says what it does, for a reader of the rules.
type rule struct {
	chain, comment string
	exprs          []expr.Any
}

// protocols are those with ports. nft loads a rule with a range of ports only if the rule
// names the protocol.
var protocols = []byte{unix.IPPROTO_TCP, unix.IPPROTO_UDP, unix.IPPROTO_SCTP}

// rules are those of one table. bit is the bit of the marks.
func (f family) rules(bit uint32) (out []rule) {
	add := func(chain, comment string, parts ...[]expr.Any) {
		r := rule{chain: chain, comment: comment}
		for _, p := range parts {
			r.exprs = append(r.exprs, p...)
		}
		out = append(out, r)
	}
	counter := []expr.Any{&expr.Counter{}}
	opensOut := slices.Concat(f.in(f.saddr, setOpens, false), f.in(f.daddr, setInside, true), unicast())
	add(chainMark, "a connection out of the cluster opens", state(expr.CtStateBitNEW), opensOut, markConnection(bit))
	add(chainMark, "nobody would translate it", state(expr.CtStateBitINVALID), opensOut, verdict(expr.VerdictDrop))
	// A packet that is not tracked, as those of NDP, has no mark to compare: no rule may
	// match what has none.
	add(chainMark, "a packet of such a connection", connection(bit), goTo(chainLeaving))
	add(chainLeaving, "answers", reply(), verdict(expr.VerdictAccept))
	add(chainLeaving, "it got a source while this node was the owner", f.in(f.saddr, setVia, false), status(statusSourceNAT, statusSourceNAT), goTo(chainRefuse))
	add(chainLeaving, "to the owner", f.in(f.saddr, setVia, false), markPacket(bit), verdict(expr.VerdictAccept))
	add(chainLeaving, "its source is that of another owner", f.in(f.saddr, setOwn, false), status(statusConfirmed|statusSourceNAT, statusConfirmed), goTo(chainRefuse))
	add(chainLeaving, "it opened at another owner", f.in(f.saddr, setOwn, false), state(expr.CtStateBitNEW), opensNothing(), goTo(chainRefuse))
	add(chainLeaving, "this node is the owner", f.in(f.saddr, setOwn, false), verdict(expr.VerdictAccept))
	add(chainLeaving, countHeld, counter, verdict(expr.VerdictDrop))
	add(chainRefuse, "the next attempt finds the owner", state(expr.CtStateBitNEW), opens(), verdict(expr.VerdictDrop))
	add(chainRefuse, "TCP ends", protocol(unix.IPPROTO_TCP), []expr.Any{&expr.Reject{Type: unix.NFT_REJECT_TCP_RST}})
	add(chainRefuse, "the rest waits until the connection is forgotten", verdict(expr.VerdictDrop))
	add(chainSource, "a connection out of the cluster", connection(bit), goTo(chainNAT))
	add(chainNAT, countVia, f.in(f.saddr, setVia, false), counter, f.keepSource())
	for _, p := range egress.Ranges {
		for _, number := range protocols {
			add(chainNAT, countOwn, protocol(number), f.in(f.saddr, setPorts(p), false), counter, f.source(&p))
		}
	}
	add(chainNAT, countOwn, f.in(f.saddr, setOwn, false), counter, f.source(nil))
	return out
}

// version names the rules for one bit, in the comment of each.
func (f family) version(bit uint32) string {
	sum := sha256.New()
	for _, r := range f.rules(bit) {
		fmt.Fprintln(sum, r.chain, r.comment)
		for _, e := range r.exprs {
			fmt.Fprintf(sum, "%T%+v\n", e, e)
		}
	}
	return fmt.Sprintf("%x", sum.Sum(nil)[:4])
}

// userData is a comment as nft keeps it.
func userData(text string) []byte { return append([]byte{0, byte(len(text) + 1)}, text+"\x00"...) }

func host(n uint32) []byte { return binary.NativeEndian.AppendUint32(nil, n) }

func compare(data ...byte) expr.Any { return &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: data} }

func some() expr.Any { return &expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: host(0)} }

// masked leaves the bits mask of the register, and sets those of xor.
func masked(mask, xor uint32) expr.Any {
	return &expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: host(mask), Xor: host(xor)}
}

func verdict(kind expr.VerdictKind) []expr.Any { return []expr.Any{&expr.Verdict{Kind: kind}} }

func goTo(chain string) []expr.Any {
	return []expr.Any{&expr.Verdict{Kind: expr.VerdictGoto, Chain: chain}}
}

// in matches if an address is in a set, or not in it.
func (f family) in(at uint32, set string, not bool) []expr.Any {
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: at, Len: f.size},
		&expr.Lookup{SourceRegister: 1, SetName: set, Invert: not},
	}
}

// The bits of a connection's status: IPS_CONFIRMED, IPS_SRC_NAT. The second is set only if
// the source became another one.
const (
	statusConfirmed = 1 << 3
	statusSourceNAT = 1 << 4
)

func status(mask, want uint32) []expr.Any {
	return []expr.Any{&expr.Ct{Key: expr.CtKeySTATUS, Register: 1}, masked(mask, 0), compare(host(want)...)}
}

func state(bit uint32) []expr.Any {
	return []expr.Any{&expr.Ct{Key: expr.CtKeySTATE, Register: 1}, masked(bit, 0), some()}
}

func reply() []expr.Any {
	return []expr.Any{&expr.Ct{Key: expr.CtKeyDIRECTION, Register: 1}, compare(1)} // IP_CT_DIR_REPLY
}

// connection matches if a connection's mark has bit.
func connection(bit uint32) []expr.Any {
	return []expr.Any{&expr.Ct{Key: expr.CtKeyMARK, Register: 1}, masked(bit, 0), some()}
}

func markConnection(bit uint32) []expr.Any {
	return []expr.Any{&expr.Ct{Key: expr.CtKeyMARK, Register: 1}, masked(^bit, bit), &expr.Ct{Key: expr.CtKeyMARK, Register: 1, SourceRegister: true}}
}

func markPacket(bit uint32) []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyMARK, Register: 1}, masked(^bit, bit), &expr.Meta{Key: expr.MetaKeyMARK, Register: 1, SourceRegister: true}}
}

// unicast matches what the kernel would send to another host: not to itself, nor to a
// group.
func unicast() []expr.Any {
	return []expr.Any{&expr.Fib{Register: 1, ResultADDRTYPE: true, FlagDADDR: true}, compare(host(unix.RTN_UNICAST)...)}
}

func protocol(number byte) []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1}, compare(number)}
}

// tcpFlags loads the flags that say what a segment does.
func tcpFlags() []expr.Any {
	return append(protocol(unix.IPPROTO_TCP), &expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 13, Len: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 1, Mask: []byte{0x17}, Xor: []byte{0}})
}

// opens matches a TCP segment that opens a connection, and opensNothing one that does not.
func opens() []expr.Any { return append(tcpFlags(), compare(0x02)) }

func opensNothing() []expr.Any {
	return append(tcpFlags(), &expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: []byte{0x02}})
}

// keepSource translates the source to itself. No rule after it gives the connection
// another one.
func (f family) keepSource() []expr.Any {
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: f.saddr, Len: f.size},
		&expr.NAT{Type: expr.NATTypeSourceNAT, Family: f.proto, RegAddrMin: 1},
	}
}

// source translates the source to the pod's VIP, with a port of p unless that is nil. The
// port stays if it is one of p and not in use for that destination.
func (f family) source(p *egress.Ports) []expr.Any {
	nat := &expr.NAT{Type: expr.NATTypeSourceNAT, Family: f.proto, RegAddrMin: 1}
	out := []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: f.saddr, Len: f.size},
		&expr.Lookup{SourceRegister: 1, DestRegister: 1, IsDestRegSet: true, SetName: mapVIPs},
	}
	if p != nil {
		out = append(out, &expr.Immediate{Register: 2, Data: binary.BigEndian.AppendUint16(nil, p.First)},
			&expr.Immediate{Register: 3, Data: binary.BigEndian.AppendUint16(nil, p.Last)})
		nat.RegProtoMin, nat.RegProtoMax, nat.Specified = 2, 3, true
	}
	return append(out, nat)
}
