package netlink

import (
	"encoding/binary"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/internal/snapshot"
	"github.com/fairlead/fairlead/proxy/nftables"
)

// packet is where a family's packets have what rules look at.
type packet struct {
	nfproto      byte
	saddr, daddr uint32 // offsets in the network header
	icmp         byte   // protocol number of ICMP
	echoRequest  byte   // ICMP type
	portUnreach  byte   // ICMP code
}

var (
	packet4 = packet{unix.NFPROTO_IPV4, 12, 16, unix.IPPROTO_ICMP, 8, 3}
	packet6 = packet{unix.NFPROTO_IPV6, 8, 24, unix.IPPROTO_ICMPV6, 128, 4}
)

func packetOf(f *nftables.Family) packet {
	if f.ID == snapshot.IPv6 {
		return packet6
	}
	return packet4
}

func nfproto(f *nftables.Family) byte { return packetOf(f).nfproto }

// The directions of packets: of those of who opened a connection (IP_CT_DIR_ORIGINAL), and
// of the answers (IP_CT_DIR_REPLY).
const (
	directionOriginal = 0
	directionReply    = 1
)

// reg0 is the first 4-byte register; the kernel prints it as register 1.
const reg0 = unix.NFT_REG32_00

// spreadSet is what nft calls an anonymous map that the kernel shall name.
const spreadSet = "__map%d"

// expressions is a statement as bytecode. anonymous is the id of the anonymous map
// that a Spread or a Hash chooses from.
func expressions(f *nftables.Family, s nftables.Statement, anonymous uint32) []expr.Any {
	switch s.Verb {
	case nftables.In, nftables.NotIn, nftables.Vmap, nftables.DNAT, nftables.DNATAddr, nftables.Update:
		return lookup(f, s)
	case nftables.SetMark, nftables.Marked, nftables.NotMarked, nftables.ClearMark:
		return marking(s)
	case nftables.SetField, nftables.CtSetField, nftables.CtMarked, nftables.CtMarkIs:
		return field(s)
	case nftables.Spread:
		return []expr.Any{&expr.Numgen{Register: reg0, Modulus: uint32(len(s.Chains)), Type: unix.NFT_NG_RANDOM}, verdictOf(anonymous)}
	case nftables.Hash:
		// The kernel hashes registers, and wants the result beside them.
		to := reg0 + uint32(f.AddrLen)/4
		choice := verdictOf(anonymous)
		choice.SourceRegister = to
		return append(load(f, []nftables.Selector{nftables.Saddr}), &expr.Hash{SourceRegister: reg0, DestRegister: to, Length: uint32(f.AddrLen),
			Modulus: uint32(len(s.Chains)), Seed: nftables.HashSeed, Type: expr.HashTypeJenkins}, choice)
	case nftables.Goto:
		return []expr.Any{&expr.Verdict{Kind: expr.VerdictGoto, Chain: s.Chains[0]}}
	case nftables.Jump:
		return []expr.Any{&expr.Verdict{Kind: expr.VerdictJump, Chain: s.Chains[0]}}
	}
	return fixed[f][s.Verb]
}

// verdictOf takes the verdict that an anonymous map has for the first register.
func verdictOf(anonymous uint32) *expr.Lookup {
	return &expr.Lookup{SourceRegister: reg0, SetName: spreadSet, SetID: anonymous, IsDestRegSet: true, DestRegister: unix.NFT_REG_VERDICT}
}

// fixed are the statements that depend on the family at most.
var fixed = map[*nftables.Family]map[nftables.Verb][]expr.Any{
	nftables.IP4: fixedOf(packet4),
	nftables.IP6: fixedOf(packet6),
}

func fixedOf(p packet) map[nftables.Verb][]expr.Any {
	const ipsSrcNAT, ipsDstNAT = 1 << 4, 1 << 5 // IPS_SRC_NAT, IPS_DST_NAT
	return map[nftables.Verb][]expr.Any{
		nftables.CtNew:     {&expr.Ct{Key: expr.CtKeySTATE, Register: reg0}, masked(expr.CtStateBitNEW, 0), compare(expr.CmpOpNeq, host(0))},
		nftables.CtInvalid: {&expr.Ct{Key: expr.CtKeySTATE, Register: reg0}, masked(expr.CtStateBitINVALID, 0), compare(expr.CmpOpNeq, host(0))},
		nftables.CtDNAT:    {&expr.Ct{Key: expr.CtKeySTATUS, Register: reg0}, masked(ipsDstNAT, 0), compare(expr.CmpOpNeq, host(0))},
		nftables.CtReply:   {&expr.Ct{Key: expr.CtKeyDIRECTION, Register: reg0}, compare(expr.CmpOpEq, []byte{directionReply})},
		nftables.RouteToSource: {
			&expr.Fib{Register: reg0, ResultOIF: true, FlagSADDR: true, FlagIIF: true, FlagPRESENT: true}, compare(expr.CmpOpEq, host(1)),
		},
		nftables.CtToEndpoint: {
			&expr.Ct{Key: expr.CtKeyDIRECTION, Register: reg0}, compare(expr.CmpOpEq, []byte{directionOriginal}),
			&expr.Ct{Key: expr.CtKeySTATE, Register: reg0}, masked(expr.CtStateBitESTABLISHED, 0), compare(expr.CmpOpNeq, host(0)),
			&expr.Ct{Key: expr.CtKeySTATUS, Register: reg0}, masked(ipsSrcNAT|ipsDstNAT, 0), compare(expr.CmpOpEq, host(ipsDstNAT)),
		},
		nftables.DestinationIsOurs: {&expr.Fib{Register: reg0, ResultADDRTYPE: true, FlagDADDR: true}, compare(expr.CmpOpEq, host(unix.RTN_LOCAL))},
		nftables.RouteMissing:      {&expr.Fib{Register: reg0, ResultOIF: true, FlagDADDR: true, FlagPRESENT: true}, compare(expr.CmpOpEq, host(0))},
		nftables.RouteBack: {
			&expr.Fib{Register: reg0, ResultOIF: true, FlagDADDR: true, FlagIIF: true, FlagPRESENT: true}, compare(expr.CmpOpEq, host(1)),
		},
		// The flags are byte 13 of the segment. ECN's are not among those that count.
		nftables.OpensNothing: append(protocol(unix.IPPROTO_TCP), &expr.Payload{DestRegister: reg0, Base: expr.PayloadBaseTransportHeader, Offset: 13, Len: 1},
			&expr.Bitwise{SourceRegister: reg0, DestRegister: reg0, Len: 1, Mask: []byte{0x17}, Xor: []byte{0}}, compare(expr.CmpOpNeq, []byte{0x02})),
		nftables.SourceIsOurs: {&expr.Fib{Register: reg0, ResultADDRTYPE: true, FlagSADDR: true},
			compare(expr.CmpOpEq, host(unix.RTN_LOCAL))},
		nftables.EchoRequest: append(protocol(p.icmp), &expr.Payload{DestRegister: reg0, Base: expr.PayloadBaseTransportHeader, Len: 1},
			compare(expr.CmpOpEq, []byte{p.echoRequest})),
		nftables.Drop:           {&expr.Verdict{Kind: expr.VerdictDrop}},
		nftables.Accept:         {&expr.Verdict{Kind: expr.VerdictAccept}},
		nftables.Return:         {&expr.Verdict{Kind: expr.VerdictReturn}},
		nftables.Redirect:       {&expr.Redir{}},
		nftables.Masquerade:     {&expr.Masq{FullyRandom: true}},
		nftables.MasqueradeKept: {&expr.Masq{}},
		nftables.RejectTCP:      append(protocol(unix.IPPROTO_TCP), &expr.Reject{Type: unix.NFT_REJECT_TCP_RST}),
		nftables.Reject:         {&expr.Reject{Type: unix.NFT_REJECT_ICMP_UNREACH, Code: p.portUnreach}},
	}
}

// lookup looks for fields in a set, and acts on what it finds.
func lookup(f *nftables.Family, s nftables.Statement) []expr.Any {
	out := load(f, s.Fields)
	switch s.Verb {
	case nftables.In:
		out = append(out, &expr.Lookup{SourceRegister: reg0, SetName: s.Set})
	case nftables.NotIn:
		out = append(out, &expr.Lookup{SourceRegister: reg0, SetName: s.Set, Invert: true})
	case nftables.Vmap:
		out = append(out, &expr.Lookup{SourceRegister: reg0, SetName: s.Set, IsDestRegSet: true, DestRegister: unix.NFT_REG_VERDICT})
	case nftables.DNAT:
		out = append(out, &expr.Lookup{SourceRegister: reg0, SetName: s.Set, IsDestRegSet: true, DestRegister: reg0},
			&expr.NAT{Type: expr.NATTypeDestNAT, Family: uint32(nfproto(f)), RegAddrMin: reg0, RegProtoMin: reg0 + uint32(f.AddrLen)/4})
	case nftables.DNATAddr:
		out = append(out, &expr.Lookup{SourceRegister: reg0, SetName: s.Set, IsDestRegSet: true, DestRegister: reg0},
			&expr.NAT{Type: expr.NATTypeDestNAT, Family: uint32(nfproto(f)), RegAddrMin: reg0})
	case nftables.Update:
		update := &expr.Dynset{SrcRegKey: reg0, SetName: s.Set, Operation: unix.NFT_DYNSET_OP_UPDATE, Timeout: s.Timeout}
		if s.PerDay > 0 {
			update.Exprs = []expr.Any{&expr.Limit{Type: expr.LimitTypePkts, Rate: s.PerDay, Unit: expr.LimitTimeDay, Burst: s.Burst}}
		}
		out = append(out, update)
	}
	return out
}

// load puts fields into consecutive registers.
func load(f *nftables.Family, fields []nftables.Selector) []expr.Any {
	reg := uint32(reg0)
	var out []expr.Any
	for _, s := range fields {
		p := &expr.Payload{DestRegister: reg, Base: expr.PayloadBaseNetworkHeader, Len: uint32(f.AddrLen)}
		switch s {
		case nftables.Saddr:
			p.Offset = packetOf(f).saddr
		case nftables.Daddr:
			p.Offset = packetOf(f).daddr
		case nftables.Dport:
			p.Base, p.Offset, p.Len = expr.PayloadBaseTransportHeader, 2, 2
		case nftables.Sport:
			p.Base, p.Offset, p.Len = expr.PayloadBaseTransportHeader, 0, 2
		case nftables.Iif:
			out = append(out, &expr.Meta{Key: expr.MetaKeyIIFNAME, Register: reg})
			reg += 4
			continue
		case nftables.Proto:
			out = append(out, &expr.Meta{Key: expr.MetaKeyL4PROTO, Register: reg})
			reg++
			continue
		}
		out = append(out, p)
		reg += (p.Len + 3) / 4
	}
	return out
}

// marking matches or changes one bit of the packet's mark.
func marking(s nftables.Statement) []expr.Any {
	out := []expr.Any{&expr.Meta{Key: expr.MetaKeyMARK, Register: reg0}}
	write := &expr.Meta{Key: expr.MetaKeyMARK, Register: reg0, SourceRegister: true}
	switch s.Verb {
	case nftables.SetMark:
		out = append(out, masked(^s.Mark, s.Mark), write)
	case nftables.ClearMark:
		out = append(out, masked(^uint32(0), s.Mark), write)
	case nftables.Marked:
		out = append(out, masked(s.Mark, 0), compare(expr.CmpOpEq, host(s.Mark)))
	case nftables.NotMarked:
		out = append(out, masked(s.Mark, 0), compare(expr.CmpOpEq, host(0)))
	}
	return out
}

// field matches or changes several bits of a mark.
func field(s nftables.Statement) []expr.Any {
	ct := &expr.Ct{Key: expr.CtKeyMARK, Register: reg0}
	switch s.Verb {
	case nftables.SetField:
		return []expr.Any{&expr.Meta{Key: expr.MetaKeyMARK, Register: reg0}, masked(^s.Mask, s.Mark),
			&expr.Meta{Key: expr.MetaKeyMARK, Register: reg0, SourceRegister: true}}
	case nftables.CtSetField:
		return []expr.Any{ct, masked(^s.Mask, s.Mark), &expr.Ct{Key: expr.CtKeyMARK, Register: reg0, SourceRegister: true}}
	case nftables.CtMarked:
		return []expr.Any{ct, masked(s.Mask, 0), compare(expr.CmpOpNeq, host(0))}
	}
	return []expr.Any{ct, masked(s.Mask, 0), compare(expr.CmpOpEq, host(s.Mark))}
}

// host makes a number as registers hold host values.
func host(n uint32) []byte { return binary.NativeEndian.AppendUint32(nil, n) }

func masked(mask, xor uint32) *expr.Bitwise {
	return &expr.Bitwise{SourceRegister: reg0, DestRegister: reg0, Len: 4, Mask: host(mask), Xor: host(xor)}
}

func compare(op expr.CmpOp, data []byte) *expr.Cmp {
	return &expr.Cmp{Op: op, Register: reg0, Data: data}
}

// protocol matches packets of one protocol.
func protocol(p byte) []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: reg0}, compare(expr.CmpOpEq, []byte{p})}
}
