package members

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/fairlead/fairlead/announcer"
)

// fabric is a network in memory: packets that find no room are lost, and pairs
// of addresses can be cut off from each other.
type fabric struct {
	bytes atomic.Int64 // that were sent, in packets and streams
	mu    sync.RWMutex
	ports map[netip.AddrPort]*port
	group map[netip.AddrPort]int // who is in another group is out of reach
	cuts  map[[2]netip.AddrPort]bool
	dead  map[netip.AddrPort]bool
	agent map[netip.AddrPort]bool // false: the agent is dead, its kernel answers
}

func newFabric() *fabric {
	return &fabric{ports: map[netip.AddrPort]*port{}, group: map[netip.AddrPort]int{}, cuts: map[[2]netip.AddrPort]bool{}, dead: map[netip.AddrPort]bool{}, agent: map[netip.AddrPort]bool{}}
}

// plug attaches a new transport at addr.
func (f *fabric) plug(addr netip.AddrPort) *port {
	f.mu.Lock()
	defer f.mu.Unlock()
	p := &port{f: f, addr: addr, packets: make(chan *memberlist.Packet, 512), streams: make(chan net.Conn, 16), down: make(chan struct{})}
	f.ports[addr], f.agent[addr] = p, true
	return p
}

// power takes the power of a node away, or gives it back.
func (f *fabric) power(addr netip.AddrPort, on bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.dead[addr] = !on
}

// side puts a node on one side of a partition.
func (f *fabric) side(addr netip.AddrPort, group int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.group[addr] = group
}

// cut cuts two nodes from each other, and from nobody else.
func (f *fabric) cut(a, b netip.AddrPort) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.cuts[[2]netip.AddrPort{a, b}], f.cuts[[2]netip.AddrPort{b, a}] = true, true
}

// to returns the port at addr, nil if from cannot reach it.
func (f *fabric) to(from, addr netip.AddrPort) *port {
	f.mu.RLock()
	defer f.mu.RUnlock()
	if f.dead[from] || f.dead[addr] || f.group[from] != f.group[addr] || f.cuts[[2]netip.AddrPort{from, addr}] {
		return nil
	}
	return f.ports[addr]
}

// prober asks the kernels of the fabric.
type prober struct {
	f    *fabric
	from netip.AddrPort
}

func (p prober) Ask(ctx context.Context, addr netip.AddrPort) announcer.Answer {
	if p.f.to(p.from, addr) != nil {
		return announcer.Answered
	}
	select {
	case <-ctx.Done():
	case <-time.After(askFor):
	}
	return announcer.NoAnswer
}

// port is a memberlist.Transport.
type port struct {
	f       *fabric
	addr    netip.AddrPort
	packets chan *memberlist.Packet
	streams chan net.Conn
	down    chan struct{}
	once    sync.Once
}

func (p *port) FinalAdvertiseAddr(string, int) (net.IP, int, error) {
	return p.addr.Addr().AsSlice(), int(p.addr.Port()), nil
}

func (p *port) WriteTo(b []byte, addr string) (time.Time, error) {
	now := time.Now()
	p.f.bytes.Add(int64(len(b)))
	if to := p.f.to(p.addr, netip.MustParseAddrPort(addr)); to != nil {
		select {
		case to.packets <- &memberlist.Packet{Buf: append([]byte(nil), b...), From: net.UDPAddrFromAddrPort(p.addr), Timestamp: now}:
		default:
		}
	}
	return now, nil
}

func (p *port) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	to := p.f.to(p.addr, netip.MustParseAddrPort(addr))
	if to == nil {
		select {
		case <-p.down:
		case <-time.After(timeout):
		}
		return nil, errors.New("no answer")
	}
	select {
	case <-to.down:
		return nil, errors.New("refused")
	default:
	}
	here, there := net.Pipe()
	for _, end := range []net.Conn{here, there} {
		_ = end.SetDeadline(time.Now().Add(timeout)) // a pipe has no buffer: nobody may wait for ever
	}
	select {
	case <-to.down:
		return nil, errors.New("refused")
	case to.streams <- opened{counted{there, p.f}, p.addr}:
		return counted{here, p.f}, nil
	case <-time.After(timeout):
		return nil, errors.New("no answer")
	}
}

// counted is a stream whose bytes the fabric counts.
type counted struct {
	net.Conn
	f *fabric
}

func (c counted) Write(b []byte) (int, error) {
	c.f.bytes.Add(int64(len(b)))
	return c.Conn.Write(b)
}

// opened is the end of a pipe that another address opened.
type opened struct {
	net.Conn
	from netip.AddrPort
}

func (o opened) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(o.from) }

func (p *port) PacketCh() <-chan *memberlist.Packet { return p.packets }
func (p *port) StreamCh() <-chan net.Conn           { return p.streams }
func (p *port) Shutdown() error {
	p.once.Do(func() { close(p.down) })
	return nil
}
