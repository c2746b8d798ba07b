package l2

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"

	"golang.org/x/net/bpf"
)

// Offsets in an Ethernet frame.
const (
	arpSender  = etherLen + 14
	arpTarget  = etherLen + 24
	ip6Next    = etherLen + 6
	ip6Source  = etherLen + 8
	icmpType   = etherLen + ipv6Len
	ndpTarget  = etherLen + ipv6Len + 8
	lastOfAddr = 12 // the last 32 bits of an IPv6 address
)

// mostSpans bounds the length of a filter: six instructions each, and some
// kernels allow a socket 20 KiB of them.
const mostSpans = 128

// span is a range of addresses, by their last 32 bits.
type span struct{ from, to uint32 }

// spans covers addrs, sorted and disjoint. Neighbours are one span; if there are
// too many, the smallest gaps are covered as well: parse looks at whole addresses.
func spans(addrs []netip.Addr) []span {
	keys := make([]uint32, 0, len(addrs))
	for _, a := range addrs {
		b := a.As16()
		keys = append(keys, binary.BigEndian.Uint32(b[lastOfAddr:]))
	}
	slices.Sort(keys)
	for gap := uint32(1); ; gap *= 2 {
		out := join(keys, gap)
		if len(out) <= mostSpans {
			return out
		}
	}
}

// join makes one span of sorted keys that are no more than gap apart.
func join(keys []uint32, gap uint32) (out []span) {
	for _, k := range keys {
		if n := len(out); n > 0 && k-out[n-1].to <= gap {
			out[n-1].to = k
		} else {
			out = append(out, span{k, k})
		}
	}
	return out
}

// filter is the program by which the kernel chooses what a socket gets: of ARP
// what has a sender in addrs, and probes for one of them; of IPv6 neighbour
// advertisements and probes for one of them. Ordinary requests, which the kernel
// itself answers, are not among them.
func filter(v6 bool, addrs []netip.Addr) ([]bpf.RawInstruction, error) {
	var p []bpf.Instruction
	if v6 {
		p = ndpHead()
	} else {
		p = []bpf.Instruction{
			bpf.LoadAbsolute{Off: arpSender, Size: 4},
			bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: 0, SkipTrue: 1},
			bpf.LoadAbsolute{Off: arpTarget, Size: 4},
		}
	}
	out, err := bpf.Assemble(append(p, within(spans(addrs))...))
	if err != nil {
		return nil, fmt.Errorf("socket filter: %w", err)
	}
	return out, nil
}

// ndpHead passes on the last 32 bits of the target.
func ndpHead() []bpf.Instruction {
	p := []bpf.Instruction{
		bpf.LoadAbsolute{Off: ip6Next, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: protoICMPv6, SkipTrue: 1},
		bpf.RetConstant{Val: 0},
		bpf.LoadAbsolute{Off: icmpType, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: icmpAdvert, SkipTrue: 14},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: icmpSolicit, SkipTrue: 1},
		bpf.RetConstant{Val: 0},
	}
	for part := uint32(0); part < 16; part += 4 { // a probe has no source
		p = append(p,
			bpf.LoadAbsolute{Off: ip6Source + part, Size: 4},
			bpf.JumpIf{Cond: bpf.JumpEqual, Val: 0, SkipTrue: 1},
			bpf.RetConstant{Val: 0},
		)
	}
	return append(p, bpf.LoadAbsolute{Off: ndpTarget + lastOfAddr, Size: 4})
}

// within accepts what is in one of the spans: a binary search.
func within(s []span) []bpf.Instruction {
	switch len(s) {
	case 0:
		return []bpf.Instruction{bpf.RetConstant{Val: 0}}
	case 1:
		return []bpf.Instruction{
			bpf.JumpIf{Cond: bpf.JumpGreaterOrEqual, Val: s[0].from, SkipFalse: 2},
			bpf.JumpIf{Cond: bpf.JumpGreaterThan, Val: s[0].to, SkipTrue: 1},
			bpf.RetConstant{Val: longestFrame},
			bpf.RetConstant{Val: 0},
		}
	}
	// With 100,000 requests a second for other addresses none reaches the agent (make bench
	// WHAT=arp-flood).
	low, high := within(s[:len(s)/2]), within(s[len(s)/2:])
	out := []bpf.Instruction{
		bpf.JumpIf{Cond: bpf.JumpGreaterOrEqual, Val: s[len(s)/2].from, SkipFalse: 1},
		bpf.Jump{Skip: uint32(len(low))},
	}
	return append(append(out, low...), high...)
}
