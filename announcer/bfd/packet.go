// Package bfd watches the path to a neighbour by Bidirectional Forwarding
// Detection in asynchronous mode: RFC 5880, over one hop (RFC 5881) or several
// (RFC 5883). It has neither clock nor socket: package udp runs its Sessions.
// Echo, demand mode and authentication are not offered.
package bfd

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"
)

// State is a session's state (RFC 5880 section 4.1).
type State uint8

// The states, as they travel.
const (
	AdminDown State = iota
	Down
	Init
	Up
)

func (s State) String() string { return [...]string{"AdminDown", "Down", "Init", "Up"}[s&3] }

// Diag says why a session left Up last (RFC 5880 section 4.1).
type Diag uint8

// The diagnostics that a Session sets itself.
const (
	NoDiag             Diag = 0
	TimeExpired        Diag = 1 // the detection time passed without a packet
	NeighborDown       Diag = 3 // the neighbour signalled that its session is down
	AdministrativeDown Diag = 7
)

func (d Diag) String() string {
	names := [...]string{
		"no diagnostic", "control detection time expired", "echo function failed", "neighbor signaled session down",
		"forwarding plane reset", "path down", "concatenated path down", "administratively down", "reverse concatenated path down",
	}
	if int(d) < len(names) {
		return names[d]
	}
	return fmt.Sprintf("diagnostic %d", uint8(d))
}

// Packet is a BFD control packet without authentication. Intervals travel in
// microseconds, as 32 bits.
type Packet struct {
	State         State
	Diag          Diag
	Poll          bool
	Final         bool
	Independent   bool // of the control plane: BFD outlasts its restarts
	Demand        bool
	DetectMult    uint8
	My, Your      uint32 // discriminators
	DesiredMinTx  time.Duration
	RequiredMinRx time.Duration
}

// The layout of a control packet (RFC 5880 section 4.1).
const (
	packetLen  = 24
	version    = 1
	bitPoll    = 1 << 5
	bitFinal   = 1 << 4
	bitControl = 1 << 3
	bitAuth    = 1 << 2
	bitDemand  = 1 << 1
	bitMulti   = 1
	maxMicro   = 1<<32 - 1
	maxAllowed = maxMicro * time.Microsecond
)

// Why a packet is discarded (RFC 5880 section 6.8.6).
var (
	errShort         = errors.New("too short, or longer than its datagram")
	errVersion       = errors.New("not BFD version 1")
	errMult          = errors.New("detection multiplier 0")
	errMultipoint    = errors.New("multipoint bit set")
	errDiscriminator = errors.New("no discriminator")
	errAuth          = errors.New("authenticated, which is not configured")
	errPollFinal     = errors.New("poll and final at once")
)

// Decode reads a control packet, and refuses what section 6.8.6 discards
// without looking at a session.
func Decode(b []byte) (Packet, error) {
	if len(b) < packetLen || int(b[3]) < packetLen || int(b[3]) > len(b) {
		return Packet{}, errShort
	}
	p := Packet{
		Diag: Diag(b[0] & 0x1f), State: State(b[1] >> 6), Poll: b[1]&bitPoll != 0, Final: b[1]&bitFinal != 0, Independent: b[1]&bitControl != 0, Demand: b[1]&bitDemand != 0,
		DetectMult: b[2], My: binary.BigEndian.Uint32(b[4:]), Your: binary.BigEndian.Uint32(b[8:]),
		DesiredMinTx: micros(b[12:]), RequiredMinRx: micros(b[16:]),
	}
	switch {
	case b[0]>>5 != version:
		return Packet{}, errVersion
	case b[1]&bitAuth != 0:
		return Packet{}, errAuth
	case b[1]&bitMulti != 0:
		return Packet{}, errMultipoint
	case p.Poll && p.Final:
		return Packet{}, errPollFinal
	case p.DetectMult == 0:
		return Packet{}, errMult
	case p.My == 0, p.Your == 0 && p.State != Down && p.State != AdminDown:
		return Packet{}, errDiscriminator
	}
	return p, nil
}

// Encode returns the 24 bytes of p. Echo is not supported: its interval is 0.
func (p Packet) Encode() []byte {
	b := make([]byte, packetLen)
	b[0] = version<<5 | uint8(p.Diag)&0x1f
	b[1] = uint8(p.State)<<6 | flag(p.Poll, bitPoll) | flag(p.Final, bitFinal) | flag(p.Independent, bitControl) | flag(p.Demand, bitDemand)
	b[2], b[3] = p.DetectMult, packetLen
	binary.BigEndian.PutUint32(b[4:], p.My)
	binary.BigEndian.PutUint32(b[8:], p.Your)
	binary.BigEndian.PutUint32(b[12:], toMicros(p.DesiredMinTx))
	binary.BigEndian.PutUint32(b[16:], toMicros(p.RequiredMinRx))
	return b
}

func flag(set bool, bit uint8) uint8 {
	if set {
		return bit
	}
	return 0
}

func micros(b []byte) time.Duration {
	return time.Duration(binary.BigEndian.Uint32(b)) * time.Microsecond
}

func toMicros(d time.Duration) uint32 {
	return uint32(min(max(d, 0), maxAllowed) / time.Microsecond)
}
