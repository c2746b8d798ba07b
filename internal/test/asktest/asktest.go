// Package asktest asks who answers for addresses on a link, as a host there would, and
// keeps what it hears.
package asktest

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"time"

	"github.com/mdlayher/arp"
	"github.com/mdlayher/ethernet"
	"github.com/mdlayher/ndp"
	"github.com/mdlayher/packet"
)

// Every is the time between two questions for an address.
const Every = 20 * time.Millisecond

// Heard is all that was heard of one address.
type Heard struct {
	Began   time.Time
	Answers []Answer // in their order
	// Said are the announcements that nobody asked for.
	Said []Answer
}

// Answer is a MAC that an address is at, and when that was said.
type Answer struct {
	MAC string
	At  time.Time
}

// asker is one link.
type asker struct {
	mac   net.HardwareAddr
	addrs []netip.Addr
	froms map[bool]netip.Addr // by family: is IPv6
	socks map[bool]*packet.Conn
	heard map[netip.Addr]*Heard
}

// Ask asks for each of addrs every Every until ctx ends, on the link of that name, and
// returns what was heard. It has to be called in the link's network namespace.
func Ask(ctx context.Context, link string, addrs []netip.Addr) (map[netip.Addr]*Heard, error) {
	a, err := open(link, addrs)
	if err != nil {
		return nil, err
	}
	defer a.close()
	for ctx.Err() == nil {
		for _, addr := range addrs {
			if err := a.ask(addr); err != nil {
				return nil, err
			}
		}
		if err := a.listen(time.Now().Add(Every)); err != nil {
			return nil, err
		}
	}
	return a.heard, nil
}

func open(link string, addrs []netip.Addr) (*asker, error) {
	ifi, err := net.InterfaceByName(link)
	if err != nil {
		return nil, fmt.Errorf("link %s: %w", link, err)
	}
	own, err := ifi.Addrs()
	if err != nil {
		return nil, fmt.Errorf("addresses of %s: %w", link, err)
	}
	a := &asker{mac: ifi.HardwareAddr, addrs: addrs, froms: map[bool]netip.Addr{}, socks: map[bool]*packet.Conn{}, heard: map[netip.Addr]*Heard{}}
	for _, text := range own {
		if p, err := netip.ParsePrefix(text.String()); err == nil && !p.Addr().IsLinkLocalUnicast() {
			a.froms[p.Addr().Is6()] = p.Addr()
		}
	}
	for _, addr := range addrs {
		a.heard[addr] = &Heard{Began: time.Now()}
		if a.socks[addr.Is6()] != nil {
			continue
		}
		kind := ethernet.EtherTypeARP
		if addr.Is6() {
			kind = ethernet.EtherTypeIPv6
		}
		if a.socks[addr.Is6()], err = packet.Listen(ifi, packet.Raw, int(kind), nil); err != nil {
			a.close()
			return nil, fmt.Errorf("listen on %s: %w", link, err)
		}
	}
	return a, nil
}

func (a *asker) close() {
	for _, s := range a.socks {
		if s != nil {
			_ = s.Close()
		}
	}
}

// ask sends a question for addr to everybody.
func (a *asker) ask(addr netip.Addr) error {
	frame, err := a.question(addr)
	if err != nil {
		return fmt.Errorf("ask for %s: %w", addr, err)
	}
	if _, err := a.socks[addr.Is6()].WriteTo(frame, &packet.Addr{HardwareAddr: frame[:6]}); err != nil {
		return fmt.Errorf("ask for %s: %w", addr, err)
	}
	return nil
}

func (a *asker) question(addr netip.Addr) ([]byte, error) {
	from := a.froms[addr.Is6()]
	if addr.Is4() {
		p, err := arp.NewPacket(arp.OperationRequest, a.mac, from, make(net.HardwareAddr, 6), addr)
		if err != nil {
			return nil, err
		}
		b, err := p.MarshalBinary()
		if err != nil {
			return nil, err
		}
		return (&ethernet.Frame{Destination: ethernet.Broadcast, Source: a.mac, EtherType: ethernet.EtherTypeARP, Payload: b}).MarshalBinary()
	}
	group, err := ndp.SolicitedNodeMulticast(addr)
	if err != nil {
		return nil, err
	}
	m := &ndp.NeighborSolicitation{TargetAddress: addr, Options: []ndp.Option{&ndp.LinkLayerAddress{Direction: ndp.Source, Addr: a.mac}}}
	body, err := ndp.MarshalMessageChecksum(m, from, group)
	if err != nil {
		return nil, err
	}
	b := []byte{6 << 4, 0, 0, 0, 0, 0, 58, 255}
	binary.BigEndian.PutUint16(b[4:], uint16(len(body)))
	b = append(append(append(b, from.AsSlice()...), group.AsSlice()...), body...)
	to := group.As16()
	mac := net.HardwareAddr{0x33, 0x33, to[12], to[13], to[14], to[15]}
	return (&ethernet.Frame{Destination: mac, Source: a.mac, EtherType: ethernet.EtherTypeIPv6, Payload: b}).MarshalBinary()
}

// listen takes in what comes until then.
func (a *asker) listen(until time.Time) error {
	buf := make([]byte, 1600)
	share := time.Until(until) / time.Duration(len(a.socks))
	for _, s := range a.socks {
		_ = s.SetReadDeadline(time.Now().Add(share))
		for {
			n, _, err := s.ReadFrom(buf)
			if errors.Is(err, os.ErrDeadlineExceeded) {
				break
			}
			if err != nil {
				return fmt.Errorf("listen: %w", err)
			}
			a.note(buf[:n], time.Now())
		}
	}
	return nil
}

// note keeps what a frame says of an address.
func (a *asker) note(frame []byte, now time.Time) {
	var f ethernet.Frame
	if f.UnmarshalBinary(frame) != nil || slices.Equal(f.Source, a.mac) {
		return
	}
	answer := Answer{f.Source.String(), now}
	asked := slices.Equal(f.Destination, a.mac)
	addr := netip.Addr{}
	var p arp.Packet
	switch {
	case f.EtherType == ethernet.EtherTypeARP && p.UnmarshalBinary(f.Payload) == nil:
		addr = p.SenderIP
	case f.EtherType == ethernet.EtherTypeIPv6 && len(f.Payload) >= 64 && f.Payload[6] == 58 && f.Payload[40] == byte(136):
		addr = netip.AddrFrom16([16]byte(f.Payload[48:64]))
	}
	h := a.heard[addr]
	switch {
	case h == nil:
	case asked:
		h.Answers = append(h.Answers, answer)
	default:
		h.Said = append(h.Said, answer)
	}
}

// Silence returns the longest time from Began to end without an answer.
func (h *Heard) Silence(end time.Time) (longest time.Duration) {
	last := h.Began
	for _, a := range h.Answers {
		longest = max(longest, a.At.Sub(last))
		last = a.At
	}
	return max(longest, end.Sub(last))
}

// Doubled returns the longest time in which two hosts answered in turn: each of them at
// least every most.
func (h *Heard) Doubled(most time.Duration) (longest time.Duration) {
	var since time.Time
	last := map[string]time.Time{}
	for _, a := range h.Answers {
		other := false
		for mac, at := range last {
			other = other || mac != a.MAC && a.At.Sub(at) <= most
		}
		last[a.MAC] = a.At
		switch {
		case !other:
			since = time.Time{}
		case since.IsZero():
			since = a.At
		}
		if !since.IsZero() {
			longest = max(longest, a.At.Sub(since))
		}
	}
	return longest
}

// Moves returns the MACs that answered, each after another one did.
func (h *Heard) Moves() (macs []string) {
	for _, a := range h.Answers {
		if len(macs) == 0 || macs[len(macs)-1] != a.MAC {
			macs = append(macs, a.MAC)
		}
	}
	return macs
}
