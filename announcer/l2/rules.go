package l2

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// The kernel answers by the table "netdev fairlead". Its chains turn a question
// for an address of its sets into the answer, and send that back on the link that
// the question came in from. Such a chain sees a frame before the network stack
// does, so the address is an address of no link, and for all rules of others a
// packet to it is one that is passed on.
//
//	links  link : MAC, for as long as questions on it are answered
//	arp    link . IPv4 address          ndp  link . IPv6 address
//
// The control plane's program has a table "netdev fairlead-control-plane" of the same
// form: see Owner.
const (
	setLinks = "links"
	setARP   = "vips4"
	setNDP   = "vips6"
	chainARP = "answer-arp"
	chainNDP = "answer-ndp"
)

// Registers of 4 bytes each. A key of link and address needs two or five of them.
const (
	regKey  = unix.NFT_REG32_00
	regAddr = regKey + 1
	regMAC  = unix.NFT_REG32_05 // of the link; two registers
	regTo   = unix.NFT_REG32_07 // the asker's MAC; two
	regFrom = unix.NFT_REG32_09 // the asker's address; four
)

// Offsets in the network header, which follows the Ethernet header.
const (
	arpOperation = 6
	arpSenderMAC = 8
	arpSenderIP  = 14
	arpTargetMAC = 18
	arpTargetIP  = 24

	ip6Length  = 4 // of what follows the header
	ip6NextHop = 6 // next header and hop limit
	ip6Saddr   = 8
	ip6Daddr   = 24
)

// Offsets in the transport header, which is the ICMPv6 message.
const (
	icmp6Type   = 0 // type and code
	icmp6Sum    = 2
	ndpFlags    = 4
	ndpAddr     = 8
	ndpOption   = 24 // type and length of the first option
	ndpOptMAC   = 26
	bareMessage = 24 // length of a message without options
)

// rule is a rule of the table. The kernel keeps text as its comment.
type rule struct {
	chain string
	text  string
	exprs []expr.Any
}

// comment returns what a rule is recognised by: what it does, and a hash over how.
func (r rule) comment() string {
	h := sha256.New()
	for _, e := range r.exprs {
		data, err := expr.Marshal(byte(nftables.TableFamilyNetdev), e)
		if err != nil {
			panic(fmt.Sprintf("rule %q: %v", r.text, err)) // rules are constants
		}
		h.Write(data)
	}
	return fmt.Sprintf("%s (%x)", r.text, h.Sum(nil)[:4])
}

func load(at, size, to uint32) expr.Any {
	return &expr.Payload{DestRegister: to, Base: expr.PayloadBaseNetworkHeader, Offset: at, Len: size}
}

func loadEther(at, size, to uint32) expr.Any {
	return &expr.Payload{DestRegister: to, Base: expr.PayloadBaseLLHeader, Offset: at, Len: size}
}

func store(from, at, size uint32) expr.Any {
	return &expr.Payload{OperationType: expr.PayloadWrite, SourceRegister: from, Base: expr.PayloadBaseNetworkHeader, Offset: at, Len: size}
}

func load6(at, size, to uint32) expr.Any {
	return &expr.Payload{DestRegister: to, Base: expr.PayloadBaseTransportHeader, Offset: at, Len: size}
}

// store6 changes an ICMPv6 message and its checksum. Linux 7.2 and newer change a
// checksum only for a write to the header that has it.
func store6(from, at, size uint32) expr.Any {
	return &expr.Payload{OperationType: expr.PayloadWrite, SourceRegister: from, Base: expr.PayloadBaseTransportHeader, Offset: at, Len: size,
		CsumType: expr.CsumTypeInet, CsumOffset: icmp6Sum}
}

// unsummed6 changes an ICMPv6 message and leaves its checksum.
func unsummed6(from, at, size uint32) expr.Any {
	return &expr.Payload{OperationType: expr.PayloadWrite, SourceRegister: from, Base: expr.PayloadBaseTransportHeader, Offset: at, Len: size}
}

func storeEther(from, at, size uint32) expr.Any {
	return &expr.Payload{OperationType: expr.PayloadWrite, SourceRegister: from, Base: expr.PayloadBaseLLHeader, Offset: at, Len: size}
}

func value(to uint32, data ...byte) expr.Any { return &expr.Immediate{Register: to, Data: data} }

// is matches what was loaded into regKey.
func is(data ...byte) expr.Any { return &expr.Cmp{Op: expr.CmpOpEq, Register: regKey, Data: data} }

func isNot(data ...byte) expr.Any {
	return &expr.Cmp{Op: expr.CmpOpNeq, Register: regKey, Data: data}
}

func host32(n uint32) []byte { return binary.NativeEndian.AppendUint32(nil, n) }

// inSet matches if the link and the address that addr loads into regAddr are in a set.
func inSet(set string, addr expr.Any) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyIIF, Register: regKey}, addr,
		&expr.Lookup{SourceRegister: regKey, SetName: set},
	}
}

// linkMAC loads the MAC that the link answers with. It matches if the link answers.
func linkMAC() []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyIIF, Register: regKey},
		&expr.Lookup{SourceRegister: regKey, SetName: setLinks, IsDestRegSet: true, DestRegister: regMAC},
	}
}

// sendBack sends what the frame became, and ends the question's way.
func sendBack(to uint32) []expr.Any {
	return []expr.Any{
		storeEther(to, 0, 6), storeEther(regMAC, 6, 6),
		&expr.Meta{Key: expr.MetaKeyIIF, Register: regKey},
		&expr.Dup{RegDev: regKey, IsRegDevSet: true},
		&expr.Verdict{Kind: expr.VerdictDrop},
	}
}

// question matches frames of an EtherType to this host or to many. A frame of a
// VLAN has another EtherType there: it is on another link.
func question(kind uint16) []expr.Any {
	const otherHost = 3 // PACKET_OTHERHOST
	proto := binary.BigEndian.AppendUint16(nil, kind)
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyPROTOCOL, Register: regKey}, is(proto...),
		loadEther(12, 2, regKey), is(proto...),
		&expr.Meta{Key: expr.MetaKeyPKTTYPE, Register: regKey}, isNot(otherHost),
	}
}

// linkRules are the rules of a chain that a link's frames come through.
func linkRules(chain string) []rule {
	jump := func(to string) expr.Any { return &expr.Verdict{Kind: expr.VerdictJump, Chain: to} }
	return []rule{
		{chain, "ARP requests", slices.Concat(question(unix.ETH_P_ARP),
			[]expr.Any{load(0, 8, regKey), is(0, 1, 8, 0, 6, 4, 0, 1), jump(chainARP)})},
		{chain, "neighbour solicitations", slices.Concat(question(unix.ETH_P_IPV6),
			[]expr.Any{load(ip6NextHop, 2, regKey), is(protoICMPv6, ndpHopLimit), load6(icmp6Type, 2, regKey), is(icmpSolicit, 0), jump(chainNDP)})},
	}
}

// answerRules are the rules that links share. Each answer is there twice: a
// question may look for a link while the transaction that renews it takes the old
// element out, and the second look finds the new one.
func answerRules() []rule {
	arp := rule{chainARP, "answer", arpAnswer()}
	rules := []rule{
		// A host that asks in the name of the address claims it: RFC 5227 has us defend it,
		// which is the agent's part.
		{chainARP, "a claim", append(inSet(setARP, load(arpSenderIP, 4, regAddr)), &expr.Verdict{Kind: expr.VerdictAccept})},
		arp, arp,
	}
	for _, r := range []rule{
		{chainNDP, "answer who would like to have the address", probeAnswer()},
		{chainNDP, "answer with our MAC in the place of the asker's", ndpAnswer(
			[]expr.Any{load6(ndpOption, 2, regKey), is(1, 1)},
			[]expr.Any{value(regKey, 2, 1), store6(regKey, ndpOption, 2), store6(regMAC, ndpOptMAC, 6)},
			load6(ndpOptMAC, 6, regTo))},
		{chainNDP, "answer hosts that know our MAC", ndpAnswer(
			[]expr.Any{load(ip6Length, 2, regKey), is(0, bareMessage)}, nil, loadEther(6, 6, regTo))},
	} {
		rules = append(rules, r, r)
	}
	return rules
}

// arpAnswer turns a request into the reply.
func arpAnswer() []expr.Any {
	return slices.Concat(inSet(setARP, load(arpTargetIP, 4, regAddr)), linkMAC(), []expr.Any{
		load(arpSenderMAC, 6, regTo), load(arpSenderIP, 4, regFrom), load(arpTargetIP, 4, regAddr),
		store(regTo, arpTargetMAC, 6), store(regFrom, arpTargetIP, 4),
		store(regMAC, arpSenderMAC, 6), store(regAddr, arpSenderIP, 4),
		value(regKey, 0, 2), store(regKey, arpOperation, 2),
	}, sendBack(regTo))
}

// ndpAnswer turns a solicitation that matches into the advertisement (RFC 4861
// section 7.2.4), to the MAC that to loads.
func ndpAnswer(match, option []expr.Any, to expr.Any) []expr.Any {
	return slices.Concat(match, []expr.Any{load(ip6Saddr, 16, regKey), isNot(make([]byte, 16)...)},
		inSet(setNDP, load6(ndpAddr, 16, regAddr)), linkMAC(), []expr.Any{to},
		addresses(load(ip6Saddr, 16, regFrom)), []expr.Any{
			value(regKey, icmpAdvert, 0), store6(regKey, icmp6Type, 2),
			value(regKey, 0x60, 0, 0, 0), store6(regKey, ndpFlags, 4), // solicited, override
		}, option, sendBack(regTo))
}

// addresses gives the answer its addresses: the source is the target, which it loads
// into regAddr, and the destination is what to loads into regFrom. ICMPv6's checksum
// covers them, and store6 cannot write them. Hence the target changes in their place: to
// an address of the question, past the checksum, and then to the one that replaces it.
func addresses(to expr.Any) []expr.Any {
	return []expr.Any{
		load6(ndpAddr, 16, regAddr),
		load(ip6Daddr, 16, regFrom), unsummed6(regFrom, ndpAddr, 16),
		to, store6(regFrom, ndpAddr, 16), store(regFrom, ip6Daddr, 16),
		load(ip6Saddr, 16, regFrom), unsummed6(regFrom, ndpAddr, 16),
		store6(regAddr, ndpAddr, 16), store(regAddr, ip6Saddr, 16),
	}
}

// probeAnswer answers a probe for a duplicate (RFC 4862 section 5.4), which has no
// source, to all nodes.
func probeAnswer() []expr.Any {
	allNodes := []byte{0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1}
	return slices.Concat([]expr.Any{
		load(ip6Saddr, 16, regKey), is(make([]byte, 16)...), load(ip6Daddr, 1, regKey), is(0xff),
	}, inSet(setNDP, load6(ndpAddr, 16, regAddr)), linkMAC(), addresses(value(regFrom, allNodes...)), []expr.Any{
		value(regKey, icmpAdvert, 0), store6(regKey, icmp6Type, 2),
		value(regKey, 0x20, 0, 0, 0), store6(regKey, ndpFlags, 4), // override
		value(regTo, 0x33, 0x33, 0, 0, 0, 1),
	}, sendBack(regTo))
}

// sets returns the sets of a table.
func sets(t *nftables.Table) (links, arp, ndp *nftables.Set) {
	of := func(name string, addr nftables.SetDatatype) *nftables.Set {
		return &nftables.Set{Table: t, Name: name, KeyType: nftables.MustConcatSetType(nftables.TypeIFIndex, addr), Concatenation: true}
	}
	links = &nftables.Set{Table: t, Name: setLinks, KeyType: nftables.TypeIFIndex, KeyByteOrder: binaryutil.NativeEndian,
		DataType: nftables.TypeEtherAddr, IsMap: true, HasTimeout: true}
	return links, of(setARP, nftables.TypeIPAddr), of(setNDP, nftables.TypeIP6Addr)
}
