package nftables

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"strings"
	"time"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// rule is a rule as bytecode and as nft would print it.
type rule struct {
	text  string
	exprs []expr.Any
	// spread are the chains of an anonymous map {0: goto a, 1: goto b, ...}
	// that the lookup named spreadSet in exprs refers to.
	spread []string
}

// spreadSet is what nft calls an anonymous map that the kernel shall name.
const spreadSet = "__map%d"

// part adds one statement or match to a rule.
type part func(f *family, r *rule) string

func (l layout) rule(parts ...part) rule {
	var r rule
	texts := make([]string, len(parts))
	for i, p := range parts {
		texts[i] = p(l.family, &r)
	}
	r.text = strings.Join(texts, " ")
	return r
}

func (r *rule) add(e ...expr.Any) { r.exprs = append(r.exprs, e...) }

// reg0 is the first 4-byte register; the kernel prints it as register 1.
const reg0 = unix.NFT_REG32_00

// selector loads one field of a packet.
type selector uint8

const (
	saddr selector = iota
	daddr
	proto
	dport
	sport
	iif
)

func (s selector) text(f *family) string {
	return [...]string{f.name + " saddr", f.name + " daddr", "meta l4proto", "th dport", "th sport", "iifname"}[s]
}

// load puts the fields into consecutive registers.
func (r *rule) load(f *family, fields []selector) string {
	reg := uint32(reg0)
	texts := make([]string, len(fields))
	for i, s := range fields {
		texts[i] = s.text(f)
		p := &expr.Payload{DestRegister: reg, Base: expr.PayloadBaseNetworkHeader, Len: uint32(f.addrLen)}
		switch s {
		case saddr:
			p.Offset = f.saddr
		case daddr:
			p.Offset = f.daddr
		case dport:
			p.Base, p.Offset, p.Len = expr.PayloadBaseTransportHeader, 2, 2
		case sport:
			p.Base, p.Offset, p.Len = expr.PayloadBaseTransportHeader, 0, 2
		case iif:
			r.add(&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: reg})
			reg += 4
			continue
		case proto:
			r.add(&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: reg})
			reg++
			continue
		}
		r.add(p)
		reg += (p.Len + 3) / 4
	}
	return strings.Join(texts, " . ")
}

func in(set string, fields ...selector) part {
	return func(f *family, r *rule) string {
		text := r.load(f, fields)
		r.add(&expr.Lookup{SourceRegister: reg0, SetName: set})
		return text + " @" + set
	}
}

func notIn(set string, fields ...selector) part {
	return func(f *family, r *rule) string {
		text := r.load(f, fields)
		r.add(&expr.Lookup{SourceRegister: reg0, SetName: set, Invert: true})
		return text + " != @" + set
	}
}

func vmap(set string, fields ...selector) part {
	return func(f *family, r *rule) string {
		text := r.load(f, fields)
		r.add(&expr.Lookup{SourceRegister: reg0, SetName: set, IsDestRegSet: true, DestRegister: unix.NFT_REG_VERDICT})
		return text + " vmap @" + set
	}
}

func dnat(set string, fields ...selector) part {
	return func(f *family, r *rule) string {
		text := r.load(f, fields)
		r.add(&expr.Lookup{SourceRegister: reg0, SetName: set, IsDestRegSet: true, DestRegister: reg0},
			&expr.NAT{Type: expr.NATTypeDestNAT, Family: uint32(f.nf), RegAddrMin: reg0,
				RegProtoMin: reg0 + uint32(f.addrLen)/4})
		return "dnat " + f.name + " to " + text + " map @" + set
	}
}

func update(set string, timeout time.Duration, fields ...selector) part {
	return func(f *family, r *rule) string {
		text := r.load(f, fields)
		r.add(&expr.Dynset{SrcRegKey: reg0, SetName: set, Operation: unix.NFT_DYNSET_OP_UPDATE, Timeout: timeout})
		return fmt.Sprintf("update @%s { %s timeout %s }", set, text, nftDuration(timeout))
	}
}

// nftDuration prints whole seconds as nft does: 1d2h3m4s without zeros.
func nftDuration(d time.Duration) string {
	var b strings.Builder
	for _, unit := range []struct {
		name string
		of   time.Duration
	}{{"d", 24 * time.Hour}, {"h", time.Hour}, {"m", time.Minute}, {"s", time.Second}} {
		if n := d / unit.of; n > 0 {
			fmt.Fprintf(&b, "%d%s", n, unit.name)
			d -= n * unit.of
		}
	}
	return b.String()
}

func spread(chains []string) part {
	return func(_ *family, r *rule) string {
		r.add(&expr.Numgen{Register: reg0, Modulus: uint32(len(chains)), Type: unix.NFT_NG_RANDOM},
			&expr.Lookup{SourceRegister: reg0, SetName: spreadSet, IsDestRegSet: true, DestRegister: unix.NFT_REG_VERDICT})
		r.spread = chains
		texts := make([]string, len(chains))
		for i, c := range chains {
			texts[i] = fmt.Sprintf("%d : goto %s", i, c)
		}
		return fmt.Sprintf("numgen random mod %d vmap { %s }", len(chains), strings.Join(texts, ", "))
	}
}

func verdict(kind expr.VerdictKind, text, chain string) part {
	return func(_ *family, r *rule) string {
		r.add(&expr.Verdict{Kind: kind, Chain: chain})
		return text + chain
	}
}

func goTo(chain string) part { return verdict(expr.VerdictGoto, "goto ", chain) }
func jump(chain string) part { return verdict(expr.VerdictJump, "jump ", chain) }
func drop() part             { return verdict(expr.VerdictDrop, "drop", "") }

// host makes a number as registers hold host values.
func host(n uint32) []byte { return binary.NativeEndian.AppendUint32(nil, n) }

func masked(mask, xor uint32) *expr.Bitwise {
	return &expr.Bitwise{SourceRegister: reg0, DestRegister: reg0, Len: 4, Mask: host(mask), Xor: host(xor)}
}

func compare(op expr.CmpOp, data []byte) *expr.Cmp {
	return &expr.Cmp{Op: op, Register: reg0, Data: data}
}

func ctNew() part     { return ctState(expr.CtStateBitNEW, "new") }
func ctInvalid() part { return ctState(expr.CtStateBitINVALID, "invalid") }

func ctState(bit uint32, name string) part {
	return func(_ *family, r *rule) string {
		r.add(&expr.Ct{Key: expr.CtKeySTATE, Register: reg0}, masked(bit, 0), compare(expr.CmpOpNeq, host(0)))
		return "ct state " + name
	}
}

func ctDNAT() part {
	return func(_ *family, r *rule) string {
		const ipsDstNAT = 1 << 5 // IPS_DST_NAT
		r.add(&expr.Ct{Key: expr.CtKeySTATUS, Register: reg0}, masked(ipsDstNAT, 0), compare(expr.CmpOpNeq, host(0)))
		return "ct status dnat"
	}
}

// sourceIsOurs matches packets with one of the node's own addresses as source.
func sourceIsOurs() part {
	return func(_ *family, r *rule) string {
		r.add(&expr.Fib{Register: reg0, ResultADDRTYPE: true, FlagSADDR: true},
			compare(expr.CmpOpEq, host(unix.RTN_LOCAL)))
		return "fib saddr type local"
	}
}

func setMark(mark uint32) part {
	return func(_ *family, r *rule) string {
		r.add(&expr.Meta{Key: expr.MetaKeyMARK, Register: reg0}, masked(^mark, mark),
			&expr.Meta{Key: expr.MetaKeyMARK, Register: reg0, SourceRegister: true})
		return fmt.Sprintf("meta mark set meta mark | 0x%08x", mark)
	}
}

func marked(mark uint32) part {
	return func(_ *family, r *rule) string {
		r.add(&expr.Meta{Key: expr.MetaKeyMARK, Register: reg0}, masked(mark, 0), compare(expr.CmpOpEq, host(mark)))
		return fmt.Sprintf("meta mark & 0x%08x == 0x%08x", mark, mark)
	}
}

func clearMark(mark uint32) part {
	return func(_ *family, r *rule) string {
		r.add(&expr.Meta{Key: expr.MetaKeyMARK, Register: reg0}, masked(^uint32(0), mark),
			&expr.Meta{Key: expr.MetaKeyMARK, Register: reg0, SourceRegister: true})
		return fmt.Sprintf("meta mark set meta mark ^ 0x%08x", mark)
	}
}

func masquerade() part {
	return func(_ *family, r *rule) string {
		r.add(&expr.Masq{FullyRandom: true})
		return "masquerade fully-random"
	}
}

func (r *rule) protocol(p byte) {
	r.add(&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: reg0}, compare(expr.CmpOpEq, []byte{p}))
}

func rejectTCP() part {
	return func(_ *family, r *rule) string {
		r.protocol(unix.IPPROTO_TCP)
		r.add(&expr.Reject{Type: unix.NFT_REJECT_TCP_RST})
		return "reject with tcp reset"
	}
}

// reject is an ICMP port unreachable, nft's default.
func reject() part {
	return func(f *family, r *rule) string {
		r.add(&expr.Reject{Type: unix.NFT_REJECT_ICMP_UNREACH, Code: f.portUnreach})
		return "reject"
	}
}

func echoRequest() part {
	return func(f *family, r *rule) string {
		r.protocol(f.icmp)
		r.add(&expr.Payload{DestRegister: reg0, Base: expr.PayloadBaseTransportHeader, Len: 1},
			compare(expr.CmpOpEq, []byte{f.echoRequest}))
		return f.icmpName + " type echo-request"
	}
}

// redirect sends to the node itself.
func redirect() part {
	return func(_ *family, r *rule) string {
		r.add(&expr.Redir{})
		return "redirect"
	}
}

// ruleHash is the type of our entry in a rule's user data. nft passes over
// types that it does not know.
const ruleHash = 0x66

// userdata marks a rule with a hash of its text, by which adoption knows it.
func (r *rule) userdata() []byte {
	sum := sha256.Sum256([]byte(r.text))
	return append([]byte{ruleHash, 8}, sum[:8]...)
}
