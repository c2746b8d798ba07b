package l2

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/mdlayher/arp"
	"github.com/mdlayher/ndp"
	"golang.org/x/net/bpf"

	"github.com/fairlead/fairlead/announcer"
	"github.com/fairlead/fairlead/announcer/watch"
	"github.com/fairlead/fairlead/internal/snapshot"
)

// Nodes tell each other by a frame whom they miss on a link. It goes past every firewall
// for IP, and needs no address.
const (
	etherWord = 0x88b5 // IEEE Std 802's for local experiments
	wordMagic = "fairlead"
	wordForm  = 2 // a later one may append to it
	wordName  = len(wordMagic) + 3
	wordAddrs = 16 // at most, of the speaker
)

// wordGroup is where the nodes hear. Other hosts' links do not take such frames in.
var wordGroup = net.HardwareAddr{0x03, 0xfa, 0x1e, 0xad, 0x00, 0x01}

// wordFrame is a word on a link of this node: the magic, its form, what is said, and the
// name of the node that it is said about, with its length before. Then come the addresses of
// this node on the link, with their number before. Its seals come after it.
//
// The addresses name the link. Without them a host on two links of the same nodes could
// repeat on one what was said on the other, where the nodes have the same MACs on both.
func wordFrame(link snapshot.Link, mac net.HardwareAddr, w watch.Word) ([]byte, error) {
	if len(w.Node) > 255 {
		return nil, fmt.Errorf("name of %d bytes is too long for a word", len(w.Node))
	}
	b := append([]byte(wordMagic), wordForm, byte(w.Say), byte(len(w.Node)))
	b = append(b, w.Node...)
	from := speaksFrom(link)
	b = append(b, byte(len(from)))
	for _, a := range from {
		bytes := a.As16()
		b = append(b, bytes[:]...)
	}
	frame, err := etherFrame(wordGroup, mac, etherWord, b)
	if err != nil {
		return nil, err
	}
	return frame[:etherLen+len(b)], nil // without what pads a short one
}

// speaksFrom returns the first addresses of a link that name it. Every link has link-local
// ones, whatever it is connected with.
func speaksFrom(link snapshot.Link) (from []netip.Addr) {
	for _, p := range link.Prefixes {
		if len(from) < wordAddrs && !p.Addr().IsLinkLocalUnicast() {
			from = append(from, p.Addr())
		}
	}
	return from
}

var errNoWord = errors.New("not a word of this form")

// wordFrom is a word as it came.
type wordFrom struct {
	mac  string       // of who says it, if the seal is right
	from []netip.Addr // of who says it, on the link where it was said
	node string       // that it is said about
	say  watch.Say
	size int // of the frame without what seals it
}

// saidOn reports whether the word was said on link.
func (w wordFrom) saidOn(link snapshot.Link) bool { return slices.ContainsFunc(w.from, link.Contains) }

// parseWord reads such a frame.
func parseWord(frame []byte) (wordFrom, error) {
	if len(frame) < etherLen+wordName || string(frame[etherLen:etherLen+len(wordMagic)]) != wordMagic {
		return wordFrom{}, errNoWord
	}
	b := frame[etherLen+len(wordMagic):]
	say, size := watch.Say(b[1]), int(b[2])
	if b[0] != wordForm || say < watch.Doubts || say > watch.Lost || size == 0 || len(b) < 3+size+1 {
		return wordFrom{}, errNoWord
	}
	node, count, addrs := string(b[3:3+size]), int(b[3+size]), b[3+size+1:]
	if count > wordAddrs || len(addrs) < 16*count {
		return wordFrom{}, errNoWord
	}
	w := wordFrom{mac: net.HardwareAddr(frame[6:12]).String(), node: node, say: say, size: etherLen + wordName + size + 1 + 16*count}
	for ; count > 0; count, addrs = count-1, addrs[16:] {
		w.from = append(w.from, netip.AddrFrom16([16]byte(addrs)).Unmap())
	}
	return w, nil
}

// questionFrame asks the kernel of a node for its own address, by a frame to that node
// alone: so nobody else answers, no proxy either.
func questionFrame(mac net.HardwareAddr, q announcer.Question) ([]byte, error) {
	to, err := net.ParseMAC(q.MAC)
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", q.Node, err)
	}
	if q.To.Is4() {
		return arpFrameTo(to, arp.OperationRequest, mac, q.From, make(net.HardwareAddr, 6), q.To)
	}
	return ndpFrameTo(to, mac, q.From, q.To, &ndp.NeighborSolicitation{
		TargetAddress: q.To,
		Options:       []ndp.Option{&ndp.LinkLayerAddress{Direction: ndp.Source, Addr: mac}},
	})
}

// answerOf returns the address that an ARP reply or a neighbour advertisement is about, and
// the MAC that sent it; false for all else.
func answerOf(frame []byte) (addr netip.Addr, mac string, ok bool) {
	if len(frame) < etherLen+28 {
		return addr, "", false
	}
	mac = net.HardwareAddr(frame[6:12]).String()
	if frame[12] == etherARP>>8 && frame[13] == etherARP&0xff {
		addr, ok = netip.AddrFromSlice(frame[arpSender : arpSender+4])
		return addr, mac, ok
	}
	if len(frame) < ndpTarget+16 {
		return addr, "", false
	}
	addr, ok = netip.AddrFromSlice(frame[ndpTarget : ndpTarget+16])
	return addr, mac, ok
}

// The types of a frame, as a socket filter sees them.
const (
	frameHost, frameMulticast = 0, 2 // what comes after these is not for this node, or its own
	arpOp                     = etherLen + 6
)

// The first four bytes of the groups of switches: IEEE 802.1Q tables 8-1 to 8-3 (spanning
// tree, LLDP, LACP), and those of Cisco's switches.
const (
	bridgeGroups = 0x0180c200
	ciscoGroups  = 0x01000ccc
	vlanID       = 0x0fff // of a tag; a tag with 0 names no VLAN
)

// Filters of the sockets of a watched link: ARP replies to this node, neighbour
// advertisements to it, and the head of what any other host sends.
var (
	replyFilter = []bpf.Instruction{
		bpf.LoadExtension{Num: bpf.ExtType},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: frameHost, SkipTrue: 3},
		bpf.LoadAbsolute{Off: arpOp, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: uint32(arp.OperationReply), SkipTrue: 1},
		bpf.RetConstant{Val: longestFrame},
		bpf.RetConstant{Val: 0},
	}
	advertFilter = []bpf.Instruction{
		bpf.LoadExtension{Num: bpf.ExtType},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: frameHost, SkipTrue: 5},
		bpf.LoadAbsolute{Off: ip6Next, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: protoICMPv6, SkipTrue: 3},
		bpf.LoadAbsolute{Off: icmpType, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: icmpAdvert, SkipTrue: 1},
		bpf.RetConstant{Val: longestFrame},
		bpf.RetConstant{Val: 0},
	}
	wordFilter    = []bpf.Instruction{bpf.RetConstant{Val: longestFrame}}
	witnessFilter = []bpf.Instruction{
		bpf.LoadExtension{Num: bpf.ExtType},
		bpf.JumpIf{Cond: bpf.JumpGreaterThan, Val: frameMulticast, SkipTrue: 6},
		// A frame of a VLAN is on another link. This socket gets it before the kernel says so.
		bpf.LoadExtension{Num: bpf.ExtVLANTag},
		bpf.JumpIf{Cond: bpf.JumpBitsSet, Val: vlanID, SkipTrue: 4},
		// A switch says these to any host that is plugged in, also at a port that forwards nothing.
		bpf.LoadAbsolute{Off: 0, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: bridgeGroups, SkipTrue: 2},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: ciscoGroups, SkipTrue: 1},
		bpf.RetConstant{Val: etherLen},
		bpf.RetConstant{Val: 0},
	}
)
