package l2

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/mdlayher/arp"
	"github.com/mdlayher/ndp"
	"golang.org/x/net/bpf"

	"github.com/fairlead/fairlead/announcer"
	"github.com/fairlead/fairlead/announcer/watch"
)

// Nodes tell each other by a frame whom they miss on a link. It goes past every firewall
// for IP, and needs no address.
const (
	etherWord = 0x88b5 // IEEE Std 802's for local experiments
	wordMagic = "fairlead"
	wordForm  = 1 // a later one may append to it
	wordName  = len(wordMagic) + 3
)

// wordGroup is where the nodes hear. Other hosts' links do not take such frames in.
var wordGroup = net.HardwareAddr{0x03, 0xfa, 0x1e, 0xad, 0x00, 0x01}

// wordFrame is a word: the magic, its form, what is said, and the name of the node of which
// it is said, with its length before. Its seals come after it.
func wordFrame(mac net.HardwareAddr, w watch.Word) ([]byte, error) {
	if len(w.Node) > 255 {
		return nil, fmt.Errorf("name of %d bytes is too long for a word", len(w.Node))
	}
	b := append([]byte(wordMagic), wordForm, byte(w.Say), byte(len(w.Node)))
	frame, err := etherFrame(wordGroup, mac, etherWord, append(b, w.Node...))
	if err != nil {
		return nil, err
	}
	return frame[:etherLen+wordName+len(w.Node)], nil // without what pads a short one
}

var errNoWord = errors.New("not a word of this form")

// wordFrom is a word as it came.
type wordFrom struct {
	mac  string // of who says it, if the seal is right
	node string // of which it is said
	say  watch.Say
	size int // of the frame without what seals it
}

// parseWord reads such a frame.
func parseWord(frame []byte) (wordFrom, error) {
	if len(frame) < etherLen+wordName || string(frame[etherLen:etherLen+len(wordMagic)]) != wordMagic {
		return wordFrom{}, errNoWord
	}
	b := frame[etherLen+len(wordMagic):]
	say, size := watch.Say(b[1]), int(b[2])
	if b[0] != wordForm || say < watch.Doubts || say > watch.Lost || size == 0 || len(b) < 3+size {
		return wordFrom{}, errNoWord
	}
	return wordFrom{net.HardwareAddr(frame[6:12]).String(), string(b[3 : 3+size]), say, etherLen + wordName + size}, nil
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

// Filters of the sockets of a watched link: ARP replies to this node, neighbour
// advertisements to it, and the head of what anybody else sends.
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
		bpf.JumpIf{Cond: bpf.JumpGreaterThan, Val: frameMulticast, SkipTrue: 1},
		bpf.RetConstant{Val: etherLen},
		bpf.RetConstant{Val: 0},
	}
)
